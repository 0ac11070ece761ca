"""What a segmentation of any size takes: storage, tasks, edges, memory, time.

    python -m benchmarks.scale_plan --data FOLDER

prints the tables of doc/scale.md. Figures of a subvolume come from the published segmentation of
training_sample2, which is cut into overlapping subvolumes here and assembled; times of steps and of
reconciliation are those of doc/performance.md, given below.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import measure, real_segmentation
from ffn.assembly import assemble
from ffn.assembly.assemble import Assembly
from ffn.assembly.matching import Matching
from ffn.assembly.outputs import OutputSpec
from ffn.assembly.tasks import InProcess
from ffn.assembly.tiling import Tiling
from ffn.inference import inference_pb2, storage
from ffn.utils.geometry import Box, Xyz

# Side of a subvolume, and overlap: cores of 512 voxels.
SIZE, OVERLAP = 544, 32
# doc/performance.md: network steps for 250³ voxels, a step of the published network on one GPU in the
# batches that it is fastest with, processor time of assembling, and of ids per pair of neighbours.
STEPS, VOXELS = 25_803, 250**3
GPU_STEP_S = 1 / 1000
ASSEMBLY_VOXELS_PER_CORE_S = 40e6
PAIRS_PER_S = 2_500
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
      result_bytes: npz and prob by voxel.
      ids: by voxel.
      edges: by voxel of an overlap.
      table_bytes: overlap files by voxel of an overlap.
      output_bytes: of the written volume by voxel (precomputed).
    """

    result_bytes: float
    ids: float
    edges: float
    table_bytes: float
    output_bytes: float


def measured(data: Path) -> Measured:
    """Cuts the published segmentation in eight and assembles it."""
    labels = real_segmentation.published(data)
    with np.load(data / 'fib25' / 'sample-training2.npz', allow_pickle=False) as members:
        qprob = members['qprob'] if 'qprob' in members.files else None
    tiling = Tiling(Box.of_shape(labels.shape), Xyz(141, 141, 141), Xyz(32, 32, 32))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for place in tiling.places():
            box = tiling.subvolume(place)
            part = box.slices_zyx
            storage.save_result(folder / 'results', box.start.zyx, labels[part], {}, b'', {}, {},
                                None if qprob is None else qprob[part])  # fmt: skip
        output = OutputSpec(f'precomputed://{folder}/out', tiling.box, Xyz(64, 64, 64))
        assembly = Assembly(folder / 'results', tiling, inference_pb2.MaskConfigs(), Matching(),
                            output, folder / 'assembly')  # fmt: skip
        statistics = assemble.run(assembly, InProcess(), quiet=True)
        shared = 0
        for place in tiling.places():
            for axis in range(3):
                if (other := tiling.next_place(place, axis)) is not None:
                    both = tiling.subvolume(place).intersection(tiling.subvolume(other))
                    shared += int(np.prod(both.size))
        return Measured(
            _bytes(folder / 'results', 'seg-*') / tiling.computed_voxels,
            statistics['ids'] / tiling.computed_voxels,
            statistics['edges'] / shared,
            _bytes(folder / 'results', 'overlap-*') / shared,
            _bytes(folder / 'out', '*') / labels.size,
        )


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
    seconds = computed / VOXELS * STEPS * GPU_STEP_S
    return {
        'voxels': short(voxels),
        'subvolumes (tasks of segmentation and writing)': f'{len(tiling):,}',
        'voxels computed, by those of the volume': f'{computed / voxels:.2f}',
        'image, uint8': size(voxels),
        'results of the subvolumes': size(of.result_bytes * computed),
        'overlap files': size(of.table_bytes * shared),
        'written volume, precomputed': size(of.output_bytes * voxels),
        'pairs of neighbours': f'{pairs:,}',
        'ids of subvolumes': short(ids),
        'edges': short(edges),
        'tables of ids on disk': size(40 * ids + 32 * edges),
        'memory of a worker, segmenting (canvas)': size(14 * largest),
        'memory of a worker, writing (one block)': size(12 * largest),
        'memory of reconciliation': size(0.7e9 if ids > 4e6 else 0.3e9),
        'segmenting': hours(seconds, 'GPU'),
        'overlaps and writing': hours(computed / ASSEMBLY_VOXELS_PER_CORE_S, 'core'),
        'reconciliation, one process': hours(pairs / PAIRS_PER_S, ''),
    }


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
    of = measured(measure.parser(__doc__).parse_args().data)
    print(json.dumps(of.__dict__, indent=2), end='\n\n')
    columns = {name: plan(shape, of) for name, shape in VOLUMES.items()}
    print('| | ' + ' | '.join(columns) + ' |')
    print('|---' * (len(columns) + 1) + '|')
    for row in next(iter(columns.values())):
        print(f'| {row} | ' + ' | '.join(column[row] for column in columns.values()) + ' |')


if __name__ == '__main__':
    main()
