"""`python -m ffn COMMAND` does what `ffn COMMAND` does."""

from ffn.cli.main import run

if __name__ == '__main__':
    run()
