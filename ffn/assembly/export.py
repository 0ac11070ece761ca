"""Moved to `ffn.cli.export`, the command `ffn export`; kept so that `python -m ffn.assembly.export` keeps working."""

from ffn.cli.export import main
from ffn.utils.errors import run_tool
from ffn.utils.startup import show_log

__all__ = ['main']

if __name__ == '__main__':
    show_log()
    run_tool(main)
