import contextvars
import itertools
import signal
import threading
import time

import numpy as np
import pytest

from ffn.inference import executor as executors
from ffn.inference.core.counters import Calls, Counters
from ffn.inference.executor import Executor


class Patch:
    """A field of view."""

    fov, value = (3, 4, 5), 0

    def show(self, image, seed):
        image[...], seed[...] = self.value, 0


QUESTION = Patch()


def slow(images, seeds):
    """A network that takes so long that the others come meanwhile."""
    time.sleep(0.001)
    return seeds


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


def run_threads(threads):
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


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
