import contextlib
import signal
import threading
import time

import numpy as np
import pytest

from ffn.inference import executor as executors
from ffn.inference.core.counters import Counters
from ffn.inference.executor import Executor


def ask(executor, image, seed):
    return executor.client(Counters()).predict(image, seed)


def run_clients(executor, clients, steps, think=0.0):
    """Every client asks for its own number's field of view, again and again."""
    results, errors = {}, []
    entered = threading.Barrier(clients)

    def client(number):
        with executor.active():
            entered.wait()
            try:
                seed = np.full((3, 4, 5), number, np.float32)
                for _ in range(steps):
                    seed = ask(executor, np.full((3, 4, 5), number, np.float32), seed)
                    time.sleep(think)
                results[number] = seed
            except RuntimeError as error:
                errors.append(error)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    return results, errors


@pytest.mark.parametrize(('clients', 'batch'), [(1, 1), (1, 4), (3, 1), (5, 4), (8, 8), (7, 16)])
def test_everyone_gets_the_answer_to_their_own_question(clients, batch):
    sizes = []

    def predict(images, seeds):
        sizes.append(len(images))
        assert images.shape == seeds.shape == (len(images), 3, 4, 5, 1)
        return seeds + images

    results, errors = run_clients(Executor(predict, batch), clients, 20)
    assert not errors
    assert {n: int(seed[0, 0, 0]) for n, seed in results.items()} == {
        n: 21 * n for n in range(clients)
    }
    assert sum(sizes) == clients * 20
    assert max(sizes) <= batch


def test_batches_fill_when_there_are_enough_clients():
    sizes = []

    def predict(images, seeds):
        sizes.append(len(images))
        time.sleep(0.01)
        return seeds

    run_clients(Executor(predict, 4), 4, 30)
    assert np.mean(sizes) > 3


def test_fewer_clients_than_a_batch_do_not_wait_for_more():
    def predict(images, seeds):
        time.sleep(0.005)
        return seeds

    begin = time.monotonic()
    run_clients(Executor(predict, 16), 2, 40)
    assert time.monotonic() - begin < 1.5


def test_a_failure_reaches_every_client_as_it_was():
    failure = RuntimeError('device lost')

    def predict(images, seeds):
        time.sleep(0.005)
        if np.any(images == 2):
            raise failure
        return seeds

    executor = Executor(predict, 2)
    _, errors = run_clients(executor, 5, 50, think=0.001)
    assert len(errors) == 5
    assert all(error is failure for error in errors)
    with pytest.raises(RuntimeError, match='device lost'):
        ask(executor, np.zeros((3, 4, 5), np.float32), np.zeros((3, 4, 5), np.float32))


def test_a_network_that_returns_what_it_was_given_does_not_mix_results_up():
    """The arrays that hold a batch are used again for the next."""
    results, errors = run_clients(Executor(lambda images, seeds: images, 3), 6, 30)
    assert not errors
    assert {n: set(np.unique(seed).tolist()) for n, seed in results.items()} == {
        n: {n} for n in range(6)
    }


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


def test_a_client_that_stays_away_is_not_waited_for_again_and_again():
    """It is active, but computes something for long; the others must not stop at every batch."""
    steps, seconds = 60, 0.02
    executor = Executor(lambda images, seeds: (time.sleep(seconds), seeds)[1], 2)
    patch, ready, done = np.zeros((3, 4, 5), np.float32), threading.Event(), threading.Event()

    def away():
        with executor.active():
            ask(executor, patch, patch)
            ready.set()
            done.wait(30)

    thread = threading.Thread(target=away)
    thread.start()
    assert ready.wait(30)
    begin = time.monotonic()
    with executor.active():
        for _ in range(steps):
            ask(executor, patch, patch)
    elapsed = time.monotonic() - begin
    done.set()
    thread.join(timeout=30)
    assert elapsed < 1.5 * steps * seconds


def test_clients_take_turns(monkeypatch):
    """All of them awake at once would take the interpreter from each other."""
    for limit in ('LONGEST_TURN_S', 'SLEEP_S', 'LONGEST_SLEEP_S'):
        monkeypatch.setattr(executors, limit, 30.0)
    clients, awake, most = 6, set(), []
    executor = Executor(lambda images, seeds: (time.sleep(0.002), seeds)[1], clients)
    patch, entered = np.zeros((3, 4, 5), np.float32), threading.Barrier(clients)

    def client():
        with executor.active():
            entered.wait()
            for _ in range(10):
                ask(executor, patch, patch)
                awake.add(threading.get_ident())
                time.sleep(0.002)
                most.append(len(awake))
                awake.discard(threading.get_ident())

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert len(most) == 10 * clients
    # Beside those whose turn it is, one that has just led a batch.
    assert max(most) <= executors.TURNS + 1


def test_a_client_that_stays_away_in_its_turn_loses_it():
    clients, steps = 4, 50
    executor = Executor(lambda images, seeds: (time.sleep(0.002), seeds)[1], clients)
    patch, entered, done = (
        np.zeros((3, 4, 5), np.float32),
        threading.Barrier(clients + 1),
        threading.Event(),
    )

    def client(stays_away):
        with executor.active():
            entered.wait()
            for step in range(steps):
                ask(executor, patch, patch)
                if stays_away and step == 5:
                    assert done.wait(30)

    threads = [threading.Thread(target=client, args=(i == 0,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    entered.wait()
    begin = time.monotonic()
    for thread in threads[1:]:
        thread.join(timeout=30)
        assert not thread.is_alive()
    elapsed = time.monotonic() - begin
    assert threads[0].is_alive()
    done.set()
    threads[0].join(timeout=30)
    assert elapsed < 5


def test_turns_of_threads_that_are_not_active_do_not_stay():
    executor = Executor(lambda images, seeds: (time.sleep(0.03), seeds)[1], 2)
    patch = np.zeros((3, 4, 5), np.float32)

    def client(active):
        with executor.active() if active else contextlib.nullcontext():
            for _ in range(5):
                ask(executor, patch, patch)
                time.sleep(0.03)

    threads = [threading.Thread(target=client, args=(i % 2 == 0,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert not executor._turns


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


def test_every_client_is_charged_its_share():
    def predict(images, seeds):
        time.sleep(0.01)
        return seeds

    executor, counters = Executor(predict, 4), [Counters() for _ in range(3)]
    patch = np.zeros((3, 4, 5), np.float32)
    for steps, own in enumerate(counters):
        for _ in range(steps):
            executor.client(own).predict(patch, patch)
    assert [own['inference-calls'] for own in counters] == [0, 1, 2]
    assert counters[0]['inference-time-ms'] == 0
    assert counters[2]['inference-time-ms'] >= 20
