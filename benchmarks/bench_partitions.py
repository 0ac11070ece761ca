"""Time and memory of compute_partitions on the real sample volume.

    python -m benchmarks.bench_partitions --data FOLDER

The ratio is to the obvious way, one summed-area table of the whole volume per label, on a crop.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks import measure
from ffn.training.sampling.partition_config import PartitionConfig
from ffn.training.sampling.partitions import compute_partitions
from ffn.utils.geometry import Box, Xyz
from ffn.utils.labels import compact
from ffn.volumes.volume import Volume

CROP_ZYX = (110, 120, 130)


def computed(labels: np.ndarray, config: PartitionConfig) -> np.ndarray:
    """Partitions of a volume of one block."""
    ((_, partitions),) = compute_partitions(Volume('labels', labels, {}), config, quiet=True)
    return partitions


def summed_area_tables(labels: np.ndarray, config: PartitionConfig) -> np.ndarray:
    """The same by whole-volume cumulative sums for every label."""
    width = [2 * r + 1 for r in config.lom_radius.zyx]
    inner = Box.of_shape(labels.shape).shrink(config.lom_radius)
    middle = labels[inner.slices_zyx]
    partitions = np.zeros(middle.shape, np.uint8)
    ids, sizes = np.unique(labels, return_counts=True)
    for label in ids[(sizes >= config.min_size) & (ids != 0)]:
        table = np.pad(labels == label, [(1, 0)] * 3).astype(np.int64)
        for axis in range(3):
            table = table.cumsum(axis)
        counts = np.zeros(middle.shape, np.int64)
        for corner in itertools.product((0, 1), repeat=3):
            part = tuple(
                slice(w, None) if high else slice(0, n - w)
                for high, w, n in zip(corner, width, table.shape, strict=True)
            )
            counts += (-1) ** (3 - sum(corner)) * table[part]
        own = middle == label
        fractions = counts[own] / np.prod(width)
        partitions[own] = np.digitize(fractions, config.thresholds) + 1
    return partitions


def main() -> None:
    """Prints the figures."""
    args = measure.parser(__doc__).parse_args()
    labels = measure.sample_labels(args.data)
    config = PartitionConfig(measure.README_THRESHOLDS, Xyz(24, 24, 24))

    time_s = measure.seconds(lambda: computed(labels, config), args.repeats)
    ids, sizes = np.unique(labels, return_counts=True)
    kept = set(ids[(sizes >= config.min_size) & (ids != 0)].tolist())
    extents = ndimage.find_objects(compact(labels, kept)[0])
    boxes = sum(np.prod([part.stop - part.start for part in extent]) for extent in extents)
    print(f'computation           {time_s:8.2f} s     (target 3.5 s)')
    print(
        f'bounding boxes        {boxes / 1e6:8.1f} M voxels of {len(kept)} objects: '
        f'{time_s / boxes * 1e9:.1f} ns per voxel; labels x volume would be '
        f'{len(kept) * labels.size / 1e6:.0f} M'
    )

    with tempfile.TemporaryDirectory() as folder:
        measure.write_labels(Path(folder, 'labels.h5'), labels)
        whole_s, peak_mb = measure.command(
            [
                'compute_partitions.py',
                f'--input_volume={folder}/labels.h5:stack',
                f'--output_volume={folder}/p.h5:af',
                measure.thresholds_flag(),
                '--lom_radius=24,24,24',
                '--min_size=10000',
            ],
            args.repeats,
        )
    print(f'whole command         {whole_s:8.2f} s     (target 6 s)')
    print(f'peak memory           {peak_mb:8.0f} MB    (target 700 MB)')

    crop = labels[tuple(slice(0, n) for n in CROP_ZYX)]
    small = PartitionConfig(measure.README_THRESHOLDS, Xyz(12, 12, 12), min_size=1000)
    if not np.array_equal(computed(crop, small), summed_area_tables(crop, small)):
        raise SystemExit('error: the two ways of counting differ')
    ours = measure.seconds(lambda: computed(crop, small), args.repeats)
    theirs = measure.seconds(lambda: summed_area_tables(crop, small), args.repeats)
    print(
        f'crop of z,y,x {CROP_ZYX}: {ours:.3f} s; summed-area table per label {theirs:.3f} s; '
        f'ratio {theirs / ours:.1f}'
    )


if __name__ == '__main__':
    measure.run_bench(main)
