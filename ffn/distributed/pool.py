"""Running the tasks of a stage: in this process, in several on this machine, or with Dask."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from absl import logging

from ffn.distributed.cluster import SCHEDULER_HELP, open_client
from ffn.distributed.local_pools import InProcess, Processes
from ffn.distributed.shared import SharedFactory, SharedObject
from ffn.utils.errors import UserError
from ffn.utils.progress import progress
from ffn.utils.settings import setting
from ffn.utils.signals import exit_on_sigterm

# A stage gives up when its first tasks, this many, all fail with the same message.
_GIVE_UP = 16


class Pool(Protocol):
    """Runs tasks."""

    @property
    def distributed(self) -> bool:
        """Whether tasks that share an object run in other processes, without access to this one's objects and terminal."""

    @property
    def capacity(self) -> int:
        """Number of tasks that run concurrently, as currently known; at least 1."""

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Calls a function with the arguments of each task.

        Args:
          function: defined at module level, so that other processes can import it.
          tasks: their arguments.

        Yields:
          A task and what it returned, or the exception that it raised: UserError or OSError, and on
          other machines any other.
        """

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function once, on one worker.

        Raises:
          Exception: the function did.
        """

    def share(
        self, factory: SharedFactory[SharedObject]
    ) -> contextlib.AbstractContextManager[Pool]:
        """Lets tasks share an object that each process makes once, for as long as the context lasts.

        When the context ends early, running tasks are interrupted; see `SharedObject.stop`.

        Args:
          factory: makes the object where a task needs it.

        Returns:
          Context of a pool that calls functions with the shared object before their arguments.
        """

    def restricted(self) -> Pool:
        """The workers on which objects may be shared: those with the Dask resource, if one is asked for."""


@dataclass(frozen=True)
class PoolConfig:
    """Where tasks run."""

    scheduler: str = setting(SCHEDULER_HELP, default='none', metavar='WHERE')
    workers: int = setting(
        'processes or jobs; 0: this process for --scheduler none, else one per GPU, at least one',
        default=0,
        metavar='N',
    )
    resource: str = setting(
        'only workers that were started with this resource load the network: '
        'dask worker --resources NAME=4; by default, any worker does',
        default='',
        metavar='NAME',
    )

    def open(self, threads: int = 1) -> contextlib.AbstractContextManager[Pool]:
        """Opens the pool; see `open_pool`."""
        return open_pool(self.scheduler, self.workers, threads, self.resource)


@contextlib.contextmanager
def open_pool(
    scheduler: str, workers: int = 0, threads: int = 1, resource: str = ''
) -> Iterator[Pool]:
    """Opens what --scheduler names.

    Args:
      scheduler: see `ffn.distributed.cluster`.
      workers: processes of this machine for none and local, jobs for a batch system; 0: this process
        for none, else one per GPU, at least one. Not with the address of a scheduler.
      threads: tasks that a process runs concurrently, for local.
      resource: Dask resource that workers must have to share an object; '': any worker.

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


def run_stage(
    pool: Pool,
    function: Callable[..., Any],
    tasks: Iterable[tuple[Any, ...]],
    total: int,
    what: str,
    quiet: bool = False,
    weight: Callable[[tuple[Any, ...]], int] = lambda task: 1,
    unit: str = 'subvolume',
) -> Generator[Any]:
    """Runs all tasks of a stage; a failed task does not stop the others.

    Args:
      pool: runs them.
      function: called with the arguments of each.
      tasks: their arguments.
      total: of the progress bar.
      what: name of the stage, for the progress bar and errors.
      quiet: no progress bar.
      weight: what a task adds to the progress bar.
      unit: of the progress bar.

    Yields:
      What the tasks return, in the order in which they end.

    Raises:
      UserError: at the end, if tasks failed; at once, if the first ones all fail in the same way.
    """
    failed, done, first = 0, 0, ''
    kinds: set[str] = set()
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
