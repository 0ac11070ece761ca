"""Moved to `ffn.visualization.show_augmentations`; kept so that `python -m ffn.training.show_augmentations` keeps working."""

from ffn.utils.errors import run_tool
from ffn.utils.startup import show_log
from ffn.visualization.show_augmentations import main

__all__ = ['main']

if __name__ == '__main__':
    show_log()
    run_tool(main)
