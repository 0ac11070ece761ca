"""`python -m ffn.synthetic` does what `ffn synthetic` does; its code is in `ffn.cli.synthetic`."""

from ffn.cli.synthetic import main
from ffn.utils.errors import run_tool
from ffn.utils.startup import show_log

__all__ = ['main']

if __name__ == '__main__':
    show_log()
    run_tool(main)
