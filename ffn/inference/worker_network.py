"""Networks of the workers of a Dask cluster: each process loads one, which its threads share.

Needs the extra [cluster].
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import distributed
from absl import logging
from distributed.diagnostics.plugin import WorkerPlugin

from ffn.distributed.cluster import count_gpus
from ffn.distributed.dask_pool import DaskPool
from ffn.inference import inference_pb2
from ffn.inference.core.canvas import Interrupted
from ffn.inference.runner import Runner
from ffn.utils.errors import UserError


class Networks(NamedTuple):
    """What the tasks of a stage need to know of the networks of the workers.

    Attributes:
      name: what `worker_runner` is given.
      pool: the workers that may have one.
    """

    name: str
    pool: DaskPool


@contextlib.contextmanager
def networks(pool: DaskPool, request: inference_pb2.InferenceRequest) -> Iterator[Networks]:
    """Has workers load a request's network when a task needs it, for as long as the context lasts.

    When it ends early, subvolumes that are at work are saved as checkpoints. So they are when a worker
    is asked to end, as far as it is given time: `dask worker` has 8 seconds.

    Args:
      pool: the workers, also those that come later.
      request: complete.
    """
    # A name of its own, as other commands may use the same workers.
    name = f'ffn-network-{uuid.uuid4().hex}'
    pool.client.register_plugin(NetworkPlugin(request.SerializeToString()), name=name)
    try:
        yield Networks(name, pool.restricted())
    finally:
        try:
            pool.client.unregister_worker_plugin(name)
        except Exception as error:  # noqa: BLE001 - a worker that ended has none any more
            logging.info('some workers did not end their network: %s', error)


@contextlib.contextmanager
def worker_runner(network: str) -> Iterator[Runner]:
    """The started runner of the worker that this is called in, by a task.

    Args:
      network: its name.

    Raises:
      distributed.Reschedule: the worker ends; another one is to do the task.
    """
    plugin = distributed.get_worker().plugins.get(network)
    if plugin is None:
        raise distributed.Reschedule
    with plugin.in_use() as runner:
        try:
            yield runner
        except Interrupted:
            raise distributed.Reschedule from None


def segment_subvolume(
    network: str, corner_zyx: Sequence[int], size_zyx: Sequence[int]
) -> Mapping[str, int]:
    """Segments a subvolume with the network of the worker that this is called in.

    Args:
      network: its name.
      corner_zyx: first voxel of the subvolume.
      size_zyx: its shape.

    Returns:
      Counters, or nothing where the result was there.
    """
    with worker_runner(network) as runner:
        canvas = runner.run(corner_zyx, size_zyx)
    return {} if canvas is None else {**canvas.counters.as_dict(), 'objects': len(canvas.origins)}


def ask_precision() -> str:
    """Which precision `auto` stands for on the worker that this is called in.

    A process of its own finds out: in this one, that would settle which GPU it uses.

    Raises:
      UserError: it did not work.
    """
    program = 'from ffn.models.precision import choose_precision; print(choose_precision("auto"))'
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f'precision auto could not be settled: {done.stderr.strip()[-300:]}')
    return done.stdout.split()[-1]


class NetworkPlugin(WorkerPlugin):
    """The network of a worker process, loaded once."""

    def __init__(self, request: bytes):
        self._request = request

    def setup(self, worker: distributed.Worker) -> None:
        """Called by Dask in the worker."""
        self._worker, self._ending = worker, threading.Event()
        # The tasks at work with each runner that is open; new ones get the current one.
        self._tasks: dict[Runner, list[Any]] = {}
        self._current: Runner | None = None
        self._changed = threading.Condition()
        name = gpu_of(worker.name, os.environ.get('CUDA_VISIBLE_DEVICES', ''), count_gpus())
        if name is not None:
            os.environ['CUDA_VISIBLE_DEVICES'] = name

    @contextlib.contextmanager
    def in_use(self) -> Iterator[Runner]:
        """The runner, which is not closed while the context lasts."""
        task = self._worker.get_current_task()
        with self._changed:
            if self._ending.is_set():
                raise distributed.Reschedule
            if self._current is None:
                self._current = self.make_runner()
                self._tasks[self._current] = []
                threading.Thread(target=self._watch, args=(self._current,), daemon=True).start()
            runner = self._current
            self._tasks[runner].append(task)
        try:
            yield runner
        except (UserError, OSError, Interrupted, distributed.Reschedule):
            raise
        except Exception:
            # A network that failed once may do so for good: the next task loads another.
            self._replace(runner)
            raise
        finally:
            with self._changed:
                self._tasks[runner].remove(task)
                if not self._tasks[runner] and runner is not self._current:
                    del self._tasks[runner]
                    runner.close()
                self._changed.notify_all()

    def make_runner(self) -> Runner:
        """Loads the network."""
        from ffn.utils.startup import startup_messages_hidden

        with startup_messages_hidden():
            from ffn.models import precision

            logging.info('the network runs on %s', precision.describe_device())
        runner = Runner()
        runner.start(inference_pb2.InferenceRequest.FromString(self._request))
        return runner

    def _replace(self, runner: Runner) -> None:
        with self._changed:
            if self._current is runner:
                self._current = None

    def _watch(self, runner: Runner) -> None:
        """Stops a runner whose tasks nobody waits for any more, as their command is gone."""
        while not self._ending.wait(1):
            with self._changed:
                if runner not in self._tasks:
                    return
                known = self._worker.state.tasks
                states = [getattr(known.get(task), 'state', '') for task in self._tasks[runner]]
            if any(state != 'executing' for state in states):
                logging.warning('subvolumes that nobody waits for are stopped')
                self._replace(runner)
                runner.stop.set()
                return

    async def teardown(self, worker: distributed.Worker) -> None:
        """Called by Dask in the worker: saves what is at work and closes the runners."""
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._ending.set()
        with self._changed:
            for runner in self._tasks:
                runner.stop.set()
            self._changed.wait_for(lambda: not any(self._tasks.values()))
            for runner in self._tasks:
                runner.close()
            self._tasks.clear()


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
