"""Coordinate records as bytes: tf.train.Example messages in TFRecord framing, many at a time.

All records of one volume have the same length, because coordinates are stored as varints padded to
a fixed width (which protobuf readers accept), and differ only in their last bytes, because
`center` comes last. A chunk of records is therefore a matrix of bytes, filled column by column, and its
checksums start from the state after the constant part. Formats: TFRecord
(tensorflow.org/api_docs/python/tf/io, "TFRecords Format Details"), Example
(tensorflow/core/example/example.proto), CRC-32C (RFC 3720, appendix B.4).
"""

from __future__ import annotations

import struct

import numpy as np

_NEGATIVE_VARINT_BYTES = 10


def _crc_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table


_CRC_TABLE = _crc_table()
_CRC_START = np.full(1, 0xFFFFFFFF, np.uint32)


def _crc_advance(state: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Carries CRC-32C states (uint32 [n]) over the bytes of rows (uint8 [n, length])."""
    for column in data.T:
        state = _CRC_TABLE[(state ^ column) & 0xFF] ^ (state >> 8)
    return state


def _masked(state: np.ndarray) -> np.ndarray:
    """Checksums as TFRecord stores them, from final CRC-32C states, uint32 [n]."""
    crc = ~state
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)


def _varint(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


class CenterRecords:
    """Makes the records of one volume.

    Attributes:
      length: bytes per record, framing included.
    """

    def __init__(self, volume_name: str, first_xyz: np.ndarray, last_xyz: np.ndarray):
        """Lays out the records.

        Args:
          volume_name: `label_volume_name` of all records.
          first_xyz: int64 [3], least coordinates that will occur.
          last_xyz: int64 [3], greatest coordinates.
        """
        self._widths = [
            len(_varint(int(last))) if first >= 0 else _NEGATIVE_VARINT_BYTES
            for first, last in zip(first_xyz, last_xyz, strict=True)
        ]
        name = _field(1, _field(1, volume_name.encode()))
        features = _field(1, _field(1, b'label_volume_name') + _field(2, name))
        center = _field(3, _field(1, bytes(sum(self._widths))))
        features += _field(1, _field(1, b'center') + _field(2, center))
        example = _field(1, features)
        constant = np.frombuffer(example[: -sum(self._widths)], np.uint8)
        size = np.frombuffer(struct.pack('<Q', len(example)), np.uint8)
        size_crc = _masked(_crc_advance(_CRC_START, size[np.newaxis]))
        self._head = np.concatenate([size, size_crc.astype('<u4').view(np.uint8), constant])
        self._state = _crc_advance(_CRC_START, constant[np.newaxis])
        self.length = len(self._head) + sum(self._widths) + 4

    def encode(self, centers_xyz: np.ndarray) -> np.ndarray:
        """Makes records.

        Args:
          centers_xyz: int64 [n, 3], absolute x, y, z.

        Returns:
          uint8 [n, length]: the bytes of one record per row.
        """
        rows = np.empty((len(centers_xyz), self.length), np.uint8)
        rows[:, : len(self._head)] = self._head
        column = len(self._head)
        for values, width in zip(centers_xyz.T.view(np.uint64), self._widths, strict=True):
            for i in range(width):
                more = 0x80 if i < width - 1 else 0
                rows[:, column] = (values >> np.uint64(7 * i)) & np.uint64(0x7F) | np.uint64(more)
                column += 1
        state = _crc_advance(np.repeat(self._state, len(rows)), rows[:, len(self._head) : column])
        rows[:, column:] = _masked(state).astype('<u4').view(np.uint8).reshape(-1, 4)
        return rows
