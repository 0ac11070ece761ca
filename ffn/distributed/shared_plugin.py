"""The object that the tasks of a Dask worker share: made once, replaced if it fails, closed at the end.

Needs the extra [cluster].
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import distributed
from absl import logging
from distributed.diagnostics.plugin import WorkerPlugin

from ffn.distributed.cluster import count_gpus
from ffn.distributed.shared import SharedFactory, SharedObject
from ffn.utils.errors import UserError


@contextlib.contextmanager
def worker_object(name: str) -> Iterator[SharedObject]:
    """Yields the shared object of the worker that this is called in, by a task.

    Args:
      name: of the plugin.

    Raises:
      distributed.Reschedule: the worker ends; another one is to do the task.
    """
    plugin = distributed.get_worker().plugins.get(name)
    if plugin is None:
        raise distributed.Reschedule
    with plugin.in_use() as made:
        yield made


class SharedObjectPlugin(WorkerPlugin):
    """Holds the shared object of a worker process."""

    def __init__(self, factory: SharedFactory[SharedObject]):
        self._factory = factory

    def setup(self, worker: distributed.Worker) -> None:
        """Called by Dask in the worker."""
        self._worker, self._ending = worker, threading.Event()
        # The tasks at work with each object that is open; new ones get the current one.
        self._tasks: dict[SharedObject, list[Any]] = {}
        self._current: SharedObject | None = None
        self._changed = threading.Condition()
        device = choose_gpu(worker.name, os.environ.get('CUDA_VISIBLE_DEVICES', ''), count_gpus())
        if device is not None:
            os.environ['CUDA_VISIBLE_DEVICES'] = device

    @contextlib.contextmanager
    def in_use(self) -> Iterator[SharedObject]:
        """Yields the object, which is not closed while the context lasts.

        Raises:
          distributed.Reschedule: the worker ends, or the task was interrupted.
        """
        task = self._worker.get_current_task()
        with self._changed:
            if self._ending.is_set():
                raise distributed.Reschedule
            if self._current is None:
                self._current = self._factory.open()
                self._tasks[self._current] = []
                threading.Thread(target=self._watch, args=(self._current,), daemon=True).start()
            made = self._current
            self._tasks[made].append(task)
        try:
            yield made
        except self._factory.interruption:
            raise distributed.Reschedule from None
        except (UserError, OSError, distributed.Reschedule):
            raise
        except Exception:
            # An object that failed once may do so for good: the next task makes another.
            self._retire(made)
            raise
        finally:
            with self._changed:
                self._tasks[made].remove(task)
                if not self._tasks[made] and made is not self._current:
                    del self._tasks[made]
                    made.close()
                self._changed.notify_all()

    def _retire(self, made: SharedObject) -> None:
        with self._changed:
            if self._current is made:
                self._current = None

    def _watch(self, made: SharedObject) -> None:
        """Interrupts orphaned tasks, whose command has exited."""
        while not self._ending.wait(1):
            with self._changed:
                if made not in self._tasks:
                    return
                known = self._worker.state.tasks
                states = [getattr(known.get(task), 'state', '') for task in self._tasks[made]]
            if any(state != 'executing' for state in states):
                logging.warning('tasks that nobody waits for are stopped')
                self._retire(made)
                made.stop.set()
                return

    async def teardown(self, worker: distributed.Worker) -> None:
        """Called by Dask in the worker: interrupts the tasks at work and closes the objects."""
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._ending.set()
        with self._changed:
            for made in self._tasks:
                made.stop.set()
            self._changed.wait_for(lambda: not any(self._tasks.values()))
            for made in self._tasks:
                made.close()
            self._tasks.clear()


def choose_gpu(worker_name: Any, visible: str, count: int) -> str | None:
    """Chooses one GPU for a worker of a local cluster; these are named 0, 1, ….

    Args:
      worker_name: its name; workers whose name is no number are left alone.
      visible: CUDA_VISIBLE_DEVICES.
      count: GPUs that the machine has.

    Returns:
      The new CUDA_VISIBLE_DEVICES, or None to leave it as it is.
    """
    devices = [d for d in visible.split(',') if d] or [str(i) for i in range(count)]
    if not isinstance(worker_name, int) or len(devices) < 2:
        return None
    return devices[worker_name % len(devices)]
