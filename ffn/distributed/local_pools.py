"""Pools of this machine: one task after another, threads around a shared object, several processes."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any

from ffn.distributed.shared import SharedFactory, SharedObject
from ffn.utils import event_log, trust
from ffn.utils.errors import UserError
from ffn.utils.signals import WAKE_UP_S, stop_on_signal
from ffn.utils.startup import show_log, verbosity_of_workers


class InProcess:
    """Runs tasks one after another; see `ffn.distributed.pool.Pool` for the methods."""

    distributed = False
    capacity = 1

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """See `Pool`."""
        for task in tasks:
            try:
                yield task, function(*task)
            except (UserError, OSError) as error:
                yield task, error

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See `Pool`."""
        return function(*arguments)

    @contextlib.contextmanager
    def share(self, factory: SharedFactory[SharedObject]) -> Iterator[SharingThreads]:
        """See `Pool`; tasks run in as many threads as the factory says."""
        shared = factory.open()
        try:
            yield SharingThreads(shared, factory.threads, factory.interruption)
        finally:
            shared.close()

    def restricted(self) -> InProcess:
        """See `Pool`."""
        return self


class _NotBegun(Exception):  # noqa: N818 - never leaves this module
    pass


class SharingThreads(InProcess):
    """Threads of this process whose tasks share one object.

    SIGTERM, SIGHUP and Ctrl-C interrupt the running tasks; when these have ended, SystemExit is raised.
    An unexpected error ends the run at once, since the shared object itself may have failed.
    """

    def __init__(self, shared: SharedObject, threads: int, interruption: type[Exception]):
        self._shared, self._interruption, self.capacity = shared, interruption, threads

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See `Pool`."""
        return function(self._shared, *arguments)

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """See `Pool`.

        Raises:
          SystemExit: stopped by a signal.
        """
        stop, left = self._shared.stop, iter(tasks)

        def attempt(*task: Any) -> Any:
            if stop.is_set():
                raise _NotBegun
            return self.call(function, *task)

        with (
            stop_on_signal(stop),
            futures.ThreadPoolExecutor(self.capacity, 'task') as threads,
        ):
            pending: dict[futures.Future[Any], tuple[Any, ...]] = {}
            try:
                while True:
                    room = 0 if stop.is_set() else 2 * self.capacity - len(pending)
                    for task in itertools.islice(left, room):
                        pending[threads.submit(attempt, *task)] = task
                    if not pending:
                        break
                    done, _ = futures.wait(pending, WAKE_UP_S, futures.FIRST_COMPLETED)
                    for future in done:
                        task = pending.pop(future)
                        if not isinstance(future.exception(), (self._interruption, _NotBegun)):
                            yield task, _result(future)
            except BaseException:
                stop.set()
                threads.shutdown(cancel_futures=True)
                raise
        if stop.is_set():
            event_log.say('stopped; run again to resume')
            raise SystemExit(128 + signal.SIGTERM)


class Processes(InProcess):
    """Runs tasks in several processes on this machine; those that share an object, in this one."""

    def __init__(self, workers: int):
        """Chooses their number.

        Args:
          workers: processes; they live as long as a stage.
        """
        self.capacity = workers

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """See `Pool`."""
        left = iter(tasks)
        # Fresh processes: a network that is loaded in this one does not survive a fork.
        spawn = multiprocessing.get_context('spawn')
        state = trust.current(), verbosity_of_workers()
        with futures.ProcessPoolExecutor(self.capacity, spawn, _begin, state) as pool:
            pending: dict[futures.Future[Any], tuple[Any, ...]] = {}
            try:
                while True:
                    for task in itertools.islice(left, 4 * self.capacity - len(pending)):
                        pending[pool.submit(function, *task)] = task
                    if not pending:
                        return
                    done, _ = futures.wait(pending, WAKE_UP_S, futures.FIRST_COMPLETED)
                    for future in done:
                        yield pending.pop(future), _result(future)
            except futures.process.BrokenProcessPool as error:
                raise UserError(
                    f'a process was ended from outside during {function.__name__} (out of memory?); '
                    'run again, with fewer --workers'
                ) from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _result(future: futures.Future[Any]) -> Any:
    try:
        return future.result()
    except (UserError, OSError) as error:
        return error


def _begin(trusted: trust.Trust, verbosity: int) -> None:
    trust.add(trusted)
    show_log(verbosity)
    _end_with_parent()


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, however that ended; Ctrl-C is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
