"""Pillow refuses images above a size that sections often have; here, they may be as large as they are."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from PIL import Image


class _Limit:
    """The limit of the whole process, which several threads may lift at a time."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._limit: int | None = None

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """See `any_size`."""
        with self._lock:
            if not self._users:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    Image.MAX_IMAGE_PIXELS = self._limit


any_size = _Limit().lifted
"""A context in which Pillow opens images of any size; the last thread that leaves it puts the limit back."""
