"""Something expensive that the tasks of a process share, such as a network on its GPU.

A factory is sent to the processes that run tasks; each of them calls it once, when the first task
needs the object, and closes the object at the end. See `ffn.distributed.pool.Pool.share`.
"""

from __future__ import annotations

import threading
from typing import Protocol, TypeVar


class SharedObject(Protocol):
    """What a factory makes; used by several threads concurrently."""

    @property
    def stop(self) -> threading.Event:
        """Once it is set, tasks save what they have and raise the factory's `interruption`."""

    def close(self) -> None:
        """Releases what the object holds; no task uses it any more."""


T_co = TypeVar('T_co', bound=SharedObject, covariant=True)


class SharedFactory(Protocol[T_co]):
    """Makes a shared object; can be pickled."""

    @property
    def threads(self) -> int:
        """Tasks that use the object at a time, where they run in this process."""

    @property
    def interruption(self) -> type[Exception]:
        """Exception that tasks raise when they end early because `stop` is set."""

    def open(self) -> T_co:
        """Makes the object.

        Raises:
          UserError: what it is made from does not fit.
        """
