"""The log as JSON, one event a line, for those who collect the logs of many processes.

`--log_json` turns it on, for this process and those that it starts; jobs of a batch system inherit it through
the environment variable FFN_LOG_JSON=1. Lines go where the log goes otherwise, standard error.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

_VARIABLE = 'FFN_LOG_JSON'
# What is being worked on, for the events meanwhile; a value may be a function that is called for each of them.
_fields: ContextVar[Mapping[str, Any]] = ContextVar('fields', default={})  # noqa: B039 - never changed


def turn_on() -> None:
    """Logs as JSON from now on, in this process and those that it starts."""
    os.environ[_VARIABLE] = '1'
    begin()


def begin() -> None:
    """Makes the log of this process JSON if that was turned on in one that started it."""
    if is_on():
        # Here, since what grows objects needs no absl.
        from absl import logging as absl_logging

        formatter = _Formatter()
        for handler in (absl_logging.get_absl_handler(), *absl_logging.get_absl_logger().handlers):
            handler.setFormatter(formatter)


def is_on() -> bool:
    """Whether the log is JSON."""
    return os.environ.get(_VARIABLE, '') not in ('', '0')


@contextlib.contextmanager
def fields(**values: Any) -> Iterator[None]:
    """Adds fields to the events that this thread logs while the context lasts.

    Args:
      **values: numbers, texts, or functions that return one, called for each event.
    """
    token = _fields.set({**_fields.get(), **values})
    try:
        yield
    finally:
        _fields.reset(token)


def say(line: str, level: str = 'INFO') -> None:
    """Writes a line for the user to standard error, as it is or as an event."""
    print(_event(line, level) if is_on() else line, file=sys.stderr)


def _event(message: str, level: str, seconds: float | None = None) -> str:
    now = datetime.datetime.now(datetime.UTC)
    time = now if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    known = {name: value() if callable(value) else value for name, value in _fields.get().items()}
    return json.dumps(
        {
            'time': time.isoformat(timespec='milliseconds'),
            'level': level,
            'host': socket.gethostname(),
            'process': os.getpid(),
            **known,
            'message': message,
        }
    )


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record; a traceback is part of its message."""
        message = record.getMessage()
        if record.exc_info:
            message += '\n' + self.formatException(record.exc_info)
        return _event(message, record.levelname, record.created)
