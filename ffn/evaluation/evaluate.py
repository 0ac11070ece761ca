"""Moved to `ffn.cli.evaluate` (`ffn evaluate`); kept so that `python -m ffn.evaluation.evaluate` keeps working."""

from ffn.cli.evaluate import main
from ffn.utils.errors import run_tool

__all__ = ['main']

if __name__ == '__main__':
    run_tool(main)
