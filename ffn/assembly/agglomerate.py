"""Moved to `ffn.cli.agglomerate` (`ffn agglomerate`); kept so that `python -m ffn.assembly.agglomerate` keeps working."""

from ffn.cli.agglomerate import main
from ffn.utils.errors import run_tool
from ffn.utils.startup import show_log

__all__ = ['main']

if __name__ == '__main__':
    show_log()
    run_tool(main)
