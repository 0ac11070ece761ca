"""Moved to `ffn.cli.held_out` (`ffn held-out`); kept so that `python -m ffn.evaluation.held_out` keeps working."""

from ffn.cli.held_out import main
from ffn.utils.errors import run_tool

__all__ = ['main']

if __name__ == '__main__':
    run_tool(main)
