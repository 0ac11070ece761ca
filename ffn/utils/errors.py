"""Mistakes of the user, and how every command shows them: one line, exit status 1."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ffn.utils import event_log

# As the shell reports a program that SIGPIPE has ended.
_UNREAD_STATUS = 141


class UserError(ValueError):
    """Input from outside that cannot be worked with.

    The message is one line: what was given, what was expected, what to do.
    """


class UnreadableError(UserError):
    """Data that exists but cannot be read: it is damaged, or its file server does not respond."""


def reason(error: BaseException, length: int = 200) -> str:
    """What an exception says, as part of a line: its first line, and its kind where that says too little."""
    lines = str(error).strip().splitlines()
    text = ' '.join(lines[0].split())[:length] if lines else ''
    if text and not isinstance(error, LookupError | TypeError | AttributeError | RuntimeError):
        return text
    return f'{type(error).__name__} {text}'.rstrip()


def memory_told(error: MemoryError) -> UserError:
    """Lack of memory as the line that tells it."""
    return UserError(
        f'there is not enough memory ({reason(error)}); choose a smaller box, or a machine with more'
    )


@contextlib.contextmanager
def damage_told(what: str | Path, advice: str) -> Iterator[None]:
    """Makes one line of whatever is raised while a file is read and taken apart.

    Libraries raise any exception for a damaged file. Errors of this project, those of the system that name a
    file, and lack of memory pass as they are.

    Args:
      what: the file.
      advice: what to do about it.

    Raises:
      UserError: the file is damaged or of another kind.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise UserError(
            f'{what} is damaged or of another kind ({reason(error)}); {advice}'
        ) from error


def exit_status(call: Callable[[], object]) -> int:
    """Calls a function; a mistake of the user, and lack of memory, are shown as one line.

    Returns:
      Exit status for the shell: 0 also if nobody reads what is still to be printed once the function has ended,
      141 if that has cut it short.
    """
    status = 0
    try:
        call()
    except (UserError, OSError) as error:
        is_unread = isinstance(error, BrokenPipeError) and _stdout_is_unread()
        status = _UNREAD_STATUS if is_unread else _tell(error)
    except MemoryError as error:
        status = _tell(memory_told(error))
    except KeyboardInterrupt:
        event_log.say('interrupted')
        status = 130
    finally:
        failure = _flush_stdout()
    return status or (_tell(failure) if failure else 0)


def _tell(error: object) -> int:
    """Shows an error as one line; returns its exit status."""
    event_log.say('error: ' + ' '.join(str(error).split()), 'ERROR')
    return 1


def _stdout_is_unread() -> bool:
    """Whether standard output is a pipe that nobody reads any more, as after `| head`."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # there is none, or it is no file
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _flush_stdout() -> OSError | None:
    """Writes out what was printed, since what fails later is not told in one line.

    Returns:
      Why it cannot be written; None also where nobody reads it any more.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # What is left is dropped: Python would try again when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return None if isinstance(error, BrokenPipeError) else error
    return None


def run_tool(main: Callable[[Sequence[str] | None], object]) -> None:
    """Runs the `main(argv)` of a subcommand and exits.

    Args:
      main: parses argv (None: that of the process) and does the work.
    """
    sys.exit(exit_status(lambda: main(None)))


def run_script(main: Callable[[], object]) -> None:
    """Parses absl flags, runs `main()` and exits: the last line of the four scripts.

    Args:
      main: function without arguments that reads FLAGS and calls the library.
    """
    from absl import app

    def checked(argv: Sequence[str]) -> int:
        def call() -> None:
            if len(argv) > 1:
                raise UserError(
                    f'unexpected argument {argv[1]!r}: everything is given as --flag=value'
                )
            main()

        return exit_status(call)

    app.run(checked)
