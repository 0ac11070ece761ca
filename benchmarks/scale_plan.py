"""What a segmentation of any size takes: storage, tasks, edges, memory, time.

    python -m benchmarks.scale_plan --data FOLDER

prints the tables of doc/scale.md. Figures of a subvolume come from the published segmentation of
training_sample2, which is cut into overlapping subvolumes here and assembled; times of steps and of
reconciliation are those of doc/performance.md, given below.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import measure, real_segmentation
from ffn.assembly.assembly import assemble
from ffn.assembly.config import Assembly
from ffn.assembly.matching import Matching
from ffn.assembly.overlaps import Overlap, overlap_path
from ffn.assembly.tiling import Tiling
from ffn.distributed.local_pools import InProcess
from ffn.export.pyramid import BLOCK_CHUNKS
from ffn.export.scales import plan_scales
from ffn.inference import storage
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec

# Side of a subvolume, and overlap: cores of 512 voxels.
SIZE, OVERLAP = 544, 32
# doc/performance.md: network steps of the published network for 250³ voxels, coarse to fine; processor time of overlaps
# and writing; pairs of neighbours and edges that are reconciled in a second, without reading; its memory.
STEPS, VOXELS = 12_241, 250**3
ASSEMBLY_VOXELS_PER_CORE_S = 50e6
PAIRS_PER_S, EDGES_PER_S, RECONCILIATION_BYTES = 6_000, 600e3, 262e6
# More of it for each subvolume: its checksum, and where its ids begin; and for each 64 KiB of a table of ids: checksums.
SUBVOLUME_BYTES, CHECKSUM_BYTES = 12, 10
# Peak memory of assembling, less 15 bytes for each voxel of a subvolume; see there.
PROGRAM_BYTES, ASSEMBLY_BYTES_PER_VOXEL = 144e6, 15.0
# seg-X_Y_Z.prob by voxel, of the one box of benchmarks.assembled_real: 5,884,422 bytes for 250³ voxels.
PROBABILITY_BYTES = 5_884_422 / 250**3
# npz, prob, overlap, mark of what is written; sides of a chunk and of a shard.
FILES_OF_SUBVOLUME, CHUNK, SHARD = 4, 64, 512
# Of all steps of four processes together, 27 boxes each, on one NVIDIA H200: see "On a GPU" there.
STEP_S = 0.443e-3
VOLUMES = {
    '250³': (250,) * 3,
    '10 Gvx': (2154,) * 3,
    '1 Tvx': (10_000,) * 3,
    '1 Pvx': (100_000,) * 3,
}


@dataclass(frozen=True)
class Measured:
    """Figures of real subvolumes.

    Attributes:
      result_bytes: npz by voxel.
      ids: by voxel.
      edges: by voxel of an overlap.
      table_bytes: overlap files by voxel of an overlap.
      output_bytes: of the written volume by voxel (precomputed).
      read_s: to read the overlaps of a subvolume.
      canvas_bytes: peak of a canvas and its seed policy by voxel.
    """

    result_bytes: float
    ids: float
    edges: float
    table_bytes: float
    output_bytes: float
    read_s: float
    canvas_bytes: float


def measured(data: Path) -> Measured:
    """Cuts the published segmentation in eight and assembles it."""
    labels = real_segmentation.published(data)
    tiling = Tiling(Box.of_shape(labels.shape), Xyz(157, 157, 157), Xyz(32, 32, 32))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for place in tiling.places():
            box = tiling.subvolume(place)
            part = labels[box.slices_zyx]
            storage.save_result(folder / 'results', box.start.zyx, part, {}, b'', {}, {})
        output = OutputSpec(
            f'precomputed://{folder}/out', tiling.box, Xyz(*3 * [CHUNK]), (8.0, 8.0, 8.0)
        )
        assembly = Assembly(
            folder / 'results',
            tiling,
            (),
            Matching(),
            output,
            folder / 'assembly',
        )
        statistics = assemble(assembly, InProcess(), quiet=True)
        shared = 0
        for place in tiling.places():
            for axis in range(3):
                if (other := tiling.next_place(place, axis)) is not None:
                    both = tiling.subvolume(place).intersection(tiling.subvolume(other))
                    shared += int(np.prod(both.size)) if both else 0
        begin = time.perf_counter()
        for _ in range(25):
            for place in tiling.places():
                Overlap.load(overlap_path(assembly.overlaps, tiling.corner_zyx(place)))
        read = (time.perf_counter() - begin) / 25 / len(tiling)
        return Measured(
            _bytes(folder / 'results', 'seg-*') / tiling.computed_voxels,
            statistics['ids'] / tiling.computed_voxels,
            statistics['edges'] / shared,
            _bytes(folder / 'results', 'overlap-*') / shared,
            _bytes(folder / 'out', '*') / labels.size,
            read,
            canvas_bytes(data),
        )


def canvas_bytes(data: Path) -> float:
    """Peak memory of a canvas of 250³ voxels while its seeds are found, by voxel."""
    with tempfile.TemporaryDirectory() as made:
        real_segmentation.write_image(data, Path(made, 'volume.h5'))
        done = subprocess.run(
            [sys.executable, '-m', 'benchmarks.scale_plan', '--canvas_in', made, '--data', data],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            cwd=measure.ROOT,
        )
    return float(done.stdout.split()[-1])


def print_canvas_bytes(folder: str, data: Path) -> None:
    """Prints what `canvas_bytes` returns; run in a process of its own."""
    from ffn.inference.request import make_config, read_request
    from ffn.inference.runner import Runner
    from ffn.inference.seeds import registry

    request = read_request(str(measure.ROOT / 'configs' / 'inference_training_sample2.pbtxt'))
    request.model_checkpoint_path = str(Path(data, 'fib25/model/model.ckpt-27465036'))
    request.image.hdf5 = f'{folder}/volume.h5:raw'
    with Runner(make_config(request)) as runner:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        canvas = runner.open_canvas(Box.of_shape((250, 250, 250)))
        next(iter(registry.make_policy(canvas.view, 'PolicyPeaks', '')))
        canvas.seed[...] = 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((peak - before) * 1024 / VOXELS)


def _bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def plan(shape: tuple[int, int, int], of: Measured) -> dict[str, str]:
    """Computes the column of a volume."""
    tiling = Tiling(Box.of_shape(shape), Xyz(*3 * [SIZE]), Xyz(*3 * [OVERLAP]))
    voxels, computed = float(np.prod(np.array(shape, float))), float(tiling.computed_voxels)
    x, y, z = tiling.grid
    pairs = (x - 1) * y * z + x * (y - 1) * z + x * y * (z - 1)
    shared = 0.0
    for axis in range(3):
        faces = [float(shape[a]) for a in range(3) if a != axis]
        shared += (tiling.grid[axis] - 1) * OVERLAP * faces[0] * faces[1]
    ids, edges = of.ids * computed, of.edges * shared
    largest = float(np.prod([min(SIZE, n) for n in shape]))
    steps = computed / VOXELS * STEPS
    reconciling = max(pairs / PAIRS_PER_S, edges / EDGES_PER_S) + len(tiling) * of.read_s
    return {
        'subvolumes: tasks of segmentation, and of writing': f'{len(tiling):,}',
        'voxels computed, by those of the volume': f'{computed / voxels:.2f}',
        'image, uint8': size(voxels),
        'results of the subvolumes (npz)': size(of.result_bytes * computed),
        'their probabilities (prob)': size(PROBABILITY_BYTES * computed),
        'files of overlaps': size(of.table_bytes * shared),
        'tables of ids': size(32 * ids + 32 * edges),
        'written volume, precomputed': size(of.output_bytes * voxels),
        'files of the segmentation folder': f'{FILES_OF_SUBVOLUME * len(tiling):,}',
        'files of the written volume, a chunk of 64³ each': f'{files(shape, CHUNK):,}',
        'files of the written volume, in shards of 512³': f'{files(shape, SHARD):,}',
        'files of its export, a chunk each': f'{exported_files(shape, CHUNK):,}',
        'files of its export, in shards of 512³': f'{exported_files(shape, SHARD):,}',
        'pairs of neighbours': f'{pairs:,}',
        'ids of subvolumes': short(ids),
        'edges': short(edges),
        'memory of a worker that segments, for each canvas': size(of.canvas_bytes * largest),
        'memory of a worker that assembles': size(
            PROGRAM_BYTES + ASSEMBLY_BYTES_PER_VOXEL * largest
        ),
        'memory of reconciliation': size(
            RECONCILIATION_BYTES + SUBVOLUME_BYTES * len(tiling) + CHECKSUM_BYTES * 8 * ids / 2**16
        ),
        'network steps': short(steps),
        'segmenting, on an NVIDIA H200': hours(steps * STEP_S, 'GPU'),
        'overlaps and writing': hours(computed / ASSEMBLY_VOXELS_PER_CORE_S, 'core'),
        'reconciliation, one process': hours(reconciling, ''),
    }


def files(shape: Sequence[int], side: int) -> int:
    """Chunks or shards of a volume without empty ones, metadata not counted."""
    return math.prod(-(-n // side) for n in shape)


def exported_files(shape: tuple[int, int, int], side: int) -> int:
    """Chunks or shards of all scales of an export of labels, isotropic, and two files for each of its blocks."""
    block = max(side, BLOCK_CHUNKS * CHUNK)
    scales = plan_scales(Box(Xyz(0, 0, 0), Xyz(*shape)), (8, 8, 8))
    return sum(files(scale.box.size, side) + 2 * files(scale.box.size, block) for scale in scales)


def short(number: float) -> str:
    """A number with three digits and a unit."""
    for unit, factor in (('P', 1e15), ('T', 1e12), ('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if number >= factor:
            return f'{number / factor:.3g} {unit}'
    return f'{number:.0f}'


def size(number: float) -> str:
    """Bytes with a unit."""
    return f'{short(number)}B' if number >= 1e3 else f'{number:.0f} B'


def hours(seconds: float, of: str) -> str:
    """A time in the unit that suits it."""
    for unit, factor in (('year', 365 * 86400), ('day', 86400), ('hour', 3600), ('minute', 60)):
        if seconds >= 2 * factor:
            return f'{seconds / factor:,.3g} {of}{" " if of else ""}{unit}s'
    return f'{seconds:.2g} {of}{" " if of else ""}seconds'


def main() -> None:
    """Prints the tables."""
    parser = measure.parser(__doc__)
    parser.add_argument('--canvas_in', default='', help='folder; used by the script itself')
    args = parser.parse_args()
    if args.canvas_in:
        print_canvas_bytes(args.canvas_in, args.data)
        return
    of = measured(args.data)
    print(json.dumps(of.__dict__, indent=2), end='\n\n')
    columns = {name: plan(shape, of) for name, shape in VOLUMES.items()}
    print('| | ' + ' | '.join(columns) + ' |')
    print('|---' * (len(columns) + 1) + '|')
    for row in next(iter(columns.values())):
        print(f'| {row} | ' + ' | '.join(column[row] for column in columns.values()) + ' |')


if __name__ == '__main__':
    measure.run_bench(main)
