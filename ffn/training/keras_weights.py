"""Moved to `ffn convert-weights`; kept so that `python -m ffn.training.keras_weights` keeps working."""

from ffn.cli.convert_weights import main
from ffn.utils.errors import run_tool

__all__ = ['main']

if __name__ == '__main__':
    run_tool(main)
