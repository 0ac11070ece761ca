"""Moved to `ffn.cli.assemble`, the command `ffn assemble`; kept so that `python -m ffn.assembly.assemble` keeps working."""

from ffn.cli.assemble import main
from ffn.utils.errors import run_tool
from ffn.utils.startup import show_log

__all__ = ['main']

if __name__ == '__main__':
    show_log()
    run_tool(main)
