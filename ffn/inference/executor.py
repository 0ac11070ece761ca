"""One network shared by any number of canvases, whose requests run as batches."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ffn.inference.core.counters import Calls, Counters

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]

# A batch is held back no longer than this for canvases that are expected.
LONGEST_HOLD_S = 0.1
# So many canvases go on beside each other: while one of them waits for something else than the interpreter.
TURNS = 2
# A canvas that takes longer than this between two fields of view loses its turn: the next one goes on beside it. The
# leader sees to that; where there is none yet, those whose turn it is not look themselves, ever more rarely while
# they wait for the network.
LONGEST_TURN_S = 0.001
SLEEP_S, LONGEST_SLEEP_S = 0.01, 0.1


class _Job:
    """A field of view on its way through the network."""

    __slots__ = ('answer', 'awake', 'calls', 'error', 'request', 'thread')

    def __init__(self, request: Any, calls: Calls):
        self.request, self.calls = request, calls
        self.answer: np.ndarray | None = None
        self.error: BaseException | None = None
        self.thread = threading.get_ident()
        # Of a thread that waits: held until somebody has news for it. A bare lock, since waking up costs a
        # thread less than with any of the other primitives.
        self.awake: threading.Lock | None = None

    def will_sleep(self) -> threading.Lock:
        self.awake = threading.Lock()
        self.awake.acquire()
        return self.awake

    def wake(self) -> None:
        if self.awake is not None:
            self.awake.release()


class Executor:
    """Runs fields of view of several threads through one network, up to `batch_size` together.

    There is no thread of its own. Whichever canvas finds the network idle leads: it runs the batch
    that waits, and hands the lead to one of those that came meanwhile; the others sleep until their
    field of view is done. A lone canvas therefore calls the network directly.

    After a batch, its canvases take turns, `TURNS` at a time, each when one before asks again: threads share one
    interpreter, and take it from each other in the midst of their work where all of them are awake.

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
        # Held by whoever runs the network.
        self._network = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._busy = False
        # Answered, and waiting for a turn; the threads that have one.
        self._ready: deque[_Job] = deque()
        self._turns: set[int] = set()
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
                self._end_turn(thread)
                self._arrived.notify()

    def ask(self, request: Any, calls: Calls) -> np.ndarray:
        """Runs one field of view; returns when it is done.

        Args:
          request: what `_compute` is given.
          calls: where the call and its share of the network's time are counted.

        Returns:
          What `_compute` makes of it.

        Raises:
          Exception: whatever the network raised, here or for any other canvas.
        """
        alone = len(self._active) < 2 and self._failure is None
        if alone and self._network.acquire(blocking=False):
            return self._ask_alone(request, calls)
        job = _Job(request, calls)
        with self._mutex:
            if self._failure is not None:
                raise self._failure
            self._waiting.append(job)
            if job.thread in self._active:
                self._expected.add(job.thread)
            awake = job.will_sleep() if self._busy else None
            self._busy = True
            self._end_turn(job.thread)
            if self._holding and self._is_full():
                self._arrived.notify()
        if awake is not None:
            self._sleep(job, awake)
        if job.answer is None and job.error is None:
            self._lead(job)
        if job.error is not None:
            raise job.error
        if job.answer is None:
            raise RuntimeError('a thread was woken without a result')
        return job.answer

    def _sleep(self, job: _Job, awake: threading.Lock) -> None:
        """Returns when it is the job's turn to go on or to lead."""
        seconds = SLEEP_S
        try:
            while not awake.acquire(timeout=seconds):
                with self._mutex:
                    if job in self._ready:
                        self._ready.remove(job)
                        self._take_turn(job)
                        return
                seconds = min(2 * seconds, LONGEST_SLEEP_S)
        except BaseException:  # Ctrl-C, in the main thread
            with self._mutex:
                self._abandon(job, awake)
            raise

    def _abandon(self, job: _Job, awake: threading.Lock) -> None:
        """Takes back a job whose thread does not wait for it any more."""
        if job in self._ready:
            self._ready.remove(job)
        elif job in self._waiting:
            self._waiting.remove(job)
            if awake.acquire(blocking=False):  # it was to lead
                self._busy = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].wake()

    def _take_turn(self, job: _Job) -> None:
        if job.thread in self._active:
            self._turns.add(job.thread)

    def _end_turn(self, *threads: int) -> None:
        """Gives the turns that these threads have to the next ones."""
        self._turns.difference_update(threads)
        self._begin_turns()

    def _begin_turns(self) -> None:
        """Wakes the next ones that are answered; those that are not active take no turns."""
        while self._ready and len(self._turns) < TURNS:
            job = self._ready.popleft()
            self._take_turn(job)
            job.wake()

    def _ask_alone(self, request: Any, calls: Calls) -> np.ndarray:
        """Runs one field of view at once; the network is ours."""
        try:
            [answer], elapsed = self._timed([request])
        except Exception as error:
            self._failure = error
            raise
        finally:
            self._network.release()
        calls.add(elapsed)
        return answer

    def _is_full(self) -> bool:
        """Whether the next batch has everybody who is expected and has room in it."""
        return len(self._waiting) >= min(self._batch_size, len(self._expected))

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
            self._ready += [job for job in jobs if job is not own]
            self._take_turn(own)
            self._begin_turns()
            if heir is not None:
                heir.wake()

    def _hold_back(self) -> None:
        """Waits, not for long, for the canvases that are expected and could fill the batch."""
        self._holding = True
        while self._ready and not self._is_full():
            before = tuple(self._turns)
            if not self._arrived.wait_for(self._is_full, LONGEST_TURN_S):
                self._end_turn(*before)
        if not self._arrived.wait_for(self._is_full, min(self._batch_seconds, LONGEST_HOLD_S)):
            self._expected = {job.thread for job in self._waiting} & self._active
        self._holding = False

    def _run(self, jobs: list[_Job]) -> None:
        with self._network:
            answers, elapsed = self._timed([job.request for job in jobs])
        self._batch_seconds = elapsed / 1e9
        for job, answer in zip(jobs, answers, strict=True):
            job.answer = answer
            job.calls.add(elapsed // len(jobs))

    def _timed(self, requests: list[Any]) -> tuple[Sequence[np.ndarray], int]:
        """What `_compute` makes of a batch, and the nanoseconds that it takes."""
        begin = time.perf_counter_ns()
        answers = self._compute(requests)
        return answers, time.perf_counter_ns() - begin

    def _compute(self, requests: list[Any]) -> Sequence[np.ndarray]:
        """Runs a batch of (image, seed), float32 [z, y, x] each; returns their logits."""
        if len(requests) == 1:
            image, seed = map(np.ascontiguousarray, requests[0])
            logits = self._predict(
                image[np.newaxis, ..., np.newaxis], seed[np.newaxis, ..., np.newaxis]
            )
            return [np.asarray(logits, np.float32)[0, ..., 0]]
        images, seeds = self._batch(requests)
        logits = np.asarray(self._predict(images, seeds), np.float32)[..., 0]
        if any(np.may_share_memory(logits, used) for used in (images, seeds)):
            logits = logits.copy()
        return list(logits)

    def _batch(
        self, requests: list[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The fields of view as float32 [b, z, y, x, 1] images and seeds."""
        if self._buffers is None:
            shape = (self._batch_size, *requests[0][0].shape, 1)
            self._buffers = np.empty(shape, np.float32), np.empty(shape, np.float32)
        images, seeds = (buffer[: len(requests)] for buffer in self._buffers)
        for i, (image, seed) in enumerate(requests):
            images[i, ..., 0], seeds[i, ..., 0] = image, seed
        return images, seeds


class Client:
    """The network as one canvas sees it."""

    def __init__(self, executor: Executor, counters: Counters):
        self._executor, self._calls = executor, counters.calls('inference')

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """Runs one field of view; returns when it is done.

        Args:
          image: float32 [z, y, x], normalized.
          seed: float32 [z, y, x] logits.

        Returns:
          float32 [z, y, x] logits, which must not be written to.

        Raises:
          Exception: whatever the network raised, here or for any other canvas.
        """
        return self._executor.ask((image, seed), self._calls)
