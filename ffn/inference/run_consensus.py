"""Moved to `ffn.cli.consensus` (`ffn consensus`); kept so that `python -m ffn.inference.run_consensus` keeps working."""

from ffn.cli.consensus import main
from ffn.utils.errors import run_tool
from ffn.utils.startup import show_log

__all__ = ['main']

if __name__ == '__main__':
    show_log()
    run_tool(main)
