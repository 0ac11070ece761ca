"""Small label volumes, exported, for tests of meshes and skeletons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffn.distributed.local_pools import InProcess
from ffn.export.by_segment import read_measures
from ffn.export.pyramid import Pyramid
from ffn.export.scales import plan_scales
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec

HIGH = 2**64 - 2
START, VOXEL = Xyz(-7, 20, 3), (8.0, 6.0, 30.0)


def ball(shape, centre, radius):
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    cz, cy, cx = centre
    return (z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= radius**2


def sample(shape=(22, 33, 61)):
    """A ball, a tube of even width through the whole volume, a slab at its border, and two voxels, one alone."""
    labels = np.zeros(shape, np.uint64)
    labels[12:16, 4:8, :] = 2**63 + 5
    labels[ball(shape, (10, 21, 29), 8.5)] = 7
    labels[-3:, 20:, 40:] = HIGH
    labels[2, 3, 5] = 11
    labels[2, 30, 57] = 12
    labels[2, 30, 58] = 12
    return labels


def store(folder: Path, labels: np.ndarray, start: Xyz = START, voxel_size=VOXEL) -> str:
    """Writes labels as a precomputed volume; returns its name."""
    spec = f'precomputed://{folder}/volume'
    box = Box(start, Box.of_shape(labels.shape).size)
    output = OutputSpec(spec, box, Xyz(32, 32, 32), voxel_size)
    output.create('made for a test')
    output.open_parallel().write(box, labels)
    output.finish('made for a test')
    return spec


def exported(
    folder: Path, labels: np.ndarray, start: Xyz = START, voxel_size=VOXEL, max_scales: int = 0
) -> Pyramid:
    """Exports labels."""
    box = Box(start, Box.of_shape(labels.shape).size)
    spec = store(folder, labels, start, voxel_size)
    scales = tuple(plan_scales(box, voxel_size, max_scales))
    pyramid = Pyramid(folder / 'view' / 'labels', spec, scales, True, 'uint64')
    pyramid.write(InProcess(), quiet=True)
    return pyramid


def measures_of(folder: Path) -> dict[int, tuple[float, ...]]:
    """Numbers about each segment, by id."""
    ids, numbers = read_measures(folder)
    return dict(zip(ids.tolist(), map(tuple, numbers.tolist()), strict=True))
