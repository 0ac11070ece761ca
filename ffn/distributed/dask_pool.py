"""Tasks on the workers of a Dask cluster.

Needs the extra [cluster]. Dask queues, retries and moves the tasks of lost workers; a task is done when
its file is there, so one that is carried out twice does no harm.
"""

from __future__ import annotations

import logging as python_logging
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import distributed
from absl import logging
from distributed.diagnostics.plugin import WorkerPlugin

from ffn.utils.errors import UserError

# A task is tried so many times more, also where its worker was lost.
RETRIES = 3
# Tasks that Dask knows of at a time, for each thread and at least, as workers may come later: it need not
# know of millions.
_WINDOW, _LEAST = 8, 2000


class DaskPool:
    """Carries out tasks on the workers of a Dask cluster.

    Attributes:
      client: connected to its scheduler.
    """

    distributed = True

    def __init__(self, client: distributed.Client, resource: str = '', needed: bool = False):
        """Says which workers.

        Args:
          client: connected to the scheduler.
          resource: Dask resource that workers with a network must have, '' for any worker.
          needed: whether tasks need it.
        """
        self.client, self._resource, self._needed = client, resource, needed

    def restricted(self) -> DaskPool:
        """The workers that have the resource that a network needs."""
        return DaskPool(self.client, self._resource, needed=bool(self._resource))

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple]
    ) -> Iterator[tuple[tuple, Any]]:
        """See `ffn.distributed.pool.Pool`; what else a task raises is yielded as well."""
        resources = {self._resource: 1} if self._needed else None
        if self._needed and not self._has_resource():
            logging.warning('no worker has the resource %s yet; waiting for one', self._resource)
        left, of = iter(tasks), {}

        def submit_next() -> distributed.Future | None:
            if (task := next(left, None)) is None:
                return None
            future = self.client.submit(
                attempt, function, *task, pure=False, retries=RETRIES, resources=resources
            )
            of[future] = task
            return future

        done = distributed.as_completed()
        for _ in range(max(_WINDOW * sum(self.client.nthreads().values()), _LEAST)):
            if (future := submit_next()) is None:
                break
            done.add(future)
        try:
            for future in done:
                task = of.pop(future)
                result = self._result(future, function, task)
                if (more := submit_next()) is not None:
                    done.add(more)
                yield task, result
        finally:
            # Of a run that ends early, none is begun any more.
            if self.client.status == 'running':
                self.client.cancel(list(of))

    def _has_resource(self) -> bool:
        workers = self.client.scheduler_info(n_workers=-1)['workers'].values()
        return any(self._resource in worker['resources'] for worker in workers)

    @staticmethod
    def _result(future: distributed.Future, function: Callable[..., Any], task: tuple) -> Any:
        if future.cancelled():
            raise UserError("Dask's scheduler was lost or restarted; run again to go on")
        error = future.exception()
        if isinstance(error, distributed.scheduler.KilledWorker):
            return UserError(
                f'{function.__name__}{str(task)[:200]} ended its worker {RETRIES + 1} times; '
                "the worker's log says why (out of memory?)"
            )
        return future.result() if error is None else error

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function on one worker.

        Raises:
          Exception: the function did.
        """
        [(_, result)] = self.run(function, [arguments])
        if isinstance(result, Exception):
            raise result
        return result


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function; a UserError is its result, as trying again does not help against it."""
    try:
        return function(*arguments)
    except UserError as error:
        return error
    except distributed.Reschedule:
        pass
    # Anew, without what led to it, which may hold things that cannot be sent.
    raise distributed.Reschedule


class EphemeralWorkerPlugin(WorkerPlugin):
    """Workers that live as long as their command, and leave it to speak for them when it ends."""

    name = 'of-this-command'

    def setup(self, worker: distributed.Worker) -> None:
        """Called in the worker; Ctrl-C is for the command, which ends its workers."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def teardown(self, worker: distributed.Worker) -> None:
        """Called when the worker closes, before its connections do: a last heartbeat has no answer."""
        python_logging.getLogger('distributed.worker').setLevel(python_logging.CRITICAL)
