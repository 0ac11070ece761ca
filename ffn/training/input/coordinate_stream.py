"""An endless, reproducible stream of coordinates: read from shards, mixed by volume, shuffled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from ffn.training.input.coordinate_files import FEATURES, with_counts
from ffn.training.input.rare_volumes import RareVolumes
from ffn.training.input.untuned import untuned

_SHUFFLE_BUFFER = 2**14
_FILES_AT_ONCE = 16
# Records that are parsed, and coordinates that are skipped, at a time.
_BLOCK = 2**10
# Records that are parsed at a time where none are skipped: the first step waits for as many.
_SHORT_BLOCK = 2**6


def coordinate_dataset(
    files: Sequence[str],
    seed: int,
    skip: int = 0,
    volume_weights: Mapping[str, float] | None = None,
    usable: Mapping[str, int] | None = None,
    shard: tuple[int, int] = (0, 1),
    skipped: Callable[[int], None] = lambda count: None,
    rare: RareVolumes | None = None,
) -> tf.data.Dataset:
    """Coordinates without end, reshuffled on every pass; to be iterated over once.

    Equal arguments give the same coordinates in the same order; with `skip`, the same stream without
    its first coordinates, which are read before this returns.

    Args:
      files: GZIP TFRecords of tf.train.Example.
      seed: of the order.
      skip: number of coordinates to skip at the beginning.
      volume_weights: name → share of the coordinates; empty: as frequent as they are in the files.
      usable: file → number of records to read from it; other files are read to their end.
      shard: (i, n): process i of n gets every n-th coordinate (of each volume that has a weight);
        with one seed, the processes together see every coordinate once in a pass.
      skipped: called with a number of coordinates whenever so many more are skipped; may raise to give up.
      rare: of these files; volumes of few coordinates that need not be looked for, in the same order.

    Returns:
      Dataset of (number int64, center int64 [3] x, y, z, volume name), numbers counted from `skip`.
    """
    if volume_weights:
        names = sorted(name for name, weight in volume_weights.items() if weight > 0)
        total = sum(volume_weights.values())
        mixed = tf.data.Dataset.sample_from_datasets(
            [_stream(files, seed, usable, shard, name, rare).repeat() for name in names],
            [volume_weights[name] / total for name in names],
            seed=seed + shard[0],
        )
    else:
        mixed = _stream(files, seed, usable, shard).repeat()
    parsed = mixed.batch(_BLOCK if skip else _SHORT_BLOCK).map(_parse)
    blocks = untuned(parsed).as_numpy_iterator()
    for _ in range(skip // _BLOCK):
        next(blocks)
        skipped(_BLOCK)
    # Handed over: TensorFlow keeps the function for ever, and its end must end the buffers of the blocks.
    held = [blocks]
    rest = tf.data.Dataset.from_generator(held.pop, output_signature=parsed.element_spec)
    return (
        rest.unbatch()
        .skip(skip % _BLOCK)
        .enumerate(skip)
        .map(lambda number, coordinate: (number, *coordinate))
    )


def _parse(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    features = tf.io.parse_example(records, FEATURES)
    return features['center'], features['label_volume_name']


def _stream(
    files: Sequence[str],
    seed: int,
    usable: Mapping[str, int] | None,
    shard: tuple[int, int],
    name: str = '',
    rare: RareVolumes | None = None,
) -> tf.data.Dataset:
    """Records of all files, or of one volume, reshuffled whenever the dataset is repeated."""
    at_once = min(len(files), _FILES_AT_ONCE)
    if rare is not None and name in rare:
        numbers = tf.data.Dataset.range(len(files))
        records = rare.in_turn(name, _shuffled(numbers, len(files), seed), at_once)
    else:
        records = _shuffled(with_counts(files, usable), len(files), seed).interleave(
            lambda file, count: tf.data.TFRecordDataset(file, compression_type='GZIP').take(count),
            cycle_length=at_once,
        )
        if name:
            # Filtered before sharding: otherwise one process might get all records of a volume.
            blocks = records.batch(_BLOCK)
            records = blocks.map(lambda block: _of_volume(block, name)).unbatch()
    records = records.shard(shard[1], shard[0])
    return _shuffled(records, _SHUFFLE_BUFFER, seed)


def _shuffled(dataset: tf.data.Dataset, buffer: int, seed: int) -> tf.data.Dataset:
    return dataset.shuffle(buffer, seed=seed, reshuffle_each_iteration=True)


def _of_volume(records: tf.Tensor, name: str) -> tf.Tensor:
    """The records of one volume; many are looked at together, as most are of others."""
    return tf.boolean_mask(records, _parse(records)[1] == name)
