"""Moved to `ffn.cli.serve`, the command `ffn serve`; kept so that `python -m ffn.visualization.serve` keeps working."""

from ffn.cli.serve import main
from ffn.utils.errors import run_tool
from ffn.utils.startup import show_log

__all__ = ['main']

if __name__ == '__main__':
    show_log()
    run_tool(main)
