"""What `ffn fill` makes of a real segmentation: scores over all voxels, with it and without.

    python -m benchmarks.fill_real --data FOLDER

fills the published segmentation of training_sample2, z < 150, where its settings were chosen, and the rest, z >= 150.
Beside it, every empty voxel goes to the nearest object, whatever the image shows, and distance and smoothing are others.
VOI is in bits. `benchmarks.held_out_real --fill` does the same with a network.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from scipy import ndimage

from benchmarks import measure, real_segmentation
from ffn.agglomeration.fill import Filling, fill
from ffn.evaluation.held_out_score import HeldOutScore, Segmented

SPLIT_Z = 150
PARTS = {'z < 150': slice(0, SPLIT_Z), 'z >= 150': slice(SPLIT_Z, None)}
MAX_DISTANCE = (8.0, 16.0, 64.0)
SMOOTHING = (0.0, 1.0, 2.0)


def nearest(labels: np.ndarray) -> np.ndarray:
    """Gives every empty voxel to the nearest object; integer [z, y, x]."""
    at = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    return labels[tuple(at)]


def ways(labels: np.ndarray, image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Names what is done, and does it."""
    yield 'as it is', labels
    yield 'the nearest object', nearest(labels)
    default = Filling()
    yield (
        f'ffn fill (distance {default.max_distance:g}, smoothing {default.smoothing:g})',
        fill(labels, image, default),
    )
    for distance in MAX_DISTANCE:
        filling = dataclasses.replace(default, max_distance=distance)
        yield f'ffn fill --max_distance {distance:g}', fill(labels, image, filling)
    for smoothing in SMOOTHING:
        filling = dataclasses.replace(default, smoothing=smoothing)
        yield f'ffn fill --smoothing {smoothing:g}', fill(labels, image, filling)


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Prints the table."""
    real_segmentation.write_image(args.data, folder / 'volume.h5')
    with h5py.File(folder / 'volume.h5', 'r') as file:
        image = file['raw'][:]
    truth, labels = measure.sample_labels(args.data), real_segmentation.published(args.data)
    print('| part | | adapted Rand error | VOI split + merge | sum | filled | seconds |')
    print('|---|---|---:|---|---:|---:|---:|')
    for name, part in PARTS.items():
        begin = time.process_time()
        for way, made in ways(labels[part], image[part]):
            seconds = time.process_time() - begin
            score = HeldOutScore.of(truth[part], Segmented(made))
            print(
                f'| {name} | {way} | {score.rand_error:.4f} | {score.voi_split:.3f} + {score.voi_merge:.3f} | '
                f'{score.voi_split + score.voi_merge:.3f} | {score.filled_fraction:.1%} | {seconds:.1f} |',
                flush=True,
            )
            begin = time.process_time()


def main() -> None:
    """Prints the table."""
    args = measure.parser(__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(args, Path(folder))


if __name__ == '__main__':
    measure.run_bench(main)
