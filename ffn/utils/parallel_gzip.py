"""Writing gzip with several threads: one ordinary gzip member with the same bytes in every run."""

from __future__ import annotations

import collections
import os
import struct
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

LEVEL = 1
_HEADER = b'\x1f\x8b\x08\0' + bytes(4) + b'\x04\xff'  # no name, no time, fastest, unknown system
_MAX_THREADS = 8


def write_gzip(file: BinaryIO, parts: Iterable[Callable[[], bytes]]) -> None:
    """Writes what the parts return, in order.

    Each part is made and compressed in a thread of its own and ends on a byte boundary (a deflate sync
    flush), so that the pieces form one stream (RFC 1951, RFC 1952). Only a few finished parts are held.

    Args:
      file: opened for writing bytes.
      parts: functions that return uncompressed bytes.
    """
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    crc, size = 0, 0
    file.write(_HEADER)
    with ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque = collections.deque()

        def write_next() -> None:
            nonlocal crc, size
            data, compressed = waiting.popleft().result()
            crc, size = zlib.crc32(data, crc), size + len(data)
            file.write(compressed)

        for part in parts:
            waiting.append(pool.submit(_deflate, part))
            if len(waiting) > 2 * threads:
                write_next()
        while waiting:
            write_next()
    file.write(zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS).flush(zlib.Z_FINISH))
    file.write(struct.pack('<II', crc, size & 0xFFFFFFFF))


def _deflate(part: Callable[[], bytes]) -> tuple[bytes, bytes]:
    data = part()
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return data, stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
