"""Moved to `ffn.cli.segment`, the command `ffn segment`; kept so that `python -m ffn.assembly.segment_volume` keeps working."""

from ffn.cli.segment import main
from ffn.utils.errors import run_tool
from ffn.utils.startup import show_log

__all__ = ['main']

if __name__ == '__main__':
    show_log()
    run_tool(main)
