"""Moved to `ffn.volumes.import_stack`; kept so that `python -m ffn.utils.import_stack` keeps working."""

from ffn.utils.errors import run_tool
from ffn.utils.startup import show_log
from ffn.volumes.import_stack import main

__all__ = ['main']

if __name__ == '__main__':
    show_log()
    run_tool(main)
