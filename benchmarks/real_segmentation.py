"""What the benches on real segmentations share: loading and scoring them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from ffn.evaluation.rand import rand_score
from ffn.inference import storage
from ffn.utils.npz import read_npz


def published(data: Path) -> np.ndarray:
    """The published segmentation of training_sample2, uint64 [z, y, x]."""
    path = data / 'fib25' / 'sample-training2.npz'
    if not path.exists():
        sys.exit(f'error: no {path}; give --data or FFN_TEST_DATA')
    return read_npz(path, ['segmentation'], [])['segmentation'].astype(np.uint64)


def truth_error(truth: np.ndarray, labels: np.ndarray) -> float:
    """Adapted Rand error over the voxels that the segmentation labels."""
    return rand_score(truth, labels, 'segmentation').error


def stored(results: Path, corner_zyx: tuple[int, int, int]) -> np.ndarray:
    """A result of run_inference.py with ids as stored, uint64 [z, y, x]."""
    return storage.load_segmentation(results, corner_zyx, split_cc=False)[0]


def write_image(data: Path, path: Path, sample: str = 'training_sample2') -> None:
    """Writes the sections of a sample as path:raw."""
    folder = data / 'fib25' / sample / 'grayscale_maps'
    sections = sorted(folder.glob('iso.*.png'))
    if not sections:
        sys.exit(f'error: no sections in {folder}; give --data or FFN_TEST_DATA')
    with h5py.File(path, 'w') as file:
        file['raw'] = np.stack([np.asarray(Image.open(section)) for section in sections])


def copy_model(data: Path, folder: Path) -> str:
    """Copies the published network, so that ranges of int8 are not left beside it; returns its new path."""
    name = 'model.ckpt-27465036'
    for path in Path(data, 'fib25', 'model').glob(f'{name}*'):
        shutil.copy(path, folder)
    return str(folder / name)
