"""The real data that several tests use."""

from __future__ import annotations

import functools
import gzip
import io
from pathlib import Path

import h5py
import numpy as np

THRESHOLDS = (0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The thresholds of the sample volume's reference partitions."""

PARTITION_COUNTS = (113468, 10433, 101709, 180884, 291180, 969320, 605822, 751844, 926390, 943965,
                    796382, 714182, 665511, 1171318)  # fmt: skip
"""Reference: voxels of partitions 0..13 of the sample volume, radius 24,24,24."""


@functools.cache
def training2_labels(data_dir: Path) -> np.ndarray:
    """Body ids of training_sample2, int64 [z, y, x]: its transforms applied to its supervoxels."""
    path = data_dir / 'fib25' / 'training_sample2' / 'groundtruth.h5.gz'
    with gzip.open(path) as packed, h5py.File(io.BytesIO(packed.read())) as file:
        supervoxels, transforms = file['stack'][:], file['transforms'][:]
    bodies = np.zeros(transforms[:, 0].max() + 1, np.int64)
    bodies[transforms[:, 0]] = transforms[:, 1]
    labels = bodies[supervoxels]
    labels.setflags(write=False)
    return labels
