"""A run made of known labels: subvolumes with counters, and their assembly."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffn.assembly.assembly import assemble
from ffn.assembly.config import Assembly
from ffn.assembly.matching import Matching
from ffn.assembly.tiling import Tiling
from ffn.distributed.local_pools import InProcess
from ffn.inference import storage
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec
from tests.assembly.cut import blobs, local

SHAPE = (21, 30, 45)
TILING = Tiling(Box.of_shape(SHAPE), Xyz(27, 19, 18), Xyz(6, 5, 7))
"""Two by two by two subvolumes."""


def counters(number: int) -> dict[str, int]:
    """Of the subvolume with this number in the grid: the later, the slower."""
    return {
        'predict-calls': 10 * (number + 1),
        'predict-time-ms': 200 * (number + 1),
        'segment_all-time-ms': 500 * (number + 1),
        'valid-time-ms': 250 * (number + 1),
        'invalid-weak-time-ms': 100 * (number + 1),
        'invalid-small-time-ms': 50 * (number + 1),
        'seeds': 7,
        'rejected-weak': 3,
        'rejected-small': 2,
        'rejected-close': 1,
    }


def make_run(
    folder: Path, change=lambda number, labels: labels, labels=None, conflicts='largest', masks=()
) -> np.ndarray:
    """Makes a run in FOLDER/results, whose volume is FOLDER/out.zarr; returns its labels.

    Args:
      folder: where.
      change: number of a subvolume and its labels → what is stored.
      labels: [z, y, x] of SHAPE; None: some.
      conflicts: of the matching.
      masks: of the assembly.
    """
    labels = blobs(SHAPE, 12, 3) if labels is None else labels
    rng = np.random.default_rng(0)
    for number, place in enumerate(TILING.places()):
        box = TILING.subvolume(place)
        stored = change(number, local(labels[box.slices_zyx], rng))
        ids = np.unique(stored[stored > 0]).tolist()
        origins = {i: storage.OriginInfo((1, 2, 3), 1, 0.0) for i in ids}
        storage.save_result(
            folder / 'results', box.start.zyx, stored, origins, b'', counters(number), {}
        )
    output = OutputSpec(f'zarr://{folder}/out.zarr', TILING.box, Xyz(16, 16, 16), (8.0, 8.0, 30.0))
    results = folder / 'results'
    matching = Matching(min_voxels=1, min_fraction_smaller=0, conflicts=conflicts)
    assemble(
        Assembly(results, TILING, masks, matching, output, results / 'assembly'), InProcess(), True
    )
    return labels
