"""`python -m ffn.demo` does what `ffn demo` does; its code is in `ffn.cli.demo`."""

from ffn.cli.demo import main
from ffn.utils.errors import run_tool
from ffn.utils.startup import show_log

__all__ = ['main']

if __name__ == '__main__':
    show_log()
    run_tool(main)
