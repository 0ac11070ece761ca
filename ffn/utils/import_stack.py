"""Moved to `ffn.cli.import_stack` (`ffn import-stack`); kept so that `python -m ffn.utils.import_stack` keeps working."""

from ffn.cli.import_stack import main
from ffn.utils.errors import run_tool

__all__ = ['main']

if __name__ == '__main__':
    run_tool(main)
