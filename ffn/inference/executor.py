"""One network shared by any number of canvases, whose requests run as batches."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from ffn.inference.counters import Counters

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]


class _Job:
    """A field of view on its way through the network."""

    def __init__(self, image: np.ndarray, seed: np.ndarray, counters: Counters | None):
        self.image, self.seed, self.counters = image, seed, counters
        self.logits: np.ndarray | None = None
        self.error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.logits is not None or self.error is not None


class Executor:
    """Runs fields of view of several threads through one network, up to `batch_size` together.

    There is no thread of its own: whichever canvas finds the network idle runs the batch that
    waits, its own field of view among it or not, and the others sleep until theirs is done. A lone
    canvas therefore calls the network directly. When fewer than a batch wait while more canvases
    are active, the batch is held back for a small part of the time that a batch takes, since those
    that the last batch served are about to return.
    """

    def __init__(self, predict: Predict, batch_size: int = 1):
        """Makes an executor.

        Args:
          predict: (images, seeds), both float32 [b, z, y, x, 1] → logits float32 of that shape.
          batch_size: fields of view that run together at the most.
        """
        self._predict = predict
        self._batch_size = batch_size
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._busy = False
        self._clients = 0
        self._batch_seconds = 0.0
        self._failure: BaseException | None = None

    def client(self, counters: Counters) -> Client:
        """Makes the network that a canvas is given.

        Args:
          counters: of the canvas; its share of the network's time is counted there.
        """
        return Client(self, counters)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Counts the caller among those whose requests are worth waiting for."""
        with self._changed:
            self._clients += 1
        try:
            yield
        finally:
            with self._changed:
                self._clients -= 1
                self._changed.notify_all()

    def predict(
        self, image: np.ndarray, seed: np.ndarray, counters: Counters | None = None
    ) -> np.ndarray:
        """Runs one field of view; returns when it is done.

        Args:
          image: float32 [z, y, x], normalised.
          seed: float32 [z, y, x] logits.
          counters: where the call's share of the network's time is counted.

        Returns:
          float32 [z, y, x] logits, the caller's own.

        Raises:
          Exception: whatever the network raised, here or for any other canvas.
        """
        job = _Job(image, seed, counters)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()
        while True:
            with self._changed:
                while self._busy and not job.done:
                    self._changed.wait()
                if self._failure is not None:
                    raise self._failure
                if job.logits is not None:
                    return job.logits
                self._busy = True
                self._hold_back()
                jobs = [
                    self._waiting.popleft()
                    for _ in range(min(self._batch_size, len(self._waiting)))
                ]
            try:
                self._run(jobs)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _hold_back(self) -> None:
        """Waits, not for long, for the active canvases that could still fill the batch."""
        deadline = time.monotonic() + 0.1 * self._batch_seconds
        while len(self._waiting) < min(self._batch_size, self._clients):
            left = deadline - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                break

    def _run(self, jobs: list[_Job]) -> None:
        begin = time.perf_counter_ns()
        try:
            images = np.stack([job.image for job in jobs])[..., np.newaxis]
            seeds = np.stack([job.seed for job in jobs])[..., np.newaxis]
            logits = np.array(self._predict(images, seeds), dtype=np.float32)[..., 0]
        except BaseException as error:
            # Whoever waits, now or later, gets the same error instead of waiting for ever.
            self._failure = error
            raise
        elapsed = time.perf_counter_ns() - begin
        self._batch_seconds = elapsed / 1e9
        for job, result in zip(jobs, logits, strict=True):
            if job.counters is not None:
                job.counters.count_call('inference', elapsed // len(jobs))
            job.logits = result


class Client:
    """The network as one canvas sees it."""

    def __init__(self, executor: Executor, counters: Counters):
        self._executor, self._counters = executor, counters

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """See `Executor.predict`."""
        return self._executor.predict(image, seed, self._counters)
