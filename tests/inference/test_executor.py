import contextvars
import itertools
import threading
import time

import numpy as np
import pytest

from ffn.inference.core.counters import Calls, Counters
from ffn.inference.executor import Executor
from tests.inference.questions import QUESTION, Patch, ask, run_threads, slow


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


def test_floods_go_on_without_their_threads():
    """Threads would take the interpreter from each other: from step to step, all is done by the one that leads."""
    clients, steps, threads_of = 6, 40, {}
    executor, entered = Executor(slow, clients), threading.Barrier(clients)

    def flood(number):
        for _ in range(steps):
            yield QUESTION
            threads_of.setdefault(number, []).append(threading.get_ident())
        return number

    def client(number):
        with executor.active():
            entered.wait()
            assert executor.run(flood(number), Calls()) == number

    run_threads([threading.Thread(target=client, args=(i,)) for i in range(clients)])
    changes = [sum(a != b for a, b in itertools.pairwise(t)) for t in threads_of.values()]
    assert len(changes) == clients
    assert max(changes) < clients


def test_a_flood_goes_on_as_in_its_own_thread():
    """What the log says of its subvolume, above all."""
    name = contextvars.ContextVar('name')
    executor, entered = Executor(slow, 4), threading.Barrier(4)
    seen = {}

    def flood(number):
        for _ in range(20):
            yield QUESTION
            seen.setdefault(number, set()).add(name.get())

    def client(number):
        name.set(f'client {number}')
        with executor.active():
            entered.wait()
            executor.run(flood(number), Calls())

    run_threads([threading.Thread(target=client, args=(i,)) for i in range(4)])
    assert seen == {i: {f'client {i}'} for i in range(4)}


def test_what_a_flood_raises_is_for_its_own_thread():
    executor, entered = Executor(slow, 3), threading.Barrier(5)
    ended, unwound = {}, []

    def flood(number):
        try:
            for step in range(30):
                yield QUESTION
                if number % 2 and step == 3 * number:
                    raise ValueError(f'client {number}')
        finally:
            unwound.append(number)

    def client(number):
        with executor.active():
            entered.wait()
            try:
                executor.run(flood(number), Calls())
                ended[number] = ''
            except ValueError as error:
                ended[number] = str(error)

    run_threads([threading.Thread(target=client, args=(i,)) for i in range(5)])
    assert ended == {0: '', 1: 'client 1', 2: '', 3: 'client 3', 4: ''}
    assert sorted(unwound) == [0, 1, 2, 3, 4]


def test_what_the_network_raises_ends_all_floods():
    unwound, both = [], threading.Barrier(3)

    def predict(images, seeds):
        if both.n_waiting == 0 and len(images) == 3:
            raise RuntimeError('device lost')
        time.sleep(0.001)
        return seeds

    executor, raised = Executor(predict, 3), []

    def flood(number):
        try:
            while True:
                yield QUESTION
        finally:
            unwound.append(number)

    def client(number):
        with executor.active():
            both.wait()
            try:
                executor.run(flood(number), Calls())
            except RuntimeError as error:
                raised.append(error)

    run_threads([threading.Thread(target=client, args=(i,)) for i in range(3)])
    assert sorted(unwound) == [0, 1, 2]
    assert len({id(error) for error in raised}) == 1
    assert len(raised) == 3


@pytest.mark.parametrize(
    ('clients', 'batch', 'beside'), [(4, 2, True), (3, 2, True), (2, 2, False), (5, 4, False)]
)
def test_floods_go_on_while_the_network_runs_for_others(clients, batch, beside):
    """Where more ask than a batch holds, by half of one at least."""
    at_work, met, sizes = threading.Event(), [], []

    def predict(images, seeds):
        sizes.append(len(images))
        at_work.set()
        time.sleep(0.005)
        at_work.clear()
        return images + 1

    executor, entered = Executor(predict, batch), threading.Barrier(clients)

    def flood(number):
        for step in range(20):
            question = Patch()
            question.value = 100 * number + step
            answer = yield question
            time.sleep(0.001)
            met.append(at_work.is_set())
            assert (answer == 100 * number + step + 1).all()

    def client(number):
        with executor.active():
            entered.wait()
            executor.run(flood(number), Calls())

    run_threads([threading.Thread(target=client, args=(i,)) for i in range(clients)])
    assert len(met) == sum(sizes) == 20 * clients
    assert np.mean(met) > 0.5 if beside else not any(met)
    assert max(sizes) == batch


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
