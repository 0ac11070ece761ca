"""What ends a run early."""

from __future__ import annotations

from typing import Any


class Interrupted(Exception):  # noqa: N818 - not a failure
    """The run was asked to stop; its state has been saved.

    Attributes:
      canvas: the `Canvas` as it was saved; None if nothing had begun.
    """

    def __init__(self, message: str, canvas: Any = None):
        super().__init__(message)
        self.canvas = canvas
