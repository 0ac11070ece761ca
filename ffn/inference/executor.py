"""One network shared by any number of canvases, whose questions run as batches."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

from ffn.inference.core.counters import Calls, Counters
from ffn.inference.core.protocols import Flood, Network, T
from ffn.utils.geometry import Zyx

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]

# A batch is held back no longer than this for canvases that are expected.
LONGEST_HOLD_S = 0.1


class _Job:
    """A flood on its way, and what it asks or is told."""

    __slots__ = (
        'answer',
        'awake',
        'calls',
        'context',
        'ended',
        'error',
        'flood',
        'question',
        'result',
        'thread',
    )

    def __init__(self, flood: Flood[Any], calls: Calls):
        self.flood, self.calls = flood, calls
        self.question: Any = None
        self.answer: np.ndarray | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = False
        # Whose flood it is: it goes on there as in its own thread.
        self.thread, self.context = threading.get_ident(), contextvars.copy_context()
        # Held until there is news for the thread that waits. A bare lock, since waking up costs a thread less
        # than with any of the other primitives.
        self.awake = threading.Lock()
        self.awake.acquire()


class _Batch(NamedTuple):
    """Some of the floods, and what they ask as `_compute` takes it."""

    jobs: Sequence[_Job]
    questions: Any


class Executor:
    """Runs floods of several threads, whose questions go through one network, up to `batch_size` together.

    Whichever thread finds nobody leading leads: it goes on with all floods, one after the other, and runs what they
    ask as batches, until its own has ended; then one of those that sleep until their floods have ended leads. From
    one step to the next, no canvas' thread waits for another: threads of one interpreter take it from each other where
    all of them are awake, and wake each other slowly. Where more floods ask than a batch holds, by half of one or
    more, the leader goes on with some of them while a thread beside it runs the network for others.

    While some of the active threads are expected back with another flood, the batch is held back for them, at most
    for the time that a batch takes. A thread that does not come in that time (because it computes seeds, say,
    or writes a result) is not expected any more until its next flood.
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
        self._news = threading.Condition(self._mutex)
        self._led = False
        # Floods that nobody has gone on with yet; the leader's, that ask, and that are being or have been answered.
        self._arrived: deque[_Job] = deque()
        self._asking: deque[_Job] = deque()
        self._answered: deque[_Job] = deque()
        self._loaded: _Batch | None = None
        self._beside = futures.ThreadPoolExecutor(1, 'network')
        self._active: set[int] = set()
        self._expected: set[int] = set()
        self._batch_seconds = 0.0
        self._failure: BaseException | None = None
        # Images and seeds of a batch, and of the one that is loaded beside it.
        self._arrays: deque[tuple[np.ndarray, np.ndarray]] = deque()

    def client(self, counters: Counters) -> Client:
        """Makes the network that a canvas is given.

        Args:
          counters: of the canvas; its share of the network's time is counted there.
        """
        return Client(self, counters)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Counts the calling thread among those whose floods a batch waits for."""
        thread = threading.get_ident()
        with self._mutex:
            self._active.add(thread)
        try:
            yield
        finally:
            with self._mutex:
                self._active.discard(thread)
                self._expected.discard(thread)
                self._news.notify()

    def run(self, flood: Flood[T], calls: Calls) -> T:
        """Answers what a flood asks until it ends; other threads may go on with it meanwhile.

        Args:
          flood: see `ffn.inference.core.protocols.Flood`.
          calls: where the calls of the network and its share of their time are counted.

        Returns:
          What the flood returns.

        Raises:
          Exception: whatever the flood raised, or the network, here or for any other flood.
        """
        job = _Job(flood, calls)
        with self._mutex:
            if self._failure is not None:
                raise self._failure
            self._arrived.append(job)
            if job.thread in self._active:
                self._expected.add(job.thread)
            leads, self._led = not self._led, True
            self._news.notify()
        if not leads:
            self._sleep(job)
        if not job.ended:
            self._lead(job)
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def _sleep(self, job: _Job) -> None:
        """Returns when the job has ended, or is to lead."""
        try:
            job.awake.acquire()
        except BaseException as error:  # Ctrl-C, in the main thread
            with self._mutex:
                if not job.ended:
                    job.error = error
                    if job.awake.acquire(blocking=False):  # it was to lead
                        self._lead_on()
            raise

    def _lead(self, own: _Job) -> None:
        """Goes on with all floods until its own has ended."""
        try:
            while not own.ended:
                self._take_in()
                self._make_batch()
        except BaseException as error:  # noqa: BLE001 - raised in every thread that waits
            self._fail(own, error)
        with self._mutex:
            self._lead_on()

    def _make_batch(self) -> None:
        """Runs a batch; meanwhile goes on with those whose answers the one before has left, and loads the next."""
        left = len(self._answered)
        batch, self._loaded = self._loaded or self._load(), None
        self._answered += batch.jobs
        if left:
            self._make_beside(batch, left)
        else:
            self._answer(batch)
        # What asks already, if it is half a batch or more, does not wait until those of this batch ask again.
        if self._loaded is None and 2 * len(self._asking) < self._batch_size:
            while self._answered:
                self._go_on(self._answered.popleft())

    def _make_beside(self, batch: _Batch, left: int) -> None:
        """Runs a batch in another thread; goes on with those that are left meanwhile, and loads what they ask."""
        running = self._beside.submit(self._answer, batch)
        try:
            for _ in range(left):
                self._go_on(self._answered.popleft())
            if 2 * len(self._asking) >= self._batch_size:
                self._arrays.rotate()
                self._loaded = self._load()
        finally:
            running.result()

    def _load(self) -> _Batch:
        """Makes a batch of what asks."""
        jobs = [self._asking.popleft() for _ in range(min(self._batch_size, len(self._asking)))]
        return _Batch(jobs, self._put_together([job.question for job in jobs]))

    def _answer(self, batch: _Batch) -> None:
        """Runs a batch, unless it is empty."""
        if not batch.jobs:
            return
        begin = time.perf_counter_ns()
        answers = self._compute(batch.questions)
        elapsed = time.perf_counter_ns() - begin
        self._batch_seconds = elapsed / 1e9
        for job, answer in zip(batch.jobs, answers, strict=True):
            job.answer = answer
            job.calls.add(elapsed // len(batch.jobs))

    def _fail(self, own: _Job, error: BaseException) -> None:
        """Ends all floods."""
        with self._mutex:
            # After a keyboard interrupt, a notebook continues with the same executor.
            self._failure = error if isinstance(error, Exception) else None
            jobs = {*self._here(), own}
            for some in (self._answered, self._asking, self._arrived):
                some.clear()
            self._loaded = None
        for job in jobs:
            self._end(job, error)

    def _take_in(self) -> None:
        """Begins with the floods that have come; waits, not for long, for those that are expected."""
        if self._arrived or not self._is_full():
            with self._mutex:
                if not self._news.wait_for(self._is_full, min(self._batch_seconds, LONGEST_HOLD_S)):
                    self._expected = {job.thread for job in self._here()} & self._active
            while self._arrived:
                self._go_on(self._arrived.popleft())

    def _here(self) -> Iterator[_Job]:
        loaded = self._loaded.jobs if self._loaded else ()
        return itertools.chain(self._answered, loaded, self._asking, self._arrived)

    def _is_full(self) -> bool:
        """Whether the next batch has everybody who is expected and has room in it."""
        least = min(self._batch_size, len(self._expected))
        return len(self._asking) >= least or sum(1 for _ in self._here()) >= least

    def _go_on(self, job: _Job) -> None:
        """Goes on with a flood, up to its next question or its end."""
        if job.error is not None:  # nobody waits for it
            self._end(job, job.error)
            return
        try:
            job.question = job.context.run(job.flood.send, job.answer)
        except StopIteration as end:
            job.result = end.value
            self._end(job)
        except BaseException as error:
            self._end(job, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._asking.append(job)

    def _end(self, job: _Job, error: BaseException | None = None) -> None:
        job.flood.close()
        with self._mutex:
            if not job.ended:
                job.error, job.ended = error, True
                job.awake.release()

    def _lead_on(self) -> None:
        """Has one of those that wait lead."""
        heir = next((job for job in self._here() if job.error is None), None)
        self._led = heir is not None
        if heir is not None:
            heir.awake.release()

    def _put_together(self, questions: Sequence[Any]) -> Any:
        """Makes of questions what `_compute` is given; it is made anew in the same arrays for the batch after the next."""
        if not questions:
            return ()
        if not self._arrays:
            shape = (self._batch_size, *questions[0].fov, 1)
            self._arrays += [
                (np.empty(shape, np.float32), np.empty(shape, np.float32)) for _ in '12'
            ]
        images, seeds = self._arrays[0]
        images, seeds = images[: len(questions)], seeds[: len(questions)]
        for question, image, seed in zip(questions, images, seeds, strict=True):
            question.show(image[..., 0], seed[..., 0])
        return images, seeds

    def _compute(self, questions: Any) -> Sequence[np.ndarray]:
        """Runs a batch; returns the logits, float32 [z, y, x] each."""
        images, seeds = questions
        logits = np.asarray(self._predict(images, seeds), np.float32)
        if np.may_share_memory(logits, images) or np.may_share_memory(logits, seeds):
            logits = logits.copy()
        return [answer[..., 0] for answer in logits]


class Client(Network):
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
        return self.run(_ask(_Given(image, seed)))

    def run(self, flood: Flood[T]) -> T:
        """See `Executor.run`."""
        return self._executor.run(flood, self._calls)


class _Given:
    """A question of arrays; see `ffn.inference.core.protocols.Question`."""

    def __init__(self, image: np.ndarray, seed: np.ndarray):
        self._image, self._seed = image, seed
        self.fov = Zyx.of(image.shape)

    def show(self, image: np.ndarray, seed: np.ndarray) -> None:
        """Fills them in."""
        image[...], seed[...] = self._image, self._seed


def _ask(question: Any) -> Flood[np.ndarray]:
    """A flood of one question."""
    answer: np.ndarray = yield question
    return answer
