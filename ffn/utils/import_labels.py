"""Moved to `ffn.cli.import_labels` (`ffn import-labels`); kept so that `python -m ffn.utils.import_labels` keeps working."""

from ffn.cli.import_labels import main
from ffn.utils.errors import run_tool

__all__ = ['main']

if __name__ == '__main__':
    run_tool(main)
