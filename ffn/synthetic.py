"""A generated sample that looks like electron microscopy of neuropil, with its ground truth.

Tubular neurites grow through the volume, branch, and avoid each other until the volume is full; every
voxel then belongs to the nearest one, thick ones reaching farther. Membranes are where two meet.
Used where real data cannot be shipped: by the demo and by tests.

    python -m ffn.synthetic --size=128,128,128 --seed=1 --output=sample.h5

writes the datasets `image` (uint8) and `labels` (uint32).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import cc3d
import edt
import fastremap
import numpy as np
from scipy import ndimage, spatial

from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Xyz, Zyx
from ffn.volumes.hdf5_output import replaced_dataset

# Intensities before blur and noise.
CYTOPLASM, MEMBRANE, MITOCHONDRION = 165.0, 60.0, 112.0
# Half the thickness of what is left unlabelled between two objects, and least volume of an object;
# in a small sample a twentieth of it is enough.
MEMBRANE_RADIUS = 1.3
MIN_VOLUME = 1500
RADII = (9.0, 16.0)
_STEP = 2.0


class Sample(NamedTuple):
    """A generated volume.

    Attributes:
      image: uint8 [z, y, x].
      labels: uint32 [z, y, x]; 0 on membranes, every other label one 6-connected object.
    """

    image: np.ndarray
    labels: np.ndarray


def generate(
    size_zyx: Sequence[int], seed: int, voxel_size_zyx: Sequence[float] = (1, 1, 1)
) -> Sample:
    """Generates a sample.

    Args:
      size_zyx: voxels along z, y, x, each 16 or more.
      seed: samples of one seed are equal.
      voxel_size_zyx: physical size of a voxel; neurites are 18 to 32 units thick, so (3, 1, 1)
        gives sections three times as thick as pixels are wide.

    Raises:
      UserError: a size that is too small.
    """
    size = Zyx.of(size_zyx)
    if min(size) < 16:
        raise UserError(
            f'size {size} is too small for a sample; expected 16 or more along each axis'
        )
    if min(voxel_size_zyx) <= 0:
        raise UserError(f'voxel size {tuple(voxel_size_zyx)} must be positive')
    rng = np.random.default_rng(seed)
    voxel = np.asarray(voxel_size_zyx, dtype=np.float64)
    points, radii = _grow_neurites(np.array(size) * voxel, rng)
    cells = _nearest_neurite(size, voxel, points, radii, rng)
    # What is too thin to be labelled goes to its neighbours, and necks get a membrane across, so that
    # what the image shows and what the labels say is the same.
    for _ in range(2):
        cells = _filled(_insides(cells, size, voxel)[0], voxel)
    labels, depth = _insides(cells, size, voxel)
    labels = fastremap.renumber(labels)[0].astype(np.uint32)
    return Sample(_render(cells, depth, voxel, points, radii, rng), labels)


def _insides(cells: np.ndarray, size: Zyx, voxel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the membranes leave of cells, without dust, a label a component; and their depth."""
    depth = edt.edt(cells, anisotropy=tuple(voxel), black_border=False)
    labels = cc3d.connected_components(np.where(depth > MEMBRANE_RADIUS, cells, 0), connectivity=6)
    return cc3d.dust(labels, threshold=_min_size(size, voxel), connectivity=6), depth


def _filled(labels: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """Gives voxels without a label that of the nearest one."""
    index = ndimage.distance_transform_edt(
        labels == 0, sampling=voxel, return_distances=False, return_indices=True
    )
    return labels[tuple(index)].astype(np.uint32)


def _min_size(size: Zyx, voxel: np.ndarray) -> int:
    """Least number of voxels of an object."""
    return int(min(MIN_VOLUME / np.prod(voxel), np.prod(size) / 20))


def _grow_neurites(extent: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Fills a box with the middle lines of neurites.

    Args:
      extent: physical size z, y, x.
      rng: source of chance.

    Returns:
      float64 [n, 4]: z, y, x and the neurite's number; float64 [n] radii.
    """
    # Places still to be filled, coarsely; neurites start in the widest gap left.
    grid = np.stack(
        np.meshgrid(*(np.arange(2, n, 4.0) for n in extent), indexing='ij'), axis=-1
    ).reshape(-1, 3)
    gap = np.full(len(grid), np.inf)
    lines: list[np.ndarray] = []
    widths: list[np.ndarray] = []
    tree = None
    while gap.max() > 0.6 * RADII[0]:
        widest = np.flatnonzero(gap > min(gap.max(), 8) * 0.95)
        start = grid[rng.choice(widest)] + rng.uniform(-1, 1, 3)
        radius = rng.uniform(*RADII) if not lines else min(rng.uniform(*RADII), gap.max() + 3)
        radius = max(radius, RADII[0])
        direction = _unit(rng.normal(size=3))
        line = [start]
        for sign in (1, -1):
            line += _walk(start, sign * direction, radius, extent, tree, rng)
        if rng.random() < 0.4:
            fork = line[rng.integers(len(line))]
            line += _walk(fork, _unit(rng.normal(size=3)), radius, extent, tree, rng)
        width = radius * (1 + 0.15 * np.sin(np.arange(len(line)) * 0.15 + rng.uniform(0, 6)))
        lines.append(np.column_stack([line, np.full(len(line), len(lines) + 1)]))
        widths.append(width)
        distances, nearest = spatial.cKDTree(lines[-1][:, :3]).query(grid)
        gap = np.minimum(gap, distances - width[nearest])
        tree = spatial.cKDTree(np.concatenate(lines)[:, :3])
    return np.concatenate(lines), np.concatenate(widths)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _walk(
    start: np.ndarray, direction: np.ndarray, radius: float, extent: np.ndarray,
    others: spatial.cKDTree | None, rng: np.random.Generator,
) -> list[np.ndarray]:  # fmt: skip
    """Walks through the box, turning gently to where it is least crowded, until it leaves."""
    line, position = [], start
    while True:
        turns = direction + 0.3 * rng.normal(size=(6, 3))
        turns /= np.linalg.norm(turns, axis=1, keepdims=True)
        if others is None:
            direction = turns[0]
        else:
            room = others.query(position + 3 * _STEP * turns)[0]
            direction = turns[np.argmax(np.minimum(room, 2 * radius))]
        position = position + _STEP * direction
        crowded = others is not None and others.query(position)[0] < 0.5 * radius
        if np.any(position < -radius) or np.any(position > extent + radius) or crowded:
            return line
        line.append(position)


def _smooth_noise(shape: Sequence[int], sigma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit variance that varies over `sigma` voxels: float32."""
    noise = ndimage.gaussian_filter(
        rng.standard_normal(shape, dtype=np.float32), sigma, mode='wrap'
    )
    return noise / noise.std()


def _nearest_neurite(
    size: Zyx, voxel: np.ndarray, points: np.ndarray, radii: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Gives each voxel the number of the neurite that reaches it best: uint32 [z, y, x]."""
    where = np.stack(np.indices(size, dtype=np.float32), axis=-1) * voxel.astype(np.float32)
    for axis in range(3):
        where[..., axis] += 1.6 * _smooth_noise(size, 7 / voxel, rng)
    # A power diagram: |x - p|² - r² is a plain distance once p has √(R² - r²) as fourth coordinate.
    lift = np.sqrt(radii.max() ** 2 - radii**2)
    tree = spatial.cKDTree(np.column_stack([points[:, :3], lift]))
    query = np.column_stack([where.reshape(-1, 3), np.zeros(where[..., 0].size)])
    nearest = tree.query(query, workers=2)[1]
    cells = cc3d.connected_components(
        points[nearest, 3].astype(np.uint32).reshape(size), connectivity=6
    )
    # Slivers go to the neighbour that surrounds them.
    return _filled(cc3d.dust(cells, threshold=2 * _min_size(size, voxel), connectivity=6), voxel)


def _render(
    cells: np.ndarray, depth: np.ndarray, voxel: np.ndarray, points: np.ndarray, radii: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Draws cytoplasm, organelles and membranes, blurs and adds noise: uint8 [z, y, x]."""
    shape = cells.shape
    tone = rng.normal(0, 7, int(cells.max()) + 1).astype(np.float32)
    image = CYTOPLASM + tone[cells] + 7 * _smooth_noise(shape, 2.0 / voxel, rng)
    speckle = _smooth_noise(shape, 0.9 / voxel, rng)
    image -= 25 * (speckle > 2.0)

    organelle = _mitochondria(shape, voxel, points, radii, rng)
    inside = (organelle > 0) & (depth > 3)
    cristae = _smooth_noise(shape, 1.3 / voxel, rng)
    image[inside] = MITOCHONDRION + 16 * cristae[inside]
    rim = inside & (organelle < 0.25)
    image[rim] -= 15

    image = MEMBRANE + (image - MEMBRANE) * (1 - np.exp(-((depth / 1.6) ** 4)))
    image = ndimage.gaussian_filter(image, 0.6 / voxel)
    image += 6 * rng.standard_normal(shape, dtype=np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def _mitochondria(
    shape: Sequence[int], voxel: np.ndarray, points: np.ndarray, radii: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Bodies that follow neurites: float32 [z, y, x], 0 outside, 1 in their middle."""
    field = np.zeros(shape, dtype=np.float32)
    for first in rng.choice(len(radii), size=max(len(radii) // 60, 1)):
        neurite = points[first, 3]
        for i in range(first, min(first + int(rng.integers(5, 14)), len(points))):
            if points[i, 3] != neurite or np.linalg.norm(points[i, :3] - points[first, :3]) > 30:
                break
            reach = 0.5 * radii[i]
            low = np.maximum(np.ceil((points[i, :3] - reach) / voxel), 0).astype(int)
            high = np.minimum((points[i, :3] + reach) / voxel + 1, shape).astype(int)
            if np.any(high <= low):
                continue
            axes = np.ogrid[tuple(map(slice, low, high))]
            far = sum(((axis * v - p) / reach) ** 2
                      for axis, v, p in zip(axes, voxel, points[i, :3], strict=True))  # fmt: skip
            part = field[tuple(map(slice, low, high))]
            np.maximum(part, 1 - far, out=part)
    return field


def main(argv: Sequence[str] | None = None) -> None:
    """Writes a sample to an HDF5 file."""
    parser = argparse.ArgumentParser(prog='python -m ffn.synthetic', description=__doc__)
    parser.add_argument('--size', required=True, help='x,y,z')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--voxel_size', default='1,1,1', help='x,y,z; for thick sections 1,1,3')
    parser.add_argument('--output', required=True, help='HDF5 file to write')
    args = parser.parse_args(argv)
    size = Xyz.parse(args.size, '--size').zyx
    try:
        voxel_size = tuple(float(v) for v in reversed(args.voxel_size.split(',')))
    except ValueError as error:
        raise UserError(f'--voxel_size is {args.voxel_size!r}; expected x,y,z numbers') from error
    if len(voxel_size) != 3:
        raise UserError(f'--voxel_size is {args.voxel_size!r}; expected three numbers x,y,z')
    sample = generate(size, args.seed, voxel_size)
    for name, array in sample._asdict().items():
        with replaced_dataset(f'{args.output}:{name}', '--output') as (file, dataset):
            file.create_dataset(dataset, data=array, chunks=True, compression='gzip')
    print(f'{args.output}: image and labels, {size.xyz}, {int(sample.labels.max())} objects')


if __name__ == '__main__':
    run_tool(main)
