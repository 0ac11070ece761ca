"""Record bytes, read by TensorFlow, which verifies both checksums and parses the message."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ffn.training.sampling import coordinate_records
from ffn.training.sampling.coordinate_records import CenterRecords

COORDINATE = st.one_of(
    st.integers(-3, 300), st.integers(-(2**62), 2**62), st.sampled_from([127, 128, 16383, 16384])
)


def read(path, data: bytes) -> list[bytes]:
    """The records of a TFRecord file, read by TensorFlow."""
    path.write_bytes(data)
    return [record.numpy() for record in tf.data.TFRecordDataset(str(path))]


def parsed(record: bytes) -> tuple[str, list[int]]:
    """Volume name and centre of an Example."""
    feature = tf.train.Example.FromString(record).features.feature
    assert set(feature) == {'center', 'label_volume_name'}
    (name,) = feature['label_volume_name'].bytes_list.value
    return name.decode(), list(feature['center'].int64_list.value)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.lists(st.tuples(*[COORDINATE] * 3), min_size=1, max_size=5))
@example('n' * 130, [(0, 127, 128), (16383, 16384, 2**62)])
@example('negative', [(-1, 5, -(2**62)), (7, 5, 0)])
def test_tensorflow_reads_what_was_written(tmp_path_factory, name, centers):
    xyz = np.array(centers, np.int64)
    records = CenterRecords(name, xyz.min(axis=0), xyz.max(axis=0))
    rows = records.encode(xyz)
    assert rows.shape == (len(centers), records.length)
    path = tmp_path_factory.getbasetemp() / 'some.tfrecord'
    found = [parsed(record) for record in read(path, rows.tobytes())]
    assert found == [(name, list(center)) for center in centers]


def test_fast_parser_of_the_input_pipeline_reads_padded_varints():
    xyz = np.array([[0, 1, 2], [3, 300, 70000]], np.int64)
    rows = CenterRecords('volume', xyz.min(axis=0), xyz.max(axis=0)).encode(xyz)
    examples = [row[12:-4].tobytes() for row in rows]
    batch = tf.io.parse_example(
        examples,
        {
            'center': tf.io.FixedLenFeature([3], tf.int64),
            'label_volume_name': tf.io.FixedLenFeature([], tf.string),
        },
    )
    np.testing.assert_array_equal(batch['center'], xyz)
    assert batch['label_volume_name'].numpy().tolist() == [b'volume', b'volume']


def test_tensorflow_refuses_a_flipped_bit(tmp_path):
    """So the tests above do check the checksums."""
    xyz = np.array([[10, 20, 30]], np.int64)
    row = CenterRecords('volume', xyz[0], xyz[0]).encode(xyz)[0]
    for position in (3, 9, len(row) - 6, len(row) - 1):
        damaged = row.copy()
        damaged[position] ^= 1
        with pytest.raises(tf.errors.DataLossError):
            read(tmp_path / 'damaged', damaged.tobytes())


def test_checksum_of_the_standard():
    """RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and ascending."""
    rows = np.stack([np.zeros(32), np.full(32, 255), np.arange(32)]).astype(np.uint8)
    state = coordinate_records._crc_advance(np.full(3, 0xFFFFFFFF, np.uint32), rows)
    assert (~state).tolist() == [0x8A9136AA, 0x62A8AB43, 0x46DD794E]


def test_same_framing_as_tensorflow_writes(tmp_path):
    xyz = np.array([[200, 300, 400]], np.int64)
    row = CenterRecords('train', xyz[0], xyz[0]).encode(xyz)[0].tobytes()
    length = struct.unpack('<Q', row[:8])[0]
    with tf.io.TFRecordWriter(str(tmp_path / 'reference')) as writer:
        writer.write(row[12 : 12 + length])
    assert (tmp_path / 'reference').read_bytes() == row
