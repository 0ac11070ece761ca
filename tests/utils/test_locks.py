"""One command at a time in a folder."""

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from ffn.utils import locks, processes
from ffn.utils.errors import UserError
from ffn.utils.locks import exclusive_directory, one_writer


def test_the_second_one_is_refused(tmp_path):
    with exclusive_directory(tmp_path / 'new'), exclusive_directory(tmp_path / 'other'):
        with (
            pytest.raises(UserError, match=r'another command works in .*new'),
            exclusive_directory(tmp_path / 'new'),
        ):
            pass
    with exclusive_directory(tmp_path / 'new'):
        pass


def test_a_lock_ends_with_its_process(tmp_path, repository):
    program = (
        'import sys, time; from ffn.utils.locks import one_writer, exclusive_directory\n'
        'with exclusive_directory(sys.argv[1]):\n    print("locked", flush=True); time.sleep(600)'
    )
    other = subprocess.Popen(
        [sys.executable, '-c', program, tmp_path], cwd=repository, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b'locked\n'
    with pytest.raises(UserError), exclusive_directory(tmp_path):
        pass
    other.kill()
    other.communicate()
    with exclusive_directory(tmp_path):
        pass


def test_a_lock_of_another_user(tmp_path):
    """One that may be read only."""
    with exclusive_directory(tmp_path):
        pass
    (tmp_path / '.lock').chmod(0o444)
    with exclusive_directory(tmp_path):
        pass


def test_writers_wait_for_each_other(tmp_path, caplog):
    path, inside, order = tmp_path / 'new' / 'a.h5', threading.Event(), []

    def first():
        with one_writer(path) as locked:
            assert locked
            inside.set()
            while 'waiting for another command that writes to' not in caplog.text:
                pass
            order.append(1)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    with one_writer(path):
        order.append(2)
    thread.join()
    assert order == [1, 2]
    assert not list(path.parent.iterdir())


def test_locks_are_open_for_writing(tmp_path, monkeypatch):
    """As NFS wants it."""
    modes = []
    monkeypatch.setattr(locks.fcntl, 'flock', lambda file, how: modes.append(file.mode))
    with exclusive_directory(tmp_path), one_writer(tmp_path / 'a'):
        pass
    assert modes == ['r+', 'r+']


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def flock(file, how):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(locks.fcntl, 'flock', flock)
    with exclusive_directory(tmp_path), one_writer(tmp_path / 'a') as locked:
        assert not locked
    assert caplog.text.count('No locks available') == 2


# Other hosts: to them, the holder shows that it lives.


def write_holder(path, host='0' * 8, pid=7, seconds_ago=0.0):
    """A lock file as another host leaves it."""
    holder = {'host': host, 'pid': pid, 'hostname': 'far', 'since': 'noon', 'token': 'other'}
    path.write_text(json.dumps(holder))
    at = path.stat().st_mtime - seconds_ago
    os.utime(path, (at, at))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(locks, '_SETTLED_S', 0.01)


def test_a_living_holder_on_another_host(tmp_path):
    write_holder(tmp_path / '.lock', seconds_ago=100)
    message = r'another command works in .* \(process 7 on far, since noon; .* try again in 120 s\)'
    with pytest.raises(UserError, match=message), exclusive_directory(tmp_path):
        pass
    assert json.loads((tmp_path / '.lock').read_text())['hostname'] == 'far'


def test_a_dead_holder_on_another_host(tmp_path):
    write_holder(tmp_path / '.lock', seconds_ago=121)
    with exclusive_directory(tmp_path) as lock:
        lock.check()
        assert json.loads((tmp_path / '.lock').read_text())['pid'] == os.getpid()
    assert (tmp_path / '.lock').read_text() == ''


def test_ages_are_told_by_the_clock_of_the_files(tmp_path, monkeypatch):
    """That of this host may be hours off."""
    monkeypatch.setattr(time, 'time', lambda: 0.0)
    write_holder(tmp_path / '.lock', seconds_ago=100)
    assert processes.age_s(tmp_path / '.lock') == pytest.approx(100, abs=5)
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']


def test_the_holder_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, '_heart', processes._Heart(0.01))
    with exclusive_directory(tmp_path):
        os.utime(tmp_path / '.lock', (0, 0))
        wait_until(lambda: (tmp_path / '.lock').stat().st_mtime > 1e9)
    os.utime(tmp_path / '.lock', (0, 0))
    time.sleep(0.1)
    assert (tmp_path / '.lock').stat().st_mtime == 0


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_lock_that_was_taken_over(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(processes, '_heart', processes._Heart(0.01))
    with exclusive_directory(tmp_path) as lock:
        lock.check()
        write_holder(tmp_path / '.lock')
        with pytest.raises(UserError, match='was taken over by process 7 on far'):
            lock.check()
        wait_until(lambda: 'another command has begun although this one lives' in caplog.text)
    assert json.loads((tmp_path / '.lock').read_text())['hostname'] == 'far'


def test_two_hosts_that_take_a_dead_lock_at_once(tmp_path, monkeypatch):
    """The one that writes last has it."""
    write_holder(tmp_path / '.lock', seconds_ago=500)
    write = locks.Holder.write

    def write_then_other(self, file):
        write(self, file)
        write_holder(tmp_path / '.lock', host='1' * 8)

    monkeypatch.setattr(locks.Holder, 'write', write_then_other)
    with pytest.raises(UserError, match='process 7 on far'), exclusive_directory(tmp_path):
        pass


@pytest.mark.parametrize('ends', [False, True])
def test_a_process_of_this_host_without_locks(tmp_path, monkeypatch, ends):
    """Its number says whether it lives."""

    def flock(file, how):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(locks.fcntl, 'flock', flock)
    other = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    if ends:
        other.communicate()
    write_holder(tmp_path / '.lock', processes.Process.this().host, other.pid, seconds_ago=900)
    with contextlib.nullcontext() if ends else pytest.raises(UserError, match='another command'):
        with exclusive_directory(tmp_path):
            pass
    other.communicate()


def test_a_writer_on_another_host_is_waited_for(tmp_path):
    place = tmp_path / '.a.h5.lock'
    write_holder(place)
    with one_writer(tmp_path / 'a.h5', pause=lambda _: place.unlink()) as locked:
        assert locked
    assert not list(tmp_path.iterdir())


def test_waiting_for_another_host_asks_ever_more_rarely(tmp_path, monkeypatch):
    """And leaves it to the clock of this host when the other one can be dead at the earliest."""
    place, seconds, ages, age_s = tmp_path / '.a.h5.lock', [], [], processes.age_s
    write_holder(place, seconds_ago=20)
    clock = SimpleNamespace(monotonic=lambda: sum(seconds), sleep=time.sleep)
    monkeypatch.setattr(processes, 'time', clock)
    monkeypatch.setattr(processes, 'age_s', lambda path: ages.append(path) or age_s(path))

    def pause(more):
        seconds.append(more)
        now = sum(seconds)
        write_holder(place, seconds_ago=now + 20 if now < 15 else now - 15)  # dead from then on

    with one_writer(tmp_path / 'a.h5', pause):
        assert 135 <= sum(seconds) < 150
    assert len(ages) == 3
    assert seconds[:7] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10])


def test_where_others_take_turns_it_is_asked_often(tmp_path):
    """Otherwise each of many waits out its longest pause, while nobody has the file."""
    place, seconds = tmp_path / '.a.h5.lock', []
    write_holder(place, pid=1000)

    def pause(more):
        seconds.append(more)
        if len(seconds) % 3 == 0:
            write_holder(place, pid=1000 + len(seconds))
        if len(seconds) == 9:
            place.unlink()

    with one_writer(tmp_path / 'a.h5', pause):
        assert seconds == pytest.approx([0.2, 0.4, 0.8] * 3)


def test_waiting_can_be_given_up(tmp_path):
    write_holder(tmp_path / '.a.h5.lock')

    def pause(_):
        raise InterruptedError

    with pytest.raises(InterruptedError), one_writer(tmp_path / 'a.h5', pause=pause):
        pytest.fail('entered')
    assert [path.name for path in tmp_path.iterdir()] == ['.a.h5.lock']


@pytest.mark.parametrize('text', ['', 'x', '[]', '{"host": 1}', '{"host": "a", "pid": "b"}'])
def test_a_lock_file_that_says_nothing(tmp_path, text):
    (tmp_path / '.lock').write_text(text)
    with exclusive_directory(tmp_path):
        pass
