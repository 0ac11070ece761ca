"""Waiting for workers."""

from __future__ import annotations

import logging
import threading
import time
from types import SimpleNamespace

import pytest
from distributed import LocalCluster

from ffn.distributed import watch
from ffn.distributed.pool import open_pool
from ffn.utils.errors import UserError


@pytest.fixture
def told(caplog, monkeypatch):
    """What is logged, with a minute of a tenth of a second."""
    caplog.set_level(logging.INFO, 'absl')
    monkeypatch.setattr(watch, 'POLL_S', 0.01)
    monkeypatch.setattr(watch, 'FIRST_LINE_S', 0.1)
    return lambda: [record.getMessage() for record in caplog.records if record.name == 'absl']


def wait_for(lines, text: str) -> None:
    deadline = time.monotonic() + 60
    while not any(text in line for line in lines()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_scheduler_without_workers(told):
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=':0') as cluster,
        open_pool(cluster.scheduler_address),
    ):
        wait_for(told, f'for 0 min: start some with dask worker {cluster.scheduler_address}')


def wait_in(client) -> None:
    """What waits for results of a client until it is closed."""
    while client.status == 'running':
        time.sleep(0.01)
    raise KeyError('of a client that is closed')


def made_client(workers: dict[str, int]):
    """A client that can be closed."""
    made = SimpleNamespace(nthreads=lambda callback_timeout: workers, status='running')
    made.close = lambda: setattr(made, 'status', 'closed')
    return made


def test_it_is_told_ever_more_rarely_while_there_is_none(told, monkeypatch):
    monkeypatch.setattr(watch, 'FIRST_LINE_S', 60)
    seconds, workers = iter(range(0, 2000, 20)), {}
    monkeypatch.setattr(watch, 'time', SimpleNamespace(monotonic=lambda: now))
    client, now = made_client(workers), 0

    def look() -> str:
        nonlocal now
        if (now := next(seconds, -1)) < 0:
            raise UserError('it ends')
        workers.update({'tcp://127.0.0.1:1': 1} if now == 1000 else {})
        if now == 1040:
            workers.clear()
        return 'a queue'

    with pytest.raises(UserError, match='it ends'), watch.watched(client, look):
        wait_in(client)
    assert told() == [
        f'no worker has been connected for {minutes} min: a queue'
        for minutes in (1, 2, 4, 8, 16) * 2
    ]


def test_a_look_that_fails_is_told_once_and_repeated(told):
    looks, client = [], made_client({'tcp://127.0.0.1:1': 1})

    def look() -> str:
        looks.append(1)
        if len(looks) < 5:
            raise TimeoutError('it is busy')
        if len(looks) > 9:
            raise UserError('no worker will come')
        return ''

    with pytest.raises(UserError, match='no worker will come'), watch.watched(client, look):
        wait_in(client)
    assert told() == ['workers cannot be looked after: it is busy']
    assert len(looks) == 10


def test_looking_and_telling_do_not_hinder_each_other(told):
    """There is no folder in which to look, and still it is told that there is no worker; and the reverse."""
    looks, client = [], made_client({})

    def look() -> str:
        looks.append(1)
        raise OSError('no such folder')

    with watch.watched(client, look):
        wait_for(told, 'no worker has been connected for 0 min')
    client.nthreads = None
    with watch.watched(client, lambda: looks.append(1) or ''):
        wait_for(told, 'TypeError')
        looks.clear()
        deadline = time.monotonic() + 60
        while len(looks) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert sum('no such folder' in line for line in told()) == 1


def test_a_scheduler_that_does_not_answer_does_not_keep_a_command(told, monkeypatch):
    monkeypatch.setattr(watch, 'LAST_LOOK_S', 0.05)
    asked, released, limits = threading.Event(), threading.Event(), []
    client = made_client({})

    def ask(callback_timeout: float) -> dict[str, int]:
        limits.append(callback_timeout)
        asked.set()
        released.wait(20)
        raise OSError('it is closed')

    client.nthreads = ask
    with watch.watched(client, lambda: ''):
        asked.wait(60)
        start = time.monotonic()
    assert time.monotonic() - start < 10
    released.set()
    time.sleep(0.1)
    assert told() == []
    assert limits == [watch.ANSWER_S]
