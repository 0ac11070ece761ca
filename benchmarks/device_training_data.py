"""What `benchmarks.device_training` learns from: volumes, and the places that examples are drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MEAN, STDDEV = 128.0, 33.0
# Places that are kept of each class of a volume.
MOST_PER_CLASS = 30_000


def prepare(volumes: list[str], path: Path) -> None:
    """Writes images, labels, and the places that examples are drawn from, by their class."""
    from ffn.volumes.volume import open_volume

    def read(name: str) -> np.ndarray:
        with open_volume(name) as volume:
            return volume.single_channel().read(volume.box)

    arrays: dict[str, np.ndarray] = {}
    rng = np.random.default_rng(0)
    for i, volume in enumerate(volumes):
        image, labels, partitions = map(read, volume.split(','))
        arrays[f'image{i}'], arrays[f'labels{i}'] = image, labels.astype(np.int32)
        for kind in sorted(set(np.unique(partitions).tolist()) - {0, 255}):
            places = np.argwhere(partitions == kind).astype(np.int16)
            chosen = rng.permutation(len(places))[:MOST_PER_CLASS]
            arrays[f'places{i}_{kind}'] = places[chosen]
    with path.open('wb') as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


class Data(NamedTuple):
    """Volumes one behind the other, and the places, of class after class; arrays of the device.

    Attributes:
      image: float32 [voxels], normalized.
      labels: int32 [voxels].
      first: int32 [volumes], where each begins.
      strides: int32 [volumes, 3].
      places: int32 [n, 4], volume, z, y, x.
      begins, counts: int32 [classes], of places.
      shares: float32 [classes], logarithms of how often each is drawn.
    """

    image: Any
    labels: Any
    first: Any
    strides: Any
    places: Any
    begins: Any
    counts: Any
    shares: Any


def begins(arrays: list[np.ndarray]) -> np.ndarray:
    """Where each of them begins when they are joined, int32 [n]."""
    return np.cumsum([0, *map(len, arrays[:-1])]).astype(np.int32)


def load(path: Path, shares: list[float], radius: int) -> Data:
    """Reads what `prepare` wrote.

    Args:
      path: the file.
      shares: how often each volume is drawn.
      radius: of an example; others do not fit.
    """
    import jax.numpy as jnp

    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    places: list[np.ndarray] = []
    strides: list[list[int]] = []
    weights: list[float] = []
    with np.load(path) as file:
        for i in range(sum(name.startswith('image') for name in file)):
            image = file[f'image{i}']
            strides.append([image.shape[1] * image.shape[2], image.shape[2], 1])
            images.append((image.ravel().astype(np.float32) - MEAN) / STDDEV)
            labels.append(file[f'labels{i}'].ravel())
            kinds = [name for name in file if name.startswith(f'places{i}_')]
            for kind in kinds:
                found = file[kind].astype(np.int32)
                found = found[((found >= radius) & (found + radius < image.shape)).all(axis=1)]
                if len(found):
                    places.append(np.insert(found, 0, i, axis=1))
                    weights.append(shares[i] / len(kinds))
            print(f'volume {i}: {image.shape}, {len(kinds)} classes, share {shares[i]}')
    arrays = (
        np.concatenate(images),
        np.concatenate(labels),
        begins(images),
        np.array(strides, np.int32),
        np.concatenate(places),
        begins(places),
        np.array(list(map(len, places)), np.int32),
        np.log(np.array(weights, np.float32)),
    )
    return Data(*map(jnp.asarray, arrays))
