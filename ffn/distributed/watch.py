"""Looking after the workers of other machines while a command waits for what they do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from absl import logging

from ffn.utils.errors import UserError, reason
from ffn.utils.progress import FIRST_LINE_S

if TYPE_CHECKING:
    from distributed import Client

Result = TypeVar('Result')

# Between two looks; how long a scheduler may take to answer, and the end of the context to wait for the last look.
POLL_S, ANSWER_S, LAST_LOOK_S = 2.0, 30.0, 1.0


@contextlib.contextmanager
def watched(client: Client, look: Callable[[], str]) -> Iterator[None]:
    """Looks after workers as long as the context lasts.

    That there are none is told after a minute, and then ever more rarely: jobs may wait in a queue for days.

    Args:
      client: connected to their scheduler.
      look: called every few seconds; returns why there may be no workers.

    Raises:
      UserError: `look` did, as no worker will come. The client is closed then, which ends all waiting for results.
    """
    ended, given_up = threading.Event(), list[UserError]()

    def watch() -> None:
        attempt, waiting, why = _Attempts(ended), _Waiting(), ''
        while not ended.wait(POLL_S):
            try:
                why = attempt(look) or why
            except UserError as error:
                given_up.append(error)
                client.close()
                return
            workers = attempt(lambda: len(client.nthreads(callback_timeout=ANSWER_S)))
            if workers is not None:
                waiting.tell(workers, why)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    except (Exception, asyncio.CancelledError):
        if given_up:
            raise given_up[0] from None
        raise
    finally:
        ended.set()
        thread.join(LAST_LOOK_S)  # it may be waiting for a scheduler that does not answer


class _Attempts:
    """Does what may fail and succeed later, such as asking a scheduler that is busy; tells each failure once."""

    def __init__(self, ended: threading.Event):
        self._ended, self._told = ended, set[str]()

    def __call__(self, step: Callable[[], Result]) -> Result | None:
        try:
            return step()
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - each is told
            if (why := reason(error)) not in self._told and not self._ended.is_set():
                self._told.add(why)
                logging.info('workers cannot be looked after: %s', why)
            return None


class _Waiting:
    """Tells how long there has been no worker."""

    def __init__(self) -> None:
        self._since, self._next = time.monotonic(), FIRST_LINE_S

    def tell(self, workers: int, why: str) -> None:
        now = time.monotonic()
        if workers:
            self._since, self._next = now, FIRST_LINE_S
        elif (waited := now - self._since) >= self._next:
            self._next *= 2
            logging.info(
                'no worker has been connected for %.0f min%s', waited / 60, why and f': {why}'
            )
