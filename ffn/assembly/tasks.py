"""Carrying out the tasks of a stage, in this process or with Dask."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from absl import logging

from ffn.utils.cluster import open_client
from ffn.utils.errors import UserError
from ffn.utils.progress import progress


class Pool(Protocol):
    """What carries out tasks."""

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple]
    ) -> Iterator[tuple[tuple, Any]]:
        """Calls a function with the arguments of each task.

        Args:
          function: of a module, so that other processes find it.
          tasks: their arguments.

        Yields:
          A task and what it returned, or the UserError or OSError that it raised.
        """


class InProcess:
    """Carries out one task after another."""

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple]
    ) -> Iterator[tuple[tuple, Any]]:
        """See `Pool`."""
        for task in tasks:
            try:
                yield task, function(*task)
            except (UserError, OSError) as error:
                yield task, error


def run_stage(
    pool: Pool, function: Callable[..., Any], tasks: Iterable[tuple], total: int, what: str,
    quiet: bool = False, weight: Callable[[tuple], int] = lambda task: 1,
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

    Yields:
      What the tasks return, in the order in which they end.

    Raises:
      UserError: at the end, where tasks failed.
    """
    failed, first = 0, ''
    with progress(total=total, desc=what, unit='subvolume', quiet=quiet, smoothing=0.05) as bar:
        for task, result in pool.run(function, tasks):
            bar.update(weight(task))
            if isinstance(result, Exception):
                failed += 1
                first = first or ' '.join(str(result).split())
                logging.error('%s: %s', what, result)
            else:
                yield result
    if failed:
        more = f'; {failed - 1} more tasks failed' if failed > 1 else ''
        raise UserError(f'{what}: {first}{more}')


@contextlib.contextmanager
def open_pool(scheduler: str, workers: int = 0, threads: int = 1) -> Iterator[Pool]:
    """Opens what --scheduler names.

    Args:
      scheduler: see `ffn.utils.cluster`.
      workers: processes for local, jobs for a batch system; 0: one per GPU, at least one.
      threads: tasks that a process has at a time, for local.

    Raises:
      UserError: Dask is not installed, or there is no such scheduler.
    """
    if scheduler == 'none':
        yield InProcess()
        return
    with open_client(scheduler, workers, threads) as client:
        from ffn.assembly.cluster import DaskPool

        yield DaskPool(client)
