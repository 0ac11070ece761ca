"""Moved to `ffn.cli.animate` (`ffn animate`); kept so that `python -m ffn.visualization.animate` keeps working."""

from ffn.cli.animate import main
from ffn.utils.errors import run_tool

__all__ = ['main']

if __name__ == '__main__':
    run_tool(main)
