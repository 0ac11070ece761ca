"""Moved to `ffn.cli.select` (`ffn select`); kept so that `python -m ffn.evaluation.select` keeps working."""

from ffn.cli.select import main
from ffn.utils.errors import run_tool

__all__ = ['main']

if __name__ == '__main__':
    run_tool(main)
