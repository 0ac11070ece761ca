"""Carrying out the tasks of a stage: in this process, in several of this machine, or with Dask."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any, Protocol

from absl import logging

from ffn.distributed.cluster import SCHEDULER_HELP, open_client
from ffn.utils.errors import UserError
from ffn.utils.progress import progress
from ffn.utils.signals import exit_on_sigterm

# So many tasks may fail with the same message before one succeeds.
_GIVE_UP = 16


class Pool(Protocol):
    """What carries out tasks.

    Attributes:
      distributed: whether its workers can load a network of their own (`ffn.inference.worker_network`).
    """

    distributed: bool

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple]
    ) -> Iterator[tuple[tuple, Any]]:
        """Calls a function with the arguments of each task.

        Args:
          function: of a module, so that other processes find it.
          tasks: their arguments.

        Yields:
          A task and what it returned, or the exception that it raised: UserError or OSError, and on
          other machines whatever it was.
        """


class InProcess:
    """Carries out one task after another."""

    distributed = False

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple]
    ) -> Iterator[tuple[tuple, Any]]:
        """See `Pool`."""
        for task in tasks:
            try:
                yield task, function(*task)
            except (UserError, OSError) as error:
                yield task, error


class Processes:
    """Carries out tasks in several processes of this machine."""

    distributed = False

    def __init__(self, workers: int):
        """Says how many.

        Args:
          workers: processes; they live as long as a stage.
        """
        self._workers = workers

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple]
    ) -> Iterator[tuple[tuple, Any]]:
        """See `Pool`."""
        left = iter(tasks)
        # Fresh processes: a network that is loaded in this one does not survive a fork.
        spawn = multiprocessing.get_context('spawn')
        with futures.ProcessPoolExecutor(self._workers, spawn, _end_with_parent) as pool:
            pending: dict[futures.Future, tuple] = {}
            try:
                while True:
                    for task in itertools.islice(left, 4 * self._workers - len(pending)):
                        pending[pool.submit(function, *task)] = task
                    if not pending:
                        return
                    done, _ = futures.wait(pending, return_when=futures.FIRST_COMPLETED)
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


def _result(future: futures.Future) -> Any:
    try:
        return future.result()
    except (UserError, OSError) as error:
        return error


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, however it went; Ctrl-C is for that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def run_stage(
    pool: Pool, function: Callable[..., Any], tasks: Iterable[tuple], total: int, what: str,
    quiet: bool = False, weight: Callable[[tuple], int] = lambda task: 1, unit: str = 'subvolume',
) -> Iterator[Any]:  # fmt: skip
    """Carries out all tasks of a stage; one that fails does not keep the others from it.

    Args:
      pool: what carries them out.
      function: called with the arguments of each.
      tasks: their arguments.
      total: of the progress bar.
      what: is done, for the progress bar and errors.
      quiet: no progress bar.
      weight: what a task adds to the progress bar.
      unit: of the progress bar.

    Yields:
      What the tasks return, in the order in which they end.

    Raises:
      UserError: at the end, where tasks failed; at once, where the first ones all do so in
        the same way.
    """
    failed, done, first, kinds = 0, 0, '', set()
    with progress(total=total, desc=what, unit=unit, quiet=quiet, smoothing=0.05) as bar:
        for task, result in pool.run(function, tasks):
            bar.update(weight(task))
            if not isinstance(result, Exception):
                done += 1
                yield result
                continue
            failed += 1
            text = ' '.join(str(result).split()) or repr(result)
            first = first or text
            kinds.add(text)
            known = isinstance(result, UserError | OSError)
            logging.error('%s: %s', what, result, exc_info=None if known else result)
            if failed == _GIVE_UP and not done and len(kinds) == 1:
                raise UserError(f'{what}: {first}; so far all tasks failed')
    if failed:
        more = f'; {failed - 1} more tasks failed' if failed > 1 else ''
        raise UserError(f'{what}: {first}{more}')


@contextlib.contextmanager
def open_pool(
    scheduler: str, workers: int = 0, threads: int = 1, resource: str = ''
) -> Iterator[Pool]:
    """Opens what --scheduler names.

    Args:
      scheduler: see `ffn.distributed.cluster`.
      workers: processes of this machine for none and local, jobs for a batch system; 0: this process
        for none, else one per GPU, at least one.
      threads: tasks that a process has at a time, for local.
      resource: Dask resource that workers with a network must have; '': any worker.

    Raises:
      UserError: Dask is not installed, or there is no such scheduler.
    """
    if workers < 0:
        raise UserError(f'--workers is {workers}; expected 0 or more')
    if resource and scheduler in ('none', 'local'):
        raise UserError(
            f'--resource {resource} chooses among workers that were started with it; there are none with '
            f'--scheduler {scheduler}'
        )
    if scheduler == 'none':
        with exit_on_sigterm():
            yield Processes(workers) if workers > 1 else InProcess()
        return
    with open_client(scheduler, workers, threads) as client:
        from ffn.distributed.dask_pool import DaskPool

        yield DaskPool(client, resource)


def add_where(add: Callable[..., object], network: bool = True) -> None:
    """Adds the flags that say what carries out the tasks.

    Args:
      add: add_argument of a parser.
      network: whether some of them need a network.
    """
    add('--scheduler', default='none', metavar='WHERE', help=SCHEDULER_HELP)
    add('--workers', type=int, default=0, metavar='N',
        help='processes or jobs (default: for none, this process; else one per GPU, at least one)')  # fmt: skip
    if network:
        add('--resource', default='', metavar='NAME', help='only workers that were started with this '
            'resource get the network: dask worker --resources NAME=4 (any worker)')  # fmt: skip
    add('--quiet', action='store_true', help='no progress bar')
