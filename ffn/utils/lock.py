"""One command at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from ffn.utils.errors import UserError


@contextlib.contextmanager
def only_one(folder: str | Path) -> Iterator[None]:
    """Keeps a second command out of a folder for as long as the context lasts.

    However the process ends, its lock ends with it. On file systems that know no locks there is a
    warning instead.

    Args:
      folder: made where it is missing.

    Raises:
      UserError: another command works there.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder, '.lock')
    if not path.exists():
        path.touch()
    with path.open() as file:  # for reading, as it may be another user's
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f'another command works in {folder}; wait until it has ended, or stop it'
            ) from error
        except OSError as error:
            logging.warning('%s cannot be locked (%s); start one command in it only', folder, error)
        yield
