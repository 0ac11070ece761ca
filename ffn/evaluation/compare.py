"""Moved to `ffn.cli.compare` (`ffn compare`); kept so that `python -m ffn.evaluation.compare` keeps working."""

from ffn.cli.compare import main
from ffn.utils.errors import run_tool

__all__ = ['main']

if __name__ == '__main__':
    run_tool(main)
