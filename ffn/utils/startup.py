"""What commands and their workers show on standard error: their own log, and not what TensorFlow prints while it loads."""

from __future__ import annotations

import contextlib
import gc
import logging as standard_logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

from absl import logging

from ffn.utils import event_log
from ffn.utils.progress import has_terminal

# Hides all but fatal messages; where it is set already, this module did so before, here or in the process that began this one.
_VARIABLE, _LEVEL = 'TF_CPP_MIN_LOG_LEVEL', '3'
_lock = threading.RLock()


@contextlib.contextmanager
def startup_messages_hidden() -> Iterator[None]:
    """Holds back what is written to the process's standard error, and shows it if loading fails.

    What Python writes is held back too, so only imports belong inside. Nothing is hidden if
    TF_CPP_MIN_LOG_LEVEL is set below 3: whoever sets it wants to see what it selects. Messages that TensorFlow
    logs later do not appear either; errors arrive as exceptions.
    """
    hides = os.environ.setdefault(_VARIABLE, _LEVEL) == _LEVEL
    with _lock, _nothing_collected(), _stderr_hidden() if hides else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Keeps Python from looking for garbage: there is none in modules, and it takes a tenth of loading."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def _stderr_hidden() -> Iterator[None]:
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            hidden.seek(0)
            os.write(shown, hidden.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)


def show_log(verbosity: int = logging.INFO) -> None:
    """Shows the log of a command, or of a process that works for one, on standard error.

    Args:
      verbosity: absl's.
    """
    logger = logging.get_absl_logger()
    if not logger.handlers:  # the root's would show all that Dask logs as well
        # Not absl's own handler, which complains that it has parsed no flags.
        handler = standard_logging.StreamHandler()
        handler.setFormatter(logging.PythonFormatter())
        logger.addHandler(handler)
        logger.propagate = False
    event_log.begin()
    logging.set_verbosity(verbosity)


def verbosity_of_workers() -> int:
    """How much the processes log that this one starts on its machine: what it does, but only warnings beside a bar."""
    verbosity: int = logging.get_verbosity()
    return min(verbosity, logging.WARNING) if has_terminal() else verbosity


def show_log_of_worker() -> None:
    """Shows all that a worker logs which this machine's command has not started, such as a job of a batch system.

    One that is asked to by `show_log` before keeps to that.
    """
    if not logging.get_absl_logger().handlers:
        show_log()
