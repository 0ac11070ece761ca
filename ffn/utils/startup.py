"""What commands show: their own log, and not the lines that TensorFlow's libraries print."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from absl import logging


@contextlib.contextmanager
def startup_messages_hidden() -> Iterator[None]:
    """Keeps back what is written to the process' standard error, and shows it if loading fails.

    Python's own writes are kept back as well, so nothing but imports belongs into it. With
    TF_CPP_MIN_LOG_LEVEL set, nothing is hidden: whoever sets it wants to see what it selects. Later
    messages stay away as well; what goes wrong arrives as an exception.
    """
    if 'TF_CPP_MIN_LOG_LEVEL' in os.environ:
        yield
        return
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
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


def show_log() -> None:
    """Shows what a command says of its progress, such as the address of Dask's dashboard."""
    logger = logging.get_absl_logger()
    if not logger.handlers:  # the root's would show all that Dask has to say as well
        logger.addHandler(logging.get_absl_handler())
        logger.propagate = False
    logging.set_verbosity(logging.INFO)
