"""Meshes and skeletons of a real segmentation: time, size, whether they are closed, volume, memory.

    python -m benchmarks.bench_meshes --data FOLDER

`ffn export` of the published segmentation of training_sample2, 250 x 250 x 250 voxels of 10 nm: first labels alone, then
`--meshes` and then `--skeletons` of that export, so that the times are of these (with the start of a command in them). Meshes
have three levels of detail. Then peak memory of one process, for the sample and for four of them side by side with ids of
their own. Meshes are read back and looked at by code of the tests, which shares nothing with what writes them.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import measure, real_segmentation
from tests.export import mesh_reader

VOXEL, LEVELS = 10.0, 3
SHAPES = ('--meshes', '--skeletons')
CLOSE = 0.01


def export(output: Path, labels: Path, *flags: str) -> tuple[float, float, float]:
    """Runs `ffn export`; returns seconds, seconds of processor time, and the main process's peak memory in MB."""
    size = ','.join(3 * [str(VOXEL)])
    command: list[str | Path] = [
        '-m',
        'ffn',
        'export',
        '--output',
        output,
        '--labels',
        f'{labels}:stack',
    ]
    command += ['--voxel_size', size, '--mesh_levels', str(LEVELS), '--quiet', *flags]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, peak = measure.command(command, 1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, processor, peak


def tiled(labels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The labels several times along y and x, each time with other ids."""
    step = labels.max() + np.uint64(1)
    return np.block(
        [
            [
                np.where(labels > 0, labels + np.uint64(row * columns + column) * step, labels)
                for column in range(columns)
            ]
            for row in range(rows)
        ]
    )


def time_shapes(folder: Path, labels: Path, workers: int, repeats: int) -> None:
    """Prints time and size; leaves the export."""
    export(folder, labels)
    for flag, name in zip(SHAPES, ('mesh', 'skeletons'), strict=True):
        costs = []
        for _ in range(repeats):
            shutil.rmtree(folder / 'labels' / name, ignore_errors=True)
            costs.append(export(folder, labels, flag, '--workers', str(workers)))
        seconds, processor, _ = map(statistics.median, zip(*costs, strict=True))
        files = [p for p in (folder / 'labels' / name).rglob('*') if p.is_file()]
        size = sum(p.stat().st_size for p in files if p.suffix == '.shard') / 1e6
        print(f'{flag}: {seconds:.1f} s, {processor:.1f} s of processor time, {size:.2f} MB')


def check_meshes(folder: Path, labels: np.ndarray) -> None:
    """Prints how many meshes of each level are closed and hold the volume of their voxels."""
    ids, voxels = np.unique(labels[labels > 0], return_counts=True)
    if mesh_reader.segment_ids(folder) != ids.tolist():
        raise SystemExit('error: there is not one mesh for each segment')
    print('level | meshes | triangles | closed | watertight | volume within 1 % | of all voxels')
    meshes = [mesh_reader.read_mesh(folder, segment) for segment in ids.tolist()]
    for level in range(LEVELS):
        found = [
            (*mesh.whole(level), n)
            for mesh, n in zip(meshes, voxels, strict=True)
            if level < len(mesh.levels)
        ]
        triangles = sum(len(faces) for _, faces, _ in found)
        closed = [mesh_reader.is_closed(faces) for _, faces, _ in found]
        tight = [is_watertight(faces) for _, faces, _ in found]
        volumes = np.array([mesh_reader.volume(*one[:2]) for one in found]) / VOXEL**3
        expected = np.array([n for _, _, n in found])
        near = np.abs(volumes / expected - 1) <= CLOSE
        print(
            f'{level} | {len(found)} | {triangles} | {sum(closed)} | {sum(tight)} | {near.sum()} | '
            f'{expected[near].sum() / expected.sum():.2%}'
        )


def is_watertight(triangles: np.ndarray) -> bool:
    """Whether every edge belongs to two triangles, as trimesh's `is_watertight` wants it."""
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    return bool((counts == 2).all())


def main() -> None:
    """Prints the figures."""
    parser = measure.parser(__doc__)
    parser.add_argument('--workers', type=int, default=2, help='processes that share the work')
    args = parser.parse_args()
    labels = real_segmentation.published(args.data)
    with tempfile.TemporaryDirectory() as name:
        for what, y, x in (('sample', 1, 1), ('2×2×1 samples', 2, 2)):
            folder = Path(name, f'{y}{x}')
            folder.mkdir()
            whole = tiled(labels, y, x)
            measure.write_labels(folder / 'v.h5', whole)
            if y == x == 1:
                time_shapes(folder / 'view', folder / 'v.h5', args.workers, args.repeats)
                check_meshes(folder / 'view' / 'labels' / 'mesh', whole)
            export(folder / 'alone', folder / 'v.h5')
            peaks = [export(folder / 'alone', folder / 'v.h5', flag)[2] for flag in SHAPES]
            shown = ', '.join(f'{n:.0f} MB for {f}' for n, f in zip(peaks, SHAPES, strict=True))
            print(f'peak memory, {what} ({len(np.unique(whole)) - 1} segments): {shown}')


if __name__ == '__main__':
    measure.run_bench(main)
