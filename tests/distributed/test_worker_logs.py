"""What the processes log that work for a command."""

from __future__ import annotations

import io
import json

import pytest
from absl import logging

from ffn.distributed.pool import open_pool
from ffn.utils import event_log, startup
from tests.loaded import run_loaded


def log(number: int) -> str:
    """A task that returns the log of its process."""
    [handler] = logging.get_absl_logger().handlers
    before = handler.setStream(stream := io.StringIO())
    with event_log.fields(subvolume='1_2_3', step=lambda: number):
        logging.info('it works')
        logging.warning('without a GPU')
    handler.setStream(before)
    return stream.getvalue()


@pytest.fixture
def verbosity(monkeypatch):
    """Sets how much this process logs."""
    monkeypatch.setenv('FFN_DASHBOARD', ':0')
    monkeypatch.setenv('FFN_LOG_JSON', '')
    logger = logging.get_absl_logger()
    before = logger.level  # which is none at first, unlike the verbosity
    yield logging.set_verbosity
    logger.setLevel(before)


def logs(scheduler: str) -> list[str]:
    """Lines of a task in a process of its own."""
    with open_pool(scheduler, 2 if scheduler == 'none' else 1) as pool:
        [(_, lines)] = pool.run(log, [(7,)])
    return lines.splitlines()


@pytest.mark.parametrize('scheduler', ['none', 'local'])
def test_they_log_as_their_command_does(scheduler, verbosity, monkeypatch):
    verbosity(logging.INFO)
    monkeypatch.setenv('FFN_LOG_JSON', '1')
    events = [json.loads(line) for line in logs(scheduler)]
    assert [(e['message'], e['subvolume'], e['step']) for e in events] == [
        ('it works', '1_2_3', 7),
        ('without a GPU', '1_2_3', 7),
    ]
    monkeypatch.setenv('FFN_LOG_JSON', '0')
    # Lines would break a progress bar.
    monkeypatch.setattr(startup, 'has_terminal', lambda: True)
    [line] = logs(scheduler)
    assert line.startswith('W')
    assert line.endswith('] without a GPU')


def test_how_much_they_log(verbosity, monkeypatch):
    for bar, asked, expected in (
        (False, logging.DEBUG, logging.DEBUG),
        (True, logging.DEBUG, logging.WARNING),
        (True, logging.ERROR, logging.ERROR),
    ):
        monkeypatch.setattr(startup, 'has_terminal', lambda bar=bar: bar)
        verbosity(asked)
        assert startup.verbosity_of_workers() == expected


@pytest.mark.parametrize('as_json', ['0', '1'])
def test_a_job_logs_everything(repository, tmp_path, monkeypatch, as_json):
    """As do workers of a scheduler that runs already."""
    monkeypatch.setenv('FFN_LOG_JSON', as_json)
    monkeypatch.setenv('PYTHONPATH', str(repository))
    program = (
        'from absl import logging; from ffn.distributed.dask_pool import attempt; from ffn.utils import trust\n'
        'for line in ("one", "two"): attempt(trust.current(), "", logging.info, line)'
    )
    done = run_loaded(tmp_path, '-c', program)
    lines = done.stderr.splitlines()
    if as_json == '1':
        assert [json.loads(line)['message'] for line in lines] == ['one', 'two']
    else:
        assert [line[0] + line.partition('] ')[2] for line in lines] == ['Ione', 'Itwo']
