"""Shards of coordinates whose x is a number of their own."""

from __future__ import annotations

import tensorflow as tf

from ffn.training.input.coordinate_stream import coordinate_dataset

SHARDS = 3


def write_shards(folder, count=30, names=('v',), shards=SHARDS):
    """Centres with a number of their own, x, dealt out to files and volumes in turn."""
    files = []
    for shard in range(shards):
        path = folder / f'c-{shard:05d}-of-{shards:05d}'
        with tf.io.TFRecordWriter(str(path), 'GZIP') as writer:
            for x in range(shard, count, shards):
                writer.write(record((x, 3, 4), names[x // shards % len(names)]))
        files.append(str(path))
    return files


def record(center, name):
    def feature(**kind):
        return tf.train.Feature(**kind)

    features = {
        'center': feature(int64_list=tf.train.Int64List(value=center)),
        'label_volume_name': feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_records(path, records):
    with tf.io.TFRecordWriter(str(path), 'GZIP') as writer:
        for one in records:
            writer.write(one)
    return str(path)


def take(count, files, seed=1, **kwargs):
    """(number, x, name) of the first coordinates."""
    stream = coordinate_dataset(files, seed, **kwargs).take(count).as_numpy_iterator()
    return [(int(number), int(xyz[0]), name.decode()) for number, xyz, name in stream]
