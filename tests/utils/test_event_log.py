"""The log as JSON."""

from __future__ import annotations

import datetime
import json
import os
import socket
import sys
import threading

import pytest
from absl import logging

from ffn.cli.flags import make_parser
from ffn.utils import event_log
from ffn.utils.errors import UserError, exit_status
from ffn.utils.progress import progress


def test_an_event_says_when_and_where(events):
    logging.warning('%s of "%s"\nand more', 3, 'µ')
    [event] = events()
    assert event['message'] == '3 of "µ"\nand more'
    assert (event['level'], event['host']) == ('WARNING', socket.gethostname())
    assert event['process'] == os.getpid()
    now = datetime.datetime.now(datetime.UTC)
    assert abs(now - datetime.datetime.fromisoformat(event['time'])).total_seconds() < 60


def test_events_know_what_is_worked_on(events):
    step = 0
    with event_log.fields(subvolume='1_2_3'):
        with event_log.fields(step=lambda: step):
            step = 7
            logging.info('a')
            other = threading.Thread(target=logging.info, args=('of another thread',))
            other.start()
            other.join()
        logging.info('b')
    logging.info('c')
    named = {e['message']: (e.get('subvolume'), e.get('step')) for e in events()}
    assert named == {
        'a': ('1_2_3', 7),
        'of another thread': (None, None),
        'b': ('1_2_3', None),
        'c': (None, None),
    }


def test_an_exception_is_one_event(events):
    try:
        raise KeyError('gone')
    except KeyError:
        logging.exception('it failed')
    [event] = events()
    assert event['message'].startswith('it failed\nTraceback')
    assert "KeyError: 'gone'" in event['message']


@pytest.mark.usefixtures('events')
def test_mistakes_and_stops_are_events_and_there_is_no_bar(monkeypatch, capsys):
    def fail():
        raise UserError('no such\nthing')

    def stop():
        raise KeyboardInterrupt

    assert exit_status(fail) == 1
    assert exit_status(stop) == 130
    shown = map(json.loads, capsys.readouterr().err.splitlines())
    assert [(e['level'], e['message']) for e in shown] == [
        ('ERROR', 'error: no such thing'),
        ('INFO', 'interrupted'),
    ]
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    list(progress([1, 2, 3]))
    assert capsys.readouterr().err == ''


def test_the_flag_turns_it_on_for_this_process_and_its_children(monkeypatch):
    monkeypatch.setenv('FFN_LOG_JSON', '0')
    before = logging.get_absl_handler().formatter
    assert not event_log.is_on()
    make_parser('segment', 'Does.').parse_args(['--log_json'])
    assert os.environ['FFN_LOG_JSON'] == '1'
    assert event_log.is_on()
    logging.get_absl_handler().setFormatter(before)


def test_without_it_lines_are_as_they_are(monkeypatch, capsys):
    monkeypatch.delenv('FFN_LOG_JSON', raising=False)
    event_log.say('stopped')
    assert capsys.readouterr().err == 'stopped\n'
