"""Assembling: speed, memory with the number of subvolumes, and the ids of 100,000 subvolumes.

    python -m benchmarks.bench_assembly

Labels are those of points' nearest regions, 2,000 in 512 x 512 x 512 voxels, periodic; they are cut into
subvolumes of 160 voxels a side that share 32 (64 of them, and 512 for 1024 x 1024 x 1024 voxels).
The rate per core is voxels of the whole volume by seconds of processor time, of all threads.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fastremap
import numpy as np
from scipy.spatial import cKDTree

from benchmarks import measure
from ffn.assembly import assembly as steps
from ffn.assembly.config import Assembly
from ffn.assembly.matching import Matching
from ffn.assembly.overlaps import Overlap
from ffn.assembly.reconcile import reconcile
from ffn.assembly.tiling import SubvolumeSet, Tiling
from ffn.assembly.write import default_chunk
from ffn.distributed.local_pools import InProcess
from ffn.inference import storage
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec

PERIOD, CORE, OVERLAP, OBJECTS, COARSE = 512, 128, 32, 2000, 4
GRID, IDS, SHARED = (50, 50, 40), 300, 100


def labels() -> np.ndarray:
    """Periodic regions, uint16 [z, y, x]."""
    side = PERIOD // COARSE
    rng = np.random.default_rng(0)
    tree = cKDTree(rng.uniform(0, side, (OBJECTS, 3)), boxsize=side)
    grid = np.stack(np.meshgrid(*3 * [np.arange(side)], indexing='ij'), axis=-1)
    coarse = tree.query(grid.reshape(-1, 3))[1].reshape(3 * [side]).astype(np.uint16)
    for axis in range(3):
        coarse = coarse.repeat(COARSE, axis)
    return coarse


def make_tiling(side: int, core: int = CORE) -> Tiling:
    """Cores of 128 voxels a side, or as said, in a cube."""
    size, overlap = core + OVERLAP, OVERLAP
    return Tiling(Box.of_shape(3 * (side,)), Xyz(*3 * [size]), Xyz(*3 * [overlap]))


def write_subvolumes(folder: Path, whole: np.ndarray, tiling: Tiling) -> None:
    """Writes subvolumes with ids of their own; equal ones are one file with several names."""
    written: dict[tuple, Path] = {}
    for place in tiling.places():
        box = tiling.subvolume(place)
        kind = tuple(start % PERIOD for start in box.start), box.size
        path = storage.subvolume_path(folder, box.start.zyx, 'npz')
        if kind in written:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(written[kind], path)
            continue
        index = (
            np.arange(a, a + n) % PERIOD for a, n in zip(box.start.zyx, box.size.zyx, strict=True)
        )
        part = whole[np.ix_(*index)]
        ids, own = np.unique(part, return_inverse=True)
        own = np.random.default_rng(len(written)).permutation(len(ids))[own.reshape(part.shape)]
        storage.save_result(folder, box.start.zyx, own + 1, {}, b'', {}, {})
        written[kind] = path


def now() -> np.ndarray:
    """Wall time, and processor time of this process and all its threads, seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([time.perf_counter(), used.ru_utime + used.ru_stime])


def speed(folder: Path, whole: np.ndarray) -> None:
    """Prints the rate of each step for several kinds of output."""
    tiling, pool = make_tiling(PERIOD), InProcess()
    places, voxels = SubvolumeSet(tiling), PERIOD**3 / 1e6
    for form in (
        'zarr',
        'zarr3',
        'precomputed',
        'zarr3 in shards',
        'precomputed in shards',
        'n5',
        'h5',
    ):
        scheme, _, sharded = form.partition(' ')
        spec = f'{folder}/out.h5:seg' if form == 'h5' else f'{scheme}://{folder}/out-{form}'
        shard = Xyz(CORE, CORE, CORE) if sharded else None
        assembly = Assembly(
            folder / 'results',
            tiling,
            (),
            Matching(),
            OutputSpec(spec, tiling.box, default_chunk(tiling), (8.0, 8.0, 8.0), shard),
            folder / f'assembly-{form}',
        )
        steps.claim_output(assembly)
        shutil.rmtree(assembly.overlaps, ignore_errors=True)
        times = [now()]
        crcs = steps.count_overlaps(assembly, places, pool, quiet=True)
        times.append(now())
        steps.assign_global_ids(assembly, places, crcs, quiet=True)
        times.append(now())
        steps.write_output(assembly, places, crcs, pool, quiet=True)
        times.append(now())
        if form == 'zarr':
            line('overlaps', voxels, times[0], times[1])
            line('ids', voxels, times[1], times[2])
        line(f'writing {form}', voxels, times[2], times[3])
        line(f'all, {form}', voxels, times[0], times[3])
    check(assembly, whole)


def line(name: str, voxels: float, begin: np.ndarray, end: np.ndarray) -> None:
    """Prints one measurement."""
    wall, processor = end - begin
    print(
        f'{name:29s} {wall:7.2f} s {voxels / wall:8.1f} Mvx/s '
        f'{voxels / processor:8.1f} Mvx/s per core',
        flush=True,
    )


def check(assembly: Assembly, whole: np.ndarray) -> None:
    """Ends the bench where the volume is not what was cut."""
    import h5py

    path, _, name = assembly.output.spec.rpartition(':')
    with h5py.File(path, 'r') as file:
        found = file[name][: PERIOD // 4]
    expected = whole[: PERIOD // 4]
    pairs = fastremap.unique(found * np.uint64(OBJECTS) + expected)
    if len(pairs) != len(fastremap.unique(found)):
        sys.exit('error: the assembled volume merges what was cut')


def memory(folder: Path, whole: np.ndarray) -> None:
    """Prints the peak memory of the command for 64 and for 512 subvolumes."""
    peaks = []
    for side, core in ((PERIOD, CORE), (2 * PERIOD, CORE), (3 * 288, 288)):
        tiling, results = make_tiling(side, core), folder / f'results-{side}'
        write_subvolumes(results, whole, tiling)
        seconds, peak = measure.command(
            [
                '-m',
                'ffn.assembly.assemble',
                '--segmentation',
                results,
                '--bounding_box',
                str(tiling.box.to_proto()),
                '--subvolume_size',
                ','.join(map(str, tiling.size)),
                '--overlap',
                ','.join(map(str, tiling.overlap)),
                '--quiet',
                '--output',
                f'zarr://{folder}/whole-{side}',
            ],
            1,
        )
        peaks.append(peak)
        print(
            f'{len(tiling):4d} subvolumes of {tiling.size}: {seconds:7.1f} s, peak {peak:6.0f} MB',
            flush=True,
        )
        shutil.rmtree(results)
    more = (peaks[2] - peaks[1]) * 1e6 / ((288 + OVERLAP) ** 3 - (CORE + OVERLAP) ** 3)
    print(f'peak of 512 by that of 64 subvolumes {peaks[1] / peaks[0]:8.2f}')
    print(f'bytes for each voxel of a larger subvolume {more:5.1f}')


def simulated(tiling: Tiling) -> Iterator[tuple[Xyz, Overlap]]:
    """Overlaps as of a long tract along each axis: every subvolume passes on 100 of its 300 ids."""
    ids = np.arange(1, IDS + 1, dtype=np.uint64)
    rng = np.random.default_rng(1)
    tables = []
    for _ in range(64):
        own, other = (rng.permutation(IDS)[:SHARED].astype(np.uint64) + np.uint64(1) for _ in '12')
        voxels = rng.integers(100, 5000, SHARED).astype(np.uint64)
        both = np.stack([own, other, voxels], axis=1)
        beside = np.stack([own, 0 * other, voxels // np.uint64(9)], axis=1)
        tables.append(np.concatenate([both, beside]))
    sizes = rng.integers(1000, 100000, IDS)
    for place in tiling.places():
        shared = {
            axis: tables[(tiling.index(place) * 3 + axis) % len(tables)]
            for axis in range(3)
            if tiling.next_place(place, axis) is not None
        }
        yield place, Overlap(ids, sizes, shared)


def many(folder: str) -> None:
    """Reconciles 100,000 simulated subvolumes; run in a process of its own."""
    size = CORE + OVERLAP
    side = Xyz(*(n * CORE for n in GRID))
    tiling = Tiling(Box(Xyz(0, 0, 0), side), Xyz(*3 * [size]), Xyz(*3 * [OVERLAP]))
    begin = time.perf_counter()
    for _ in simulated(tiling):
        pass
    made = time.perf_counter() - begin
    peaks, done = {'RssAnon': 0.0, 'VmRSS': 0.0}, threading.Event()
    watching = threading.Thread(target=watch, args=(peaks, done))
    watching.start()
    begin = time.perf_counter()
    found = reconcile(tiling, simulated(tiling), Matching(), folder)
    seconds = time.perf_counter() - begin - made
    done.set()
    watching.join()
    disk = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
    print(
        f'{found["subvolumes"]} subvolumes, {found["pairs_of_subvolumes"]} pairs of them, '
        f'{found["ids"]} ids, {found["edges"]} edges, {found["objects"]} objects'
    )
    print(
        f'{seconds:.0f} s; peak {peaks["RssAnon"]:.0f} MB, {peaks["VmRSS"]:.0f} MB with the parts '
        f'of files that are mapped; {disk:.0f} MB on disk'
    )


def watch(peaks: dict[str, float], done: threading.Event) -> None:
    """Keeps the greatest memory of this process, MB, until `done`."""
    while not done.wait(0.05):
        status = Path('/proc/self/status').read_text()
        for name in peaks:
            for kilobytes in re.findall(rf'{name}:\s*(\d+) kB', status):
                peaks[name] = max(peaks[name], int(kilobytes) * 1.024e-3)


def main() -> None:
    """Prints the figures."""
    parser = measure.parser(__doc__)
    parser.add_argument('--only', default='', choices=['', 'speed', 'memory', 'many'])
    parser.add_argument('--many_in', default='', help='folder; used by the bench itself')
    args = parser.parse_args()
    if args.many_in:
        many(args.many_in)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if args.only in ('', 'speed'):
            write_subvolumes(folder / 'results', labels(), make_tiling(PERIOD))
            speed(folder, labels())
        if args.only in ('', 'memory'):
            memory(folder, labels())
        if args.only in ('', 'many'):
            # In a process of its own, so that the peak is that of the reconciliation.
            own = ['-m', 'benchmarks.bench_assembly', '--many_in', str(folder / 'many')]
            subprocess.run([sys.executable, *own], check=True)


if __name__ == '__main__':
    measure.run_bench(main)
