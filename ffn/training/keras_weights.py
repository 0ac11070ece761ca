"""Moved to `ffn.models.keras_weights`; kept so that `python -m ffn.training.keras_weights` keeps working."""

from ffn.models.keras_weights import main
from ffn.utils.errors import run_tool
from ffn.utils.startup import show_log

__all__ = ['main']

if __name__ == '__main__':
    show_log()
    run_tool(main)
