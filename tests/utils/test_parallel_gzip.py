"""The gzip written by several threads is an ordinary one."""

from __future__ import annotations

import gzip
import io
import os
import time
import zlib

import pytest

from ffn.utils.parallel_gzip import write_gzip


def written(parts) -> bytes:
    """What write_gzip makes of functions."""
    file = io.BytesIO()
    write_gzip(file, parts)
    return file.getvalue()


def part(data: bytes, delay: float = 0.0):
    """A function that takes its time to return data."""

    def make() -> bytes:
        time.sleep(delay)
        return data

    return make


@pytest.mark.parametrize('number', [0, 1, 2, 40])
def test_one_member_with_the_parts_in_order(number):
    pieces = [os.urandom(200 * i) + bytes(5000) for i in range(number)]
    # Later parts are ready sooner.
    packed = written(part(piece, 0.02 / (i + 1)) for i, piece in enumerate(pieces))
    assert gzip.decompress(packed) == b''.join(pieces)
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert stream.decompress(packed) == b''.join(pieces)
    assert stream.eof
    assert not stream.unused_data


def test_same_bytes_each_time():
    pieces = [bytes(range(256)) * 100, b'seed' * 1000]
    assert written(map(part, pieces)) == written(map(part, pieces))


def test_few_parts_are_made_ahead():
    made, written_sizes = [], []

    class Slow(io.BytesIO):
        def write(self, data: bytes) -> int:
            written_sizes.append(len(made))
            return super().write(data)

    def parts():
        for i in range(200):
            made.append(i)
            yield part(bytes(10))

    write_gzip(Slow(), parts())
    # Sizes at the header, at each part and at the end: the lead over what is written stays small.
    lead = max(ahead - at for at, ahead in enumerate(written_sizes))
    assert lead <= 2 * min(8, os.cpu_count()) + 1


def test_a_failing_part_is_raised():
    def fails() -> bytes:
        raise OSError('disk is gone')

    with pytest.raises(OSError, match='disk is gone'):
        written([part(b'abc'), fails, part(b'def')])
