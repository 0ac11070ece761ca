"""The end of a cluster of jobs: they are cancelled, but a batch system that does not answer is waited for only so long.

Dask waits for jobs that are being submitted, as they can be cancelled only once their ids are known, and then for the
command that cancels. Each may take minutes where the batch system's controller is down.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection
from typing import Any

from absl import logging

from ffn.utils.signals import WAKE_UP_S

# How long the batch system may take for its next answer, and when it is told that it is waited for.
LIMIT_S, TOLD_AFTER_S = 30.0, 3.0


def close(cluster: Any, system: str) -> None:
    """Closes a cluster; where that takes too long or a signal ends it, tells which jobs may be left.

    Args:
      cluster: of dask-jobqueue, whose kind of jobs is made by `ffn.distributed.batch_jobs.with_mark`.
      system: the batch system's name.
    """
    left, failed = cluster.job_cls.left, list[Exception]()
    # Instead of `join`: where a signal ends that, the thread does not seem to be alive any more.
    closed = threading.Event()
    cluster.shutdown_on_close = False  # at the end of this process, Dask would wait again

    def end() -> None:
        try:
            cluster.close()
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            failed.append(error)
        finally:
            closed.set()

    threading.Thread(target=end, name='end of jobs', daemon=True).start()
    try:
        _wait(closed, left, system)
    finally:
        if not closed.is_set() and (jobs := _described(list(left))):
            logging.warning('%s: jobs may still be in the queue: %s', system, jobs)
    if failed:
        raise failed[0]


def _wait(closed: threading.Event, left: set[Any], system: str) -> None:
    """Waits as long as the batch system answers."""
    known, now = _ids(left), time.monotonic()
    limit, tell_at = now + LIMIT_S, now + TOLD_AFTER_S
    while not closed.wait(WAKE_UP_S) and now < limit:
        before, known, now = known, _ids(left), time.monotonic()
        if known != before:
            limit = now + LIMIT_S
        if now >= tell_at:
            tell_at = math.inf
            asked = {job.cancel_command if known[job] else job.submit_command for job in known}
            logging.info(
                '%s: waiting up to %.0f s for %s to answer; Ctrl-C or SIGTERM ends this at once',
                system,
                LIMIT_S,
                ' and '.join(sorted(asked)) or 'Dask',
            )


def _ids(jobs: Collection[Any]) -> dict[Any, str | None]:
    return {job: job.job_id for job in list(jobs)}  # they change meanwhile


def _described(jobs: Collection[Any]) -> str:
    """Which jobs these are, and how to cancel them; '' for none."""
    ids, parts = sorted(str(job.job_id) for job in jobs if job.job_id), []
    for job in list(jobs)[:1]:
        if ids:
            parts.append(f'{", ".join(ids)} (cancel them: {job.cancel_command} {" ".join(ids)})')
        if unknown := len(jobs) - len(ids):
            parts.append(
                f'{unknown} for which {job.submit_command} has not answered (cancel those that the queue shows '
                f'as {job.job_name})'
            )
    return ', and '.join(parts)
