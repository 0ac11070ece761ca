"""Tasks on the workers of a Dask cluster.

Needs the extra [cluster]. Dask queues tasks, retries them and moves those of lost workers. A task is done
when its file exists, so running one twice is harmless.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from absl import logging
from distributed import Client, Future, Reschedule, as_completed
from distributed.scheduler import KilledWorker

from ffn.distributed.shared import SharedFactory, SharedObject
from ffn.distributed.shared_plugin import SharedObjectPlugin, worker_object
from ffn.utils import trust
from ffn.utils.errors import UserError, memory_told
from ffn.utils.startup import show_log_of_worker

# How often a task is tried again, also where its worker was lost.
RETRIES = 3
# Tasks that Dask knows of at a time, for each thread and at least (as workers may come later): it need not
# know of millions.
_WINDOW, _LEAST = 8, 2000


class DaskPool:
    """Runs tasks on the workers of a Dask cluster; see `ffn.distributed.pool.Pool`.

    Attributes:
      client: connected to its scheduler.
    """

    distributed = True

    def __init__(
        self,
        client: Client,
        resource: str = '',
        needed: bool = False,
        shared: str = '',
    ):
        """Chooses the workers.

        Args:
          client: connected to the scheduler.
          resource: Dask resource that workers must have to share an object, '' for any worker.
          needed: whether tasks need the resource.
          shared: name of the plugin with the object that tasks share, '' if they share none.
        """
        self.client, self._resource, self._needed = client, resource, needed
        self._shared = shared

    @property
    def capacity(self) -> int:
        """Total threads of all workers currently connected."""
        threads: dict[str, int] = self.client.nthreads()
        return max(sum(threads.values()), 1)

    def restricted(self) -> DaskPool:
        """See `Pool`."""
        return DaskPool(self.client, self._resource, bool(self._resource), self._shared)

    @contextlib.contextmanager
    def share(self, factory: SharedFactory[SharedObject]) -> Iterator[DaskPool]:
        """See `Pool`; also workers that come later make the object.

        Tasks are interrupted too when their worker is asked to shut down, if it is given enough time:
        `dask worker` has 8 seconds.
        """
        # A name of its own, as other commands may use the same workers.
        name = f'ffn-shared-{uuid.uuid4().hex}'
        self.client.register_plugin(SharedObjectPlugin(factory), name=name)
        try:
            yield DaskPool(self.client, self._resource, bool(self._resource), name)
        finally:
            try:
                if self.client.status == 'running':
                    self.client.unregister_worker_plugin(name)
            except Exception as error:  # noqa: BLE001 - a worker that ended has none any more
                logging.info('some workers did not close what their tasks shared: %s', error)

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """See `Pool`; any exception of a task is yielded."""
        resources = {self._resource: 1} if self._needed else None
        if self._needed and not self._has_resource():
            logging.warning('no worker has the resource %s yet; waiting for one', self._resource)
        left = iter(tasks)
        task_of: dict[Future, tuple[Any, ...]] = {}

        def submit_next() -> Future | None:
            if (task := next(left, None)) is None:
                return None
            future = self.client.submit(
                attempt,
                trust.current(),
                self._shared,
                function,
                *task,
                pure=False,
                retries=RETRIES,
                resources=resources,
            )
            task_of[future] = task
            return future

        done = as_completed()
        for _ in range(max(_WINDOW * self.capacity, _LEAST)):
            if (future := submit_next()) is None:
                break
            done.add(future)
        try:
            for future in done:
                task = task_of.pop(future)
                result = self._result(future, function, task)
                if (more := submit_next()) is not None:
                    done.add(more)
                yield task, result
        finally:
            # If the run ends early, the remaining tasks are not started.
            if self.client.status == 'running':
                self.client.cancel(list(task_of))

    def _has_resource(self) -> bool:
        workers = self.client.scheduler_info(n_workers=-1)['workers'].values()
        return any(self._resource in worker['resources'] for worker in workers)

    @staticmethod
    def _result(future: Future, function: Callable[..., Any], task: tuple[Any, ...]) -> Any:
        if future.cancelled():
            raise UserError("Dask's scheduler was lost or restarted; run again to resume")
        error = future.exception()
        if isinstance(error, KilledWorker):
            return UserError(
                f'{function.__name__}{str(task)[:200]} ended its worker {RETRIES + 1} times; '
                "the worker's log says why (out of memory?)"
            )
        return future.result() if error is None else error

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See `Pool`."""
        [(_, result)] = self.run(function, [arguments])
        if isinstance(result, Exception):
            raise result
        return result


def attempt(
    trusted: trust.Trust, shared: str, function: Callable[..., Any], *arguments: Any
) -> Any:
    """Runs a task in a worker; returns a UserError instead of raising it, as a retry would not help.

    So it does with lack of memory, which becomes one.

    Args:
      trusted: what the command trusts whose task this is; the worker then does too.
      shared: name of the plugin with the object that is the function's first argument, or ''.
      function: the task's.
      *arguments: the task's.
    """
    trust.add(trusted)
    show_log_of_worker()
    try:
        if not shared:
            return function(*arguments)
        with worker_object(shared) as made:
            return function(made, *arguments)
    except UserError as error:
        return error
    except MemoryError as error:
        return memory_told(error)
    except Reschedule:
        pass
    # A new one, without its context, which may hold things that cannot be sent.
    raise Reschedule
