"""Tasks on Dask distributed: local processes, a running scheduler, or a batch system's jobs.

Needs the extra [cluster]. Dask queues, retries and moves the tasks of lost workers; a task is done when
its file is there, so one that is carried out twice does no harm.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import distributed
from absl import logging
from distributed.diagnostics.plugin import WorkerPlugin

from ffn.inference import inference_pb2
from ffn.inference.runner import Runner
from ffn.utils.cluster import count_gpus
from ffn.utils.errors import UserError

# A task is tried so many times more, also where its worker was lost.
RETRIES = 3
# Tasks that Dask knows of at a time, for each thread: it need not know of millions.
_WINDOW = 8
NETWORK = 'ffn-network'


class DaskPool:
    """Carries out tasks on the workers of a Dask cluster.

    Attributes:
      client: connected to its scheduler.
    """

    def __init__(self, client: distributed.Client):
        self.client = client

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple]
    ) -> Iterator[tuple[tuple, Any]]:
        """See `ffn.assembly.tasks.Pool`."""
        left, of = iter(tasks), {}

        def submit_next() -> distributed.Future | None:
            if (task := next(left, None)) is None:
                return None
            future = self.client.submit(attempt, function, *task, pure=False, retries=RETRIES)
            of[future] = task
            return future

        done = distributed.as_completed()
        for _ in range(max(_WINDOW * sum(self.client.nthreads().values()), 64)):
            if (future := submit_next()) is None:
                break
            done.add(future)
        for future in done:
            task, error = of.pop(future), future.exception()
            if isinstance(error, distributed.scheduler.KilledWorker):
                error = UserError(
                    f'{function.__name__}{str(task)[:200]} ended its worker {RETRIES + 1} times; '
                    "the worker's log says why (out of memory?)"
                )
            if error is not None and not isinstance(error, UserError | OSError):
                raise error
            if (more := submit_next()) is not None:
                done.add(more)
            yield task, future.result() if error is None else error

    def give_network(self, request: inference_pb2.InferenceRequest) -> None:
        """Has every worker, also those that come later, load a request's network when it needs it."""
        self.client.register_plugin(NetworkPlugin(request.SerializeToString()), name=NETWORK)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function on one worker.

        Raises:
          UserError: the function did.
        """
        submit = self.client.submit
        result = submit(attempt, function, *arguments, pure=False, retries=RETRIES).result()
        if isinstance(result, UserError):
            raise result
        return result


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function; a UserError is its result, as trying again does not help against it."""
    try:
        return function(*arguments)
    except UserError as error:
        return error


class NetworkPlugin(WorkerPlugin):
    """The network of a worker process, loaded once."""

    def __init__(self, request: bytes):
        self._request = request

    def setup(self, worker: distributed.Worker) -> None:
        """Called by Dask in the worker."""
        self._loading, self._runner = threading.Lock(), None
        name = gpu_of(worker.name, os.environ.get('CUDA_VISIBLE_DEVICES', ''), count_gpus())
        if name is not None:
            os.environ['CUDA_VISIBLE_DEVICES'] = name

    def runner(self) -> Runner:
        """The started runner, which the threads of the process share."""
        from ffn.utils.startup import startup_messages_hidden

        with self._loading:
            if self._runner is None:
                with startup_messages_hidden():
                    from ffn.inference import precision

                    logging.info('the network runs on %s', precision.describe_device())
                runner = Runner()
                runner.start(inference_pb2.InferenceRequest.FromString(self._request))
                self._runner = runner
            return self._runner

    def teardown(self, worker: distributed.Worker) -> None:
        """Called by Dask in the worker."""
        if self._runner is not None:
            self._runner.close()


def worker_runner() -> Runner:
    """The runner of the worker that this is called in, by a task."""
    return distributed.get_worker().plugins[NETWORK].runner()


def gpu_of(worker_name: Any, visible: str, count: int) -> str | None:
    """Chooses one GPU for a worker of a local cluster, whose workers have the names 0, 1, ….

    Args:
      worker_name: its name; others than numbers are left alone.
      visible: CUDA_VISIBLE_DEVICES.
      count: GPUs that the machine has.

    Returns:
      What CUDA_VISIBLE_DEVICES is to be, or None to leave it as it is.
    """
    devices = [d for d in visible.split(',') if d] or [str(i) for i in range(count)]
    if not isinstance(worker_name, int) or len(devices) < 2:
        return None
    return devices[worker_name % len(devices)]
