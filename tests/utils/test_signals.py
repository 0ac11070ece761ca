"""Being asked to stop."""

import contextlib
import os
import signal
import threading
import time

import pytest

from ffn.utils.signals import exit_on_sigterm, stop_on_signal, wait_for_stop


@pytest.fixture(autouse=True)
def terminal():
    """SIGHUP as where the tests have a terminal, also if nohup runs them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_contexts_end(number, capsys):
    ended, before = [], signal.getsignal(number)

    def work():
        with exit_on_sigterm(), contextlib.ExitStack() as stack:
            stack.callback(ended.append, True)
            os.kill(os.getpid(), number)
            time.sleep(10)

    with pytest.raises(SystemExit) as caught:
        work()
    assert ended
    assert caught.value.code == 128 + number
    assert capsys.readouterr().err == 'stopped; run again to resume\n'
    assert signal.getsignal(number) == before


def test_in_another_thread_signals_are_left_to_others():
    """As in a service, where Python admits no handlers."""
    done, before = [], signal.getsignal(signal.SIGTERM)

    def work():
        with stop_on_signal(threading.Event()), exit_on_sigterm():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [before]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_work_is_told(number):
    stop = threading.Event()
    with stop_on_signal(stop):
        os.kill(os.getpid(), number)
        assert stop.wait(10)


def test_the_main_thread_wakes_up_for_signals_of_others():
    """A signal may reach any thread; handlers in Python run once the main one wakes up."""
    stop = threading.Event()
    with stop_on_signal(stop):
        sender = threading.Timer(
            0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        )
        sender.start()
        begun = time.monotonic()
        wait_for_stop(stop)
        assert time.monotonic() - begun < 5
        sender.join()


def test_under_nohup_the_terminal_may_go():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with exit_on_sigterm(), stop_on_signal(stop := threading.Event()):
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.wait(0.1)
