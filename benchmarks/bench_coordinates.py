"""Time and memory of build_coordinates on the partitions of the real sample volume.

    python -m benchmarks.bench_coordinates --data FOLDER

The ratio is to the obvious way: a tf.train.Example object per record, written by a TFRecordWriter.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import h5py
import numpy as np

from benchmarks import measure
from ffn.training.sampling.partition_config import PartitionConfig
from ffn.training.sampling.partitions import write_partitions
from ffn.utils.geometry import Xyz

BASELINE_RECORDS = 50_000


def object_per_record(path: Path, partitions: np.ndarray) -> None:
    """Writes records one by one with TensorFlow's objects."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    voxels = rng.choice(np.flatnonzero(partitions != 255), BASELINE_RECORDS)
    centers = np.stack(np.unravel_index(voxels, partitions.shape)[::-1], axis=1)
    with tf.io.TFRecordWriter(str(path), 'GZIP') as writer:
        for center in centers:
            name = tf.train.BytesList(value=[b'train'])
            feature = {
                'center': tf.train.Feature(int64_list=tf.train.Int64List(value=center)),
                'label_volume_name': tf.train.Feature(bytes_list=name),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


def main() -> None:
    """Prints the figures."""
    args = measure.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure.write_labels(Path(folder, 'labels.h5'), measure.sample_labels(args.data))
        config = PartitionConfig(measure.README_THRESHOLDS, Xyz(24, 24, 24))
        _, counts = write_partitions(
            f'{folder}/labels.h5:stack', f'{folder}/p.h5:af', config, quiet=True
        )
        records = len(counts) * int(counts.max())
        output = Path(folder, 'coordinates')
        flags = [
            'build_coordinates.py',
            f'--partition_volumes=train:{folder}/p.h5:af',
            f'--coordinate_output={output}',
            '--margin=24,24,24',
            '--seed=1',
        ]
        time_s, peak_mb = measure.command(flags, args.repeats)
        print(f'{records} records: {len(counts)} partitions x {counts.max()}')
        print(f'whole command         {time_s:8.2f} s     (target 40 s)')
        print(f'peak memory           {peak_mb:8.0f} MB    (target 800 MB)')
        size = output.stat().st_size
        print(f'file                  {size / 1e6:8.0f} MB, {size / records:.1f} bytes per record')

        os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
        with h5py.File(f'{folder}/p.h5', 'r') as file:
            partitions = file['af'][:]
        reference = Path(folder, 'reference')
        object_per_record(reference, partitions)
        slow = measure.seconds(lambda: object_per_record(reference, partitions), 3)
        ours, theirs = records / time_s, BASELINE_RECORDS / slow
        print(
            f'{ours:.0f} records/s; an object per record {theirs:.0f} records/s; '
            f'ratio {ours / theirs:.1f}'
        )


if __name__ == '__main__':
    measure.run_bench(main)
