"""An endless, reproducible stream of coordinates: read from shards, mixed by volume, shuffled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from ffn.training.input.coordinate_files import with_counts

_SHUFFLE_BUFFER = 2**14
_FILES_AT_ONCE = 16
_FEATURES = {
    'center': tf.io.FixedLenFeature([3], tf.int64),
    'label_volume_name': tf.io.FixedLenFeature([], tf.string),
}


def coordinate_dataset(
    files: Sequence[str],
    seed: int,
    skip: int = 0,
    volume_weights: Mapping[str, float] | None = None,
    usable: Mapping[str, int] | None = None,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Coordinates without end, reshuffled on every pass.

    Equal arguments give the same coordinates in the same order; with `skip`, the same stream without
    its first coordinates.

    Args:
      files: GZIP TFRecords of tf.train.Example.
      seed: of the order.
      skip: number of coordinates to skip at the beginning.
      volume_weights: name → share of the coordinates; empty: as frequent as they are in the files.
      usable: file → number of records to read from it; other files are read to their end.
      shard: (i, n): process i of n gets every n-th coordinate (of each volume that has a weight);
        with one seed, the processes together see every coordinate once in a pass.

    Returns:
      Dataset of (number int64, center int64 [3] x, y, z, volume name), numbers counted from `skip`.
    """
    if volume_weights:
        names = sorted(name for name, weight in volume_weights.items() if weight > 0)
        total = sum(volume_weights.values())
        mixed = tf.data.Dataset.sample_from_datasets(
            [_stream(files, seed, usable, shard, name).repeat() for name in names],
            [volume_weights[name] / total for name in names],
            seed=seed + shard[0],
        )
    else:
        mixed = _stream(files, seed, usable, shard).repeat()
    parsed = (
        mixed.skip(skip)
        .batch(64)
        .map(lambda records: tf.io.parse_example(records, _FEATURES))
        .unbatch()
    )
    return parsed.enumerate(skip).map(
        lambda number, features: (number, features['center'], features['label_volume_name'])
    )


def _stream(
    files: Sequence[str],
    seed: int,
    usable: Mapping[str, int] | None,
    shard: tuple[int, int],
    name: str = '',
) -> tf.data.Dataset:
    """Records of all files, or of one volume, reshuffled whenever the dataset is repeated."""
    records = (
        with_counts(files, usable)
        .shuffle(len(files), seed=seed, reshuffle_each_iteration=True)
        .interleave(
            lambda file, count: tf.data.TFRecordDataset(file, compression_type='GZIP').take(count),
            cycle_length=min(len(files), _FILES_AT_ONCE),
        )
    )
    if name:
        # Filtered before sharding: otherwise one process might get all records of a volume.
        records = records.filter(lambda record: _is_of_volume(record, name))
    records = records.shard(shard[1], shard[0])
    return records.shuffle(_SHUFFLE_BUFFER, seed=seed, reshuffle_each_iteration=True)


def _is_of_volume(record: tf.Tensor, name: str) -> tf.Tensor:
    feature = {'label_volume_name': _FEATURES['label_volume_name']}
    return tf.io.parse_single_example(record, feature)['label_volume_name'] == name
