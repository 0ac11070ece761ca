import threading
import time

import pytest

from ffn.inference.core.counters import Counters


def test_calls_are_counted_with_their_time():
    counters = Counters({'seeds': 3, 'predict-calls': 10, 'predict-time-ms': 100})
    calls = counters.calls('predict')
    for _ in range(4):
        calls.add(600_000)
    assert counters.calls('predict') is calls
    counters.calls('inference')  # none so far: no counter
    assert counters.as_dict() == {'seeds': 3, 'predict-calls': 14, 'predict-time-ms': 102}
    assert counters['predict-calls'] == 14
    assert counters['inference-calls'] == 0


def test_time_so_far_is_seen_while_it_passes():
    counters = Counters()
    with counters.timed('all'):
        time.sleep(0.02)
        assert counters['all-calls'] == 1
        first = counters['all-time-ms']
        assert first >= 20
        with counters.timed('all'):
            time.sleep(0.02)
            assert counters['all-time-ms'] >= first + 40  # twice: once for each
    assert counters['all-calls'] == 2
    assert counters['all-time-ms'] >= first + 40
    ended = counters['all-time-ms']
    time.sleep(0.01)
    assert counters['all-time-ms'] == ended


def test_the_time_before_an_error_counts():
    counters = Counters()
    with pytest.raises(KeyError), counters.timed('all'):
        raise KeyError
    assert counters['all-calls'] == 1


def test_threads_add_to_the_same_counters():
    counters = Counters()

    def add():
        for _ in range(1000):
            counters.add('steps', 2)
            counters.merge({'steps': 1})
            counters.add_time('all-time-ms', 1e-4)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.as_dict() == {'steps': 12000, 'all-time-ms': 400}
