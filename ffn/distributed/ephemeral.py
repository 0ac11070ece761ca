"""Dask workers that live no longer than the command that started them.

Needs the extra [cluster].
"""

from __future__ import annotations

import logging
import signal

from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin

from ffn.utils.startup import show_log


class EphemeralWorkerPlugin(WorkerPlugin):
    """Plugin of workers that live as long as their command, which alone reports how it ends."""

    name = 'of-this-command'

    def __init__(self, verbosity: int):
        """Chooses what they log.

        Args:
          verbosity: absl's.
        """
        self._verbosity = verbosity

    def setup(self, worker: Worker) -> None:
        """Logs as its command does, and ignores Ctrl-C, which is for the command; that ends its workers."""
        show_log(self._verbosity)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def teardown(self, worker: Worker) -> None:
        """Silences the worker before its connections close: its last heartbeat gets no answer."""
        logging.getLogger('distributed.worker').setLevel(logging.CRITICAL)
