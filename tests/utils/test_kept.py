"""What was read last is kept, up to so many bytes."""

import collections
from multiprocessing.pool import ThreadPool

import pytest

from ffn.utils.kept import Kept


def counting(**given):
    """Keeps texts, which are read from themselves, and counts what is read."""
    counts = collections.Counter()

    def read(key):
        counts[key] += 1
        if key == 'none':
            raise OSError('there is none')
        return key

    return Kept(read, len, **given), counts


def test_those_that_were_used_last_are_kept():
    kept, counts = counting(most_bytes=6)
    for key in ('aa', 'bb', 'cc', 'aa', 'ddd', 'aa', 'ddd', 'bb'):
        assert kept.get(key) == key
    assert counts == {'aa': 1, 'bb': 2, 'cc': 1, 'ddd': 1}


@pytest.mark.parametrize('least', [1, 2])
def test_the_least_is_kept_whatever_its_size(least):
    kept, counts = counting(most_bytes=0, least=least)
    for key in ('aa', 'aa', 'bb', 'aa', 'bb'):
        kept.get(key)
    assert counts['aa'] == 3 - least


def test_threads_wait_for_what_is_read_and_try_again_what_was_not():
    kept, counts = counting()
    with ThreadPool(8) as pool:
        pool.map(kept.get, ['aa', 'bb'] * 16)
    for _ in range(2):
        with pytest.raises(OSError, match='there is none'):
            kept.get('none')
    assert counts == {'aa': 1, 'bb': 1, 'none': 2}
