"""One network shared by any number of canvases, whose requests run as batches."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ffn.inference.core.counters import Counters

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]

# A batch is held back no longer than this for canvases that are expected.
LONGEST_HOLD_S = 0.1


class _Job:
    """A field of view on its way through the network."""

    __slots__ = ('_awake', 'answer', 'counters', 'error', 'request', 'thread')

    def __init__(self, request: Any, counters: Counters | None):
        self.request, self.counters = request, counters
        self.answer: np.ndarray | None = None
        self.error: BaseException | None = None
        self.thread = threading.get_ident()
        # Held until somebody has news for the thread that waits. A bare lock, since waking up costs
        # a thread less than with any of the other primitives.
        self._awake = threading.Lock()
        self._awake.acquire()

    def sleep(self) -> None:
        self._awake.acquire()

    def wake(self) -> None:
        self._awake.release()


class Executor:
    """Runs fields of view of several threads through one network, up to `batch_size` together.

    There is no thread of its own. Whichever canvas finds the network idle leads: it runs the batch
    that waits, and hands the lead to one of those that came meanwhile; the others sleep until their
    field of view is done. A lone canvas therefore calls the network directly.

    While some of the active canvases are expected back, the batch is held back for them, at most for
    the time that a batch takes. A canvas that does not come in that time (because it computes seeds, say,
    or writes a result) is not expected any more until its next request.
    """

    def __init__(self, predict: Predict, batch_size: int = 1):
        """Makes an executor.

        Args:
          predict: (images, seeds), both float32 [b, z, y, x, 1] → logits, float32 of that shape, in a
            new array at every call. The arguments are only valid during the call.
          batch_size: greatest number of fields of view that run together.
        """
        self._predict = predict
        self._batch_size = batch_size
        self._mutex = threading.Lock()
        self._arrived = threading.Condition(self._mutex)
        self._waiting: deque[_Job] = deque()
        self._busy = False
        self._holding = False
        self._active: set[int] = set()
        self._expected: set[int] = set()
        self._batch_seconds = 0.0
        self._failure: BaseException | None = None
        self._buffers: tuple[np.ndarray, np.ndarray] | None = None

    def client(self, counters: Counters) -> Client:
        """Makes the network that a canvas is given.

        Args:
          counters: of the canvas; its share of the network's time is counted there.
        """
        return Client(self, counters)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Counts the calling thread among those whose requests a batch waits for."""
        thread = threading.get_ident()
        with self._mutex:
            self._active.add(thread)
        try:
            yield
        finally:
            with self._mutex:
                self._active.discard(thread)
                self._expected.discard(thread)
                self._arrived.notify()

    def predict(
        self, image: np.ndarray, seed: np.ndarray, counters: Counters | None = None
    ) -> np.ndarray:
        """Runs one field of view; returns when it is done.

        Args:
          image: float32 [z, y, x], normalized.
          seed: float32 [z, y, x] logits.
          counters: where the call's share of the network's time is counted.

        Returns:
          float32 [z, y, x] logits, which must not be written to.

        Raises:
          Exception: whatever the network raised, here or for any other canvas.
        """
        return self._ask((image, seed), counters)

    def _ask(self, request: Any, counters: Counters | None) -> np.ndarray:
        """Returns what `_compute` makes of a request."""
        job = _Job(request, counters)
        with self._mutex:
            if self._failure is not None:
                raise self._failure
            self._waiting.append(job)
            if job.thread in self._active:
                self._expected.add(job.thread)
            leads = not self._busy
            self._busy = True
            if self._holding and len(self._waiting) >= self._wanted():
                self._arrived.notify()
        if not leads:
            job.sleep()
        if job.answer is None and job.error is None:
            self._lead(job)
        if job.error is not None:
            raise job.error
        if job.answer is None:
            raise RuntimeError('a thread was woken without a result')
        return job.answer

    def _wanted(self) -> int:
        return min(self._batch_size, len(self._expected))

    def _lead(self, own: _Job) -> None:
        """Runs the next batch, which has the leader's own job in it, and passes the lead on."""
        jobs: list[_Job] = []
        try:
            with self._mutex:
                self._hold_back()
                for _ in range(min(self._batch_size, len(self._waiting))):
                    jobs.append(self._waiting.popleft())
            self._run(jobs)
        except BaseException as error:  # noqa: BLE001 - raised in every thread that waits
            with self._mutex:
                # After a keyboard interrupt, a notebook continues with the same executor.
                self._failure = error if isinstance(error, Exception) else None
                jobs += self._waiting
                self._waiting.clear()
                self._holding = False
            for job in jobs:
                job.error = error
        with self._mutex:
            heir = self._waiting[0] if self._waiting else None
            self._busy = heir is not None
        for job in jobs if heir is None else [heir, *jobs]:
            if job is not own:
                job.wake()

    def _hold_back(self) -> None:
        """Waits, not for long, for the canvases that are expected and could fill the batch."""
        deadline = time.monotonic() + min(self._batch_seconds, LONGEST_HOLD_S)
        self._holding = True
        while len(self._waiting) < self._wanted():
            left = deadline - time.monotonic()
            if left <= 0 or not self._arrived.wait(left):
                self._expected = {job.thread for job in self._waiting} & self._active
        self._holding = False

    def _run(self, jobs: list[_Job]) -> None:
        begin = time.perf_counter_ns()
        answers = self._compute([job.request for job in jobs])
        elapsed = time.perf_counter_ns() - begin
        self._batch_seconds = elapsed / 1e9
        for job, answer in zip(jobs, answers, strict=True):
            if job.counters is not None:
                job.counters.count_call('inference', elapsed // len(jobs))
            job.answer = answer

    def _compute(self, requests: list[Any]) -> Sequence[np.ndarray]:
        """Runs a batch of (image, seed), float32 [z, y, x] each; returns their logits."""
        images, seeds = self._batch(requests)
        logits = np.asarray(self._predict(images, seeds), dtype=np.float32)[..., 0]
        if len(requests) > 1 and any(np.may_share_memory(logits, used) for used in (images, seeds)):
            logits = logits.copy()
        return list(logits)

    def _batch(
        self, requests: list[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The fields of view as float32 [b, z, y, x, 1] images and seeds."""
        image, seed = requests[0]
        if len(requests) == 1:
            image, seed = np.ascontiguousarray(image), np.ascontiguousarray(seed)
            return image[np.newaxis, ..., np.newaxis], seed[np.newaxis, ..., np.newaxis]
        if self._buffers is None:
            shape = (self._batch_size, *image.shape, 1)
            self._buffers = np.empty(shape, np.float32), np.empty(shape, np.float32)
        images, seeds = (buffer[: len(requests)] for buffer in self._buffers)
        for i, (image, seed) in enumerate(requests):
            images[i, ..., 0], seeds[i, ..., 0] = image, seed
        return images, seeds


class Client:
    """The network as one canvas sees it."""

    def __init__(self, executor: Executor, counters: Counters):
        self._executor, self._counters = executor, counters

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """See `Executor.predict`."""
        return self._executor.predict(image, seed, self._counters)
