"""Workers that are jobs of a batch system: asked for through dask-jobqueue, and replaced when they end.

Dask asks for each job once, and cancels it when its worker, once connected, has vanished for a while. `Jobs.look` does the
rest: what the batch system refuses is asked for again, ever more rarely, and so are jobs that end before their worker
connects. A job tells its end itself, by a file beside its log, since each batch system has another way to ask for it; one
that waits in the queue has none, and is waited for, however long that takes. A job that takes another's place has a new
name, as Dask knows jobs by their names, and may still be about to cancel the one before.

Needs the extra [cluster].
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shlex
import time
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

import dask
from absl import logging
from dask_jobqueue.core import Job
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin

from ffn.utils.errors import UserError

# Failed jobs are asked for again after a pause that doubles, up to MOST_PAUSE_S. After TRIES without any worker, and
# with no job left, there is no hope.
FIRST_PAUSE_S, MOST_PAUSE_S, TRIES = 10.0, 300.0, 4

# What a job runs, with the lines of the user in a shell of their own, which they may leave as they like. Asked to stop,
# as the worker is, both shells wait for it.
_BEFORE = "trap : INT TERM; ( trap 'exit 143' INT TERM"
_AFTER = ' ); echo $? 2>/dev/null >'


class _JobWithMark(Job):
    """A job that leaves its exit status in a file; that it was refused is kept, and not raised.

    Attributes:
      folder: where the file goes.
      left: jobs of its kind that may be in the queue: those that were neither refused nor cancelled.
      mark: name of the file.
      refusal: what the batch system said; '' if it has taken the job.
    """

    folder: Path
    left: set[Any]

    def __init__(self, scheduler: Any = None, name: Any = None, **settings: Any):
        self.mark, self.refusal = uuid.uuid4().hex, ''
        configured = f'jobqueue.{self.config_name}.'
        prologue = (
            dask.config.get(configured + 'job-script-prologue', None)
            or dask.config.get(configured + 'env-extra', None)  # its former name
            or []
        )
        settings['job_script_prologue'] = [_BEFORE, *prologue]
        super().__init__(scheduler, name, **settings)
        self._command_template += _AFTER + shlex.quote(str(self.folder / self.mark))

    async def start(self) -> None:
        """Called by Dask: submits the job."""
        self.left.add(self)
        try:
            await super().start()
        except (RuntimeError, ValueError, OSError) as error:
            # dask-jobqueue quotes all that the command has written; of LSF's, it drops standard error.
            text = str(error)
            said = text.rpartition('stderr:\n')[2].strip() or text
            self.refusal = ' '.join(said.split())[:300] or type(error).__name__
            self.status = Status.running  # Dask would show a traceback, and forget the job
            self.left.discard(self)

    async def close(self) -> None:
        """Called by Dask: cancels the job."""
        self.status = Status.closed  # which Dask expects at the end
        await super().close()
        self.left.discard(self)

    def failure(self) -> str:
        """Why its worker has not come, once it was refused or has ended."""
        if self.refusal:
            return self.refusal
        status = '?'
        with contextlib.suppress(OSError):  # the file may be removed meanwhile
            status = (self.folder / self.mark).read_text().strip() or status
        logs = self.log_directory or 'the folder of this command'
        return (
            f'job {self.job_id} ended with exit status {status or "?"} before its worker connected; its log '
            f'in {logs} says why'
        )


def with_mark(kind: Any, folder: Path) -> Any:
    """Makes a kind of job of dask-jobqueue one that `Jobs` can look after.

    Args:
      kind: the class of jobs.
      folder: where the jobs tell their end; they must see it under this name.
    """
    return type(kind.__name__, (_JobWithMark, kind), {'folder': folder, 'left': set()})


class _Connected(SchedulerPlugin):
    """Keeps the names of workers, also of those that leave between two looks.

    Attributes:
      names: of all that have ever connected.
    """

    def __init__(self) -> None:
        self.names = set[str]()

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Called by Dask."""
        self.names |= _of_jobs([scheduler.workers[worker].name])


def _of_jobs(workers: Collection[Any]) -> set[str]:
    """Names of the jobs to which workers may belong: several processes of a job are called NAME-0, NAME-1, …"""
    names = {str(name) for name in workers}
    return names | {name.rpartition('-')[0] for name in names}


class Jobs:
    """The jobs of a cluster."""

    def __init__(self, cluster: Any, system: str, count: int):
        """Asks for jobs.

        Args:
          cluster: of dask-jobqueue, whose kind of jobs is made by `with_mark`.
          system: the batch system's name.
          count: how many jobs are to be there.
        """
        self._cluster, self._system, self._count = cluster, system, count
        self._folder: Path = cluster.job_cls.folder
        self._numbers, self._known = itertools.count(), set[str]()
        self._cancelling = set[asyncio.Future[None]]()
        # Tries in a row that failed, why the last one did, and when the next one is due.
        self._failed, self._why, self._next = 0, '', time.monotonic()
        cluster.scheduler.add_plugin(connected := _Connected())
        self._connected, self._counted = connected.names, 0
        self._ask()

    def look(self) -> str:
        """Asks for jobs in place of those that were refused or have ended; to be called every few seconds.

        Returns:
          What became of the jobs, for a line that tells that there are no workers.

        Raises:
          UserError: no worker will come.
        """
        return self._cluster.sync(self._look, self._ended())

    def _ended(self) -> set[str]:
        """The marks; where their folder was removed, jobs that end from now on can leave theirs again."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            return set(os.listdir(self._folder))
        return set()

    async def _look(self, ended: Collection[str]) -> str:
        workers, now = self._cluster.workers, time.monotonic()
        lost, told = self._take_out_lost(ended), ''
        if len(self._connected) > self._counted:
            self._counted, self._failed = len(self._connected), 0
        if lost and now >= self._next:
            failures = [job.failure() for name, job in lost.items() if name not in self._connected]
            self._failed += bool(failures)
            doubled = min(max(self._failed - 1, 0), 30)  # after days, the power would overflow
            pause = min(FIRST_PAUSE_S * 2**doubled, MOST_PAUSE_S)
            self._next = now + pause
            if failures:
                self._why = failures[0] + (f' ({len(failures)} jobs)' if failures[1:] else '')
                told = f'{self._why}; trying again in {pause:.0f} s'
        if self._failed >= TRIES and not self._connected and not workers:
            raise UserError(
                f'--scheduler {self._system}: no worker has come in {self._failed} tries: {self._why}; '
                'correct what jobs ask for and run, in the file that DASK_CONFIG names'
            )
        if told:
            logging.warning('%s: %s', self._system, told)
        if now >= self._next:
            self._ask()
        if not workers:
            return self._why
        ids = ', '.join(str(job.job_id) for job in list(workers.values())[:3])
        more = ', …' if len(workers) > 3 else ''
        return f'{len(workers)} jobs are in the queue or starting ({ids}{more})'

    def _ask(self) -> None:
        """Lets Dask submit what is missing."""
        specified = self._cluster.worker_spec
        while len(specified) < self._count:
            specified[f'{self._system}-{next(self._numbers)}'] = self._cluster.new_spec
        self._cluster.scale(jobs=self._count)

    def _take_out_lost(self, ended: Collection[str]) -> dict[str, _JobWithMark]:
        """Makes Dask forget jobs that were refused or have ended, and those that it has cancelled itself.

        Returns:
          The former, by their names. They are cancelled, as a batch system may put jobs that end into its queue again.
        """
        jobs, workers = self._cluster.workers, self._cluster.scheduler_info['workers'].values()
        names = _of_jobs([worker['name'] for worker in workers])
        lost = {}
        for name, job in list(jobs.items()):
            if name not in names and (job.refusal or job.mark in ended):
                lost[name] = jobs.pop(name)
                self._cancelling.add(task := asyncio.ensure_future(job.close()))
                task.add_done_callback(self._cancelling.discard)
        for name in (self._known | set(lost)) - set(jobs):
            self._cluster.worker_spec.pop(name, None)
        self._known = set(jobs)
        return lost
