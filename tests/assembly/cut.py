"""Known labels cut into subvolumes with ids of their own, as inference would leave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffn.assembly.tiling import Tiling
from ffn.inference import storage
from ffn.utils.geometry import Box


def blobs(shape_zyx: tuple[int, int, int], count: int, seed: int) -> np.ndarray:
    """Labels, uint32: the voxels nearest to each of some points, with background between."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (count, 3)) * shape_zyx
    grid = np.stack(np.meshgrid(*map(np.arange, shape_zyx), indexing='ij'), axis=-1)
    distances = np.linalg.norm(grid[..., np.newaxis, :] - points, axis=-1)
    labels = distances.argmin(axis=-1).astype(np.uint32) + 1
    first, second = (
        np.sort(distances, axis=-1)[..., :2].transpose(3, 0, 1, 2)
        if count > 1
        else (distances[..., 0], np.full(shape_zyx, np.inf))
    )
    labels[second - first < 1] = 0
    return labels


def local(labels: np.ndarray, rng: np.random.Generator, dtype: type = np.uint32) -> np.ndarray:
    """The same labels under other ids, which have gaps."""
    ids = np.unique(labels[labels > 0])
    names = rng.permutation(np.arange(1, 3 * len(ids) + 1))[: len(ids)].astype(dtype)
    result = np.zeros(labels.shape, dtype)
    for i, name in zip(ids, names):
        result[labels == i] = name
    return result


def cut(folder: Path, labels: np.ndarray, tiling: Tiling, seed: int = 0) -> None:
    """Writes the subvolumes of labels whose first voxel is 0,0,0."""
    rng = np.random.default_rng(seed)
    for place in tiling.places():
        box = tiling.subvolume(place)
        write(folder, box, local(labels[box.slices_zyx], rng))


def write(folder: Path, box: Box, labels: np.ndarray, request: bytes = b'') -> None:
    """Writes a subvolume."""
    storage.save_result(folder, box.start.zyx, labels, {}, request, {}, {})


def check_same_objects(found: np.ndarray, expected: np.ndarray) -> None:
    """The two label the same voxels, and ids correspond one to one."""
    assert found.shape == expected.shape
    assert ((found > 0) == (expected > 0)).all()
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()], axis=1), axis=0)
    assert len(pairs) == len(np.unique(found)) == len(np.unique(expected))
