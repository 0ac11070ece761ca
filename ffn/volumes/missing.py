"""Chunks that do not exist although the metadata of a volume has a place for them: told, or refused."""

from __future__ import annotations

import threading
from typing import Any, Literal

from absl import logging

from ffn.utils.errors import UnreadableError

OnMissing = Literal['tell', 'error']
"""What is done about chunks that do not exist: a warning, once, or an error."""
ON_MISSING: tuple[OnMissing, ...] = ('tell', 'error')
MISSING_HELP = (
    'chunks that do not exist, of any volume that is read, masks and labels included: tell (read as the fill value, with a '
    'warning) or error'
)

# Volumes whose missing chunks were told in this process; some commands open a volume for every block.
_TOLD: set[str] = set()
_TELLING = threading.Lock()


def tell_once(what: str, message: str) -> None:
    """Warns of chunks that a volume lacks, the first time in this process.

    Args:
      what: the volume.
      message: about it.
    """
    with _TELLING:
        if what not in _TOLD:
            _TOLD.add(what)
            logging.warning('%s: %s', what, message)


class MissingChunks:
    """What a volume does about its chunks that do not exist."""

    def __init__(self, what: str, is_sparse: bool = False):
        """Takes the volume.

        Args:
          what: what messages call it.
          is_sparse: whether it was written here, and empty chunks were left out by intention.
        """
        self._what, self._is_sparse = what, is_sparse
        self._action: OnMissing = 'tell'

    def set_action(self, action: OnMissing) -> None:
        """Sets what is done from now on."""
        self._action = action

    def report(self, missing: int, needed: int, fill: Any) -> None:
        """Tells of missing chunks in a part that is read.

        Args:
          missing: how many do not exist.
          needed: how many the part lies in.
          fill: value that takes their place.

        Raises:
          UnreadableError: they are an error.
        """
        if not missing or self._is_sparse:
            return
        count = f'{missing} of the {needed} chunks that were needed do not exist'
        if self._action == 'error':
            raise UnreadableError(f'{self._what}: {count} (--missing=error)')
        tell_once(self._what, f'{count} and are read as {fill}; further ones are not told')
