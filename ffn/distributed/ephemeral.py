"""Dask workers that live no longer than the command that started them.

Needs the extra [cluster].
"""

from __future__ import annotations

import logging
import signal

from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin


class EphemeralWorkerPlugin(WorkerPlugin):
    """Plugin of workers that live as long as their command, which alone reports how it ends."""

    name = 'of-this-command'

    def setup(self, worker: Worker) -> None:
        """Ignores Ctrl-C, which is for the command; that ends its workers."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def teardown(self, worker: Worker) -> None:
        """Silences the worker before its connections close: its last heartbeat gets no answer."""
        logging.getLogger('distributed.worker').setLevel(logging.CRITICAL)
