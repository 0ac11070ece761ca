"""Time and memory of evaluating a volume of 1,000³ voxels, streamed from disk.

    python -m benchmarks.bench_evaluation [--size 1000] [--folder FOLDER]

The volume is synthetic: objects about as large as neurites at 10 nm, with 64-bit ids, and a segmentation
that cuts and joins some of them. It is written to FOLDER (a temporary one), as gzipped HDF5 and as
Zarr, before anything is measured; what is there already is used. The ratio is to the obvious way, scikit-image's two scores of whole
arrays, on a crop.
"""

from __future__ import annotations

import contextlib
import resource
import tempfile
from pathlib import Path

import h5py
import numpy as np
import tensorstore as ts
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information

from benchmarks import measure
from ffn.evaluation.blocks import compare_volumes
from ffn.evaluation.evaluation import Evaluation
from ffn.volumes.volume import Volume

TILE = 200
OBJECTS = 150
CHUNK = 64
CROP = 400


def tile_labels(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Objects of one tile, those of the nearest of random points, and a segmentation of them.

    Returns:
      uint64 [z, y, x] each, ids from 1.
    """
    rng = np.random.default_rng(seed)
    points = np.zeros((TILE,) * 3, np.uint16)
    at = rng.integers(0, TILE, (OBJECTS, 3))
    points[tuple(at.T)] = np.arange(1, OBJECTS + 1)
    nearest = ndimage.distance_transform_edt(
        points == 0, return_distances=False, return_indices=True
    )
    # Rough borders, as real objects have them.
    rough = ndimage.map_coordinates(
        points[tuple(nearest)],
        np.indices(points.shape) + rng.normal(0, 0.7, (3, *points.shape)),
        order=0,
        mode='wrap',
    ).astype(np.uint64)
    truth = np.where(rough % 20 == 0, 0, rough)
    joined = np.where(rough % 10 == 1, rough + 1, rough)
    cut = np.where((rough % 5 == 2) & (np.arange(TILE) < TILE // 2), rough + OBJECTS, joined)
    found = np.where(rng.random(rough.shape) < 0.002, 0, cut)
    return truth, found.astype(np.uint64)


def slab(labels: np.ndarray, size: int, z: int) -> np.ndarray:
    """Section z to z + CHUNK of a volume of tiles, each of which has ids of its own."""
    sections = labels[np.arange(z, min(z + CHUNK, size)) % TILE]
    across = -(-size // TILE)
    repeated = np.tile(sections, (1, across, across))[:, :size, :size]
    axis = np.arange(size) // TILE
    deep = np.arange(z, z + len(repeated)) // TILE
    number = (deep[:, None, None] * across + axis[:, None]) * across + axis
    return np.where(repeated > 0, repeated + number.astype(np.uint64) * np.uint64(2**33), 0)


def write(folder: Path, size: int) -> None:
    """Writes truth and segmentation as v.h5 and as truth.zarr and found.zarr."""
    arrays = dict(zip(('truth', 'found'), tile_labels(), strict=True))
    with h5py.File(folder / 'v.h5', 'w') as file:
        for name, labels in arrays.items():
            shape, chunks = (size,) * 3, (min(CHUNK, size),) * 3
            dataset = file.create_dataset(
                name,
                shape,
                np.uint64,
                chunks=chunks,
                compression='gzip',
                compression_opts=1,
                shuffle=True,
            )
            store = ts.open(
                {
                    'driver': 'zarr',
                    'kvstore': {'driver': 'file', 'path': f'{folder}/{name}.zarr'},
                    'metadata': {'chunks': chunks},
                },
                create=True,
                dtype=ts.uint64,
                shape=shape,
            ).result()
            for z in range(0, size, CHUNK):
                part = slab(labels, size, z)
                dataset[z : z + len(part)] = part
                store[z : z + len(part)].write(part).result()


def whole_arrays(truth: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """VOI and adapted Rand error of scikit-image, over the voxels that either labels."""
    counted = (truth > 0) | (found > 0)
    small = [np.unique(a[counted], return_inverse=True)[1] for a in (truth, found)]
    return *variation_of_information(*small), adapted_rand_error(*small, ignore_labels=())[0]


def cpu_seconds() -> float:
    """Processor time of the commands that have ended, which other work on the machine changes little."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Prints the figures."""
    parser = measure.parser(__doc__)
    parser.add_argument('--size', type=int, default=1000, help='voxels along each axis (1000)')
    parser.add_argument('--folder', type=Path, help='where the volumes are written, 2 GB')
    parser.set_defaults(repeats=1)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / 'found.zarr').exists():
            write(folder, args.size)
        voxels = args.size**3
        for kind, specs in (
            ('HDF5, gzip', (f'{folder}/v.h5:truth', f'{folder}/v.h5:found')),
            ('Zarr', (f'{folder}/truth.zarr', f'{folder}/found.zarr')),
        ):
            for boundary in (0, 2):
                before = cpu_seconds()
                time_s, peak_mb = measure.command(
                    [
                        '-m',
                        'ffn',
                        'evaluate',
                        '--groundtruth',
                        specs[0],
                        '--segmentation',
                        specs[1],
                        '--boundary',
                        str(boundary),
                        '--quiet',
                    ],
                    args.repeats,
                )
                busy = (cpu_seconds() - before) / args.repeats
                print(
                    f'{kind:<10} boundary {boundary}: {time_s:6.1f} s, {voxels / time_s / 1e6:5.1f} '
                    f'Mvx/s (target 20); {busy:6.1f} s of processor time, '
                    f'{voxels / busy / 1e6:5.1f} Mvx/s of one core; peak memory {peak_mb:5.0f} MB; '
                    f'both volumes {2 * 8 * voxels / 1e6:.0f} MB',
                    flush=True,
                )
    truth, found = (np.tile(a, (2, 2, 2))[(slice(0, CROP),) * 3] for a in tile_labels())
    volumes = Volume('labels', truth, {}), Volume('labels', found, {})
    ours = measure.seconds(
        lambda: Evaluation.of(compare_volumes(*volumes, box=volumes[0].box)), args.repeats
    )
    theirs = measure.seconds(lambda: whole_arrays(truth, found), args.repeats)
    score = Evaluation.of(compare_volumes(*volumes, box=volumes[0].box)).scores['either']
    if score is None:
        raise SystemExit('error: nothing is labelled')
    if not np.allclose(
        (score.voi_split, score.voi_merge, score.rand_error), whole_arrays(truth, found)
    ):
        raise SystemExit('error: the two ways of counting differ')
    print(
        f'{CROP}³ in memory: {ours:.2f} s, {truth.size / ours / 1e6:.0f} Mvx/s; scikit-image '
        f'{theirs:.2f} s; ratio {theirs / ours:.1f}'
    )


if __name__ == '__main__':
    measure.run_bench(main)
