"""The generated sample: every voxel belongs to the nearest neurite, and membranes lie where two meet.

Thick neurites reach farther than thin ones. The image shows cytoplasm, membranes and mitochondria,
blurred and with noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cc3d
import edt
import numpy as np
from scipy import ndimage, spatial

from ffn.synthetic.neurites import Neurites, grow_neurites
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from ffn.utils.labels import renumber
from ffn.volumes.hdf5 import replaced_dataset
from ffn.volumes.importing.imported import store_voxels

# Intensities before blur and noise.
CYTOPLASM, MEMBRANE, MITOCHONDRION = 165.0, 60.0, 112.0
# Half the thickness of the unlabelled gap between two objects.
MEMBRANE_RADIUS = 1.3
# Minimum volume of an object; in a small sample, a twentieth of the sample is enough.
MIN_VOLUME = 1500
# Of a voxel, volume in cubes of its shortest side: beyond it, neurites are thinner than voxels are long, and many.
_MAX_VOLUME = 16


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
      seed: the same seed generates the same sample.
      voxel_size_zyx: of which the proportions count: neurites are 18 to 32 times as thick as its shortest side
        is long, so (3, 1, 1), like (24, 8, 8), gives sections three times as thick as pixels are wide.

    Raises:
      UserError: the size is too small, the voxel size is not positive or too unequal, or the seed is negative.
    """
    size = Zyx.of(size_zyx)
    if min(size) < 16:
        raise UserError(
            f'size {size} is too small for a sample; expected 16 or more along each axis'
        )
    if min(voxel_size_zyx) <= 0:
        raise UserError(f'voxel size {tuple(voxel_size_zyx)} must be positive')
    if seed < 0:
        raise UserError(f'seed is {seed}; expected 0 or more')
    voxel = np.asarray(voxel_size_zyx, dtype=np.float64) / min(voxel_size_zyx)
    if (volume := np.prod(voxel)) > _MAX_VOLUME:
        raise UserError(
            f'voxels of z,y,x {",".join(f"{n:g}" for n in voxel_size_zyx)} have {volume:g} times the volume of a cube of '
            f'their shortest side; expected at most {_MAX_VOLUME}, such as 8,8,40 and its multiples'
        )
    rng = np.random.default_rng(seed)
    neurites = grow_neurites(np.array(size) * voxel, rng)
    cells = _assign_voxels(size, voxel, neurites, rng)
    # Parts too thin to be labelled go to their neighbours, and a membrane is put across narrow necks,
    # so that image and labels show the same objects.
    for _ in range(2):
        cells = _fill_gaps(_label_interiors(cells, size, voxel)[0], voxel)
    labels, depth = _label_interiors(cells, size, voxel)
    labels = renumber(labels)[0].astype(np.uint32)
    return Sample(_render(cells, depth, voxel, neurites, rng), labels)


def write_sample(
    sample: Sample, path: str, voxel_size: tuple[float, float, float] | None = None
) -> None:
    """Writes the datasets `image` and `labels` to an HDF5 file; its other datasets are kept.

    Args:
      sample: what is written.
      path: of the file.
      voxel_size: x, y, z nanometres, stored with both; None: none is stored.
    """
    for name, array in sample._asdict().items():
        with replaced_dataset(f'{path}:{name}', '--output') as (file, dataset):
            written = file.create_dataset(dataset, data=array, chunks=True, compression='gzip')
            store_voxels(written.attrs, voxel_size, None)


def _assign_voxels(
    size: Zyx, voxel: np.ndarray, neurites: Neurites, rng: np.random.Generator
) -> np.ndarray:
    """Gives each voxel to the neurite whose (slightly wavy) surface is nearest: uint32 [z, y, x]."""
    where = np.stack(list(np.indices(size, dtype=np.float32)), axis=-1) * voxel.astype(np.float32)
    for axis in range(3):
        where[..., axis] += 1.6 * _smooth_noise(size, 7 / voxel, rng)
    # A power diagram: |x - p|² - r² is a plain distance once p has √(R² - r²) as fourth coordinate.
    lift = np.sqrt(neurites.radii.max() ** 2 - neurites.radii**2)
    tree = spatial.cKDTree(np.column_stack([neurites.points, lift]))
    query = np.column_stack([where.reshape(-1, 3), np.zeros(where[..., 0].size)])
    nearest = tree.query(query, workers=2)[1]
    numbers = neurites.numbers[nearest].astype(np.uint32).reshape(size)
    cells = cc3d.connected_components(numbers, connectivity=6)
    # Slivers go to the neighbour that surrounds them.
    return _fill_gaps(cc3d.dust(cells, threshold=2 * _min_size(size, voxel), connectivity=6), voxel)


def _label_interiors(
    cells: np.ndarray, size: Zyx, voxel: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels what lies inside the membranes of cells.

    Returns:
      One label for each component that is large enough, and each voxel's distance from its cell's
      border, both [z, y, x].
    """
    depth = edt.edt(cells, anisotropy=tuple(voxel), black_border=False)
    labels = cc3d.connected_components(np.where(depth > MEMBRANE_RADIUS, cells, 0), connectivity=6)
    return cc3d.dust(labels, threshold=_min_size(size, voxel), connectivity=6), depth


def _fill_gaps(labels: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """Gives voxels without a label the nearest one: uint32 [z, y, x]."""
    index = ndimage.distance_transform_edt(
        labels == 0, sampling=voxel, return_distances=False, return_indices=True
    )
    return np.asarray(labels[tuple(index)], dtype=np.uint32)


def _min_size(size: Zyx, voxel: np.ndarray) -> int:
    """Minimum number of voxels of an object."""
    return int(min(MIN_VOLUME / np.prod(voxel), np.prod(size) / 20))


def _smooth_noise(shape: Sequence[int], sigma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit variance with a correlation length of `sigma` voxels (z, y, x): float32."""
    noise = ndimage.gaussian_filter(
        rng.standard_normal(shape, dtype=np.float32), sigma, mode='wrap'
    )
    return np.asarray(noise / noise.std())


def _render(
    cells: np.ndarray,
    depth: np.ndarray,
    voxel: np.ndarray,
    neurites: Neurites,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws cytoplasm, organelles and membranes, blurs and adds noise: uint8 [z, y, x]."""
    shape = cells.shape
    tone = rng.normal(0, 7, int(cells.max()) + 1).astype(np.float32)
    image = CYTOPLASM + tone[cells] + 7 * _smooth_noise(shape, 2.0 / voxel, rng)
    speckle = _smooth_noise(shape, 0.9 / voxel, rng)
    image -= 25 * (speckle > 2.0)

    organelle = _place_mitochondria(shape, voxel, neurites, rng)
    inside = (organelle > 0) & (depth > 3)
    cristae = _smooth_noise(shape, 1.3 / voxel, rng)
    image[inside] = MITOCHONDRION + 16 * cristae[inside]
    rim = inside & (organelle < 0.25)
    image[rim] -= 15

    image = MEMBRANE + (image - MEMBRANE) * (1 - np.exp(-((depth / 1.6) ** 4)))
    image = ndimage.gaussian_filter(image, 0.6 / voxel)
    image += 6 * rng.standard_normal(shape, dtype=np.float32)
    return np.asarray(np.clip(image, 0, 255), dtype=np.uint8)


def _place_mitochondria(
    shape: Sequence[int], voxel: np.ndarray, neurites: Neurites, rng: np.random.Generator
) -> np.ndarray:
    """Draws elongated bodies inside neurites: float32 [z, y, x], 0 outside, rising to 1 in the middle."""
    points, numbers, radii = neurites
    field = np.zeros(shape, dtype=np.float32)
    for first in rng.choice(len(radii), size=max(len(radii) // 60, 1)):
        for i in range(first, min(first + int(rng.integers(5, 14)), len(points))):
            if numbers[i] != numbers[first] or np.linalg.norm(points[i] - points[first]) > 30:
                break
            reach = 0.5 * radii[i]
            low = np.maximum(np.ceil((points[i] - reach) / voxel), 0).astype(int)
            high = np.minimum((points[i] + reach) / voxel + 1, shape).astype(int)
            if np.any(high <= low):
                continue
            box = tuple(map(slice, low, high))
            axes = zip(np.ogrid[box], voxel, points[i], strict=True)
            distance = sum(((axis * size - center) / reach) ** 2 for axis, size, center in axes)
            np.maximum(field[box], 1 - distance, out=field[box])
    return field
