"""Ctrl-C in a notebook, in the thread that leads and in one that waits."""

import signal
import threading
import time

import numpy as np
import pytest

from ffn.inference import executor as executors
from ffn.inference.core.counters import Calls
from ffn.inference.executor import Executor
from tests.inference.questions import QUESTION, ask, slow


def test_an_interruption_by_hand_is_not_for_ever():
    """In a notebook, the same executor is used again after Ctrl-C."""

    def predict(images, seeds):
        if np.any(images == 2):
            raise KeyboardInterrupt
        return seeds

    executor, patch = Executor(predict), np.zeros((3, 4, 5), np.float32)
    with pytest.raises(KeyboardInterrupt):
        ask(executor, patch + 2, patch)
    assert not ask(executor, patch, patch).any()


def test_a_thread_that_was_interrupted_in_its_sleep_neither_leads_nor_is_gone_on_with():
    """Ctrl-C in a notebook, while another thread goes on with the floods of both."""
    patch, begun, goes_on = np.zeros((3, 4, 5), np.float32), threading.Event(), threading.Event()
    executor = Executor(lambda images, seeds: (time.sleep(0.001), seeds)[1], 2)
    steps, unwound = [0, 0], []

    def flood(number):
        try:
            for _ in range(3000 if number else 200):
                yield QUESTION
                steps[number] += 1
                if sum(steps) > 20:
                    begun.set()
                if number == 0 and steps[0] == 100:
                    assert goes_on.wait(30)
        finally:
            unwound.append(number)

    def other():
        with executor.active():
            executor.run(flood(0), Calls())
            executor.run(flood(0), Calls())

    def interrupted(number, frame):
        raise KeyboardInterrupt('by hand')

    def interrupt():
        assert begun.wait(30)
        signal.pthread_kill(main, signal.SIGUSR1)

    before, main = signal.signal(signal.SIGUSR1, interrupted), threading.main_thread().ident
    threads = [threading.Thread(target=other, daemon=True), threading.Thread(target=interrupt)]
    try:
        threads[0].start()
        while not steps[0]:
            time.sleep(0.001)
        threads[1].start()
        with pytest.raises(KeyboardInterrupt, match='by hand'), executor.active():
            executor.run(flood(1), Calls())
    finally:
        signal.signal(signal.SIGUSR1, before)
    goes_on.set()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert unwound[0] == 1
    assert steps[1] < 3000
    assert steps[0] == 400
    assert not ask(executor, patch, patch).any()


class Interrupting:
    """A lock that is interrupted as soon as it has been released, in the thread that waits for it."""

    def __init__(self):
        self._lock = threading.Lock()
        self.release = self._lock.release

    def acquire(self, blocking=True):
        if not blocking:
            return self._lock.acquire(blocking=False)
        self._lock.acquire()
        self._lock.release()
        raise KeyboardInterrupt('by hand')


def test_a_thread_that_was_interrupted_when_it_was_to_lead_has_another_one_lead(monkeypatch):
    executor, raised, begun = Executor(slow, 3), [], []

    class Job(executors._Job):
        __slots__ = ()

        def __init__(self, flood, calls):
            super().__init__(flood, calls)
            if threading.current_thread().name == 'interrupted':
                self.awake = Interrupting()
                self.awake.acquire(blocking=False)

    monkeypatch.setattr(executors, '_Job', Job)

    def flood(number, steps):
        begun.append(number)
        for _ in range(steps):
            yield QUESTION

    def client(number, steps):
        try:
            executor.run(flood(number, steps), Calls())
        except KeyboardInterrupt:
            raised.append(number)

    threads = [
        threading.Thread(target=client, args=(i, steps), name=name, daemon=True)
        for i, (name, steps) in enumerate([('leads', 40), ('interrupted', 1000), ('last', 60)])
    ]
    for number, thread in enumerate(threads):
        thread.start()
        while number not in begun:
            time.sleep(0.001)
    for thread in threads:
        thread.join(timeout=10)
        assert not thread.is_alive()
    assert raised == [1]
    assert not ask(executor, np.zeros((3, 4, 5)), np.zeros((3, 4, 5))).any()


def test_an_interruption_while_others_are_at_work_leaves_them_alone():
    """Ctrl-C in a notebook, in the thread that waits for its answer."""
    at_work, goes_on, both = threading.Event(), threading.Event(), threading.Barrier(2)

    def predict(images, seeds):
        at_work.set()
        assert goes_on.wait(30)
        return seeds

    executor, patch = Executor(predict), np.zeros((3, 4, 5), np.float32)

    def other(begins):
        with executor.active():
            both.wait()
            assert begins.wait(30)
            for _ in range(3):
                ask(executor, patch, patch)

    def interrupted(number, frame):
        raise KeyboardInterrupt('by hand')

    before = signal.signal(signal.SIGUSR1, interrupted)
    main = threading.main_thread().ident
    timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGUSR1))
    at_once, later = threading.Event(), threading.Event()
    at_once.set()
    threads = [threading.Thread(target=other, args=(e,), daemon=True) for e in (at_once, later)]
    try:
        for thread in threads:
            thread.start()
        assert at_work.wait(30)
        timer.start()
        with pytest.raises(KeyboardInterrupt, match='by hand'):
            ask(executor, patch, patch)
    finally:
        signal.signal(signal.SIGUSR1, before)
    later.set()
    goes_on.set()
    for thread in threads:
        thread.join(timeout=10)
        assert not thread.is_alive()
