"""Moved to `ffn augmentations`; kept so that `python -m ffn.training.show_augmentations` keeps working."""

from ffn.cli.augmentations import main
from ffn.utils.errors import run_tool

__all__ = ['main']

if __name__ == '__main__':
    run_tool(main)
