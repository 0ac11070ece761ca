"""A volume of three by three subvolumes, and the command that segments it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from ffn.volumes.volume import open_volume
from tests.inference import flood
from tests.loaded import run_loaded

CUT = ('--subvolume_size', '46,30,20', '--overlap', '12,12,10', '--chunk_size', '17,18,20')
"""Of a volume of x,y,z 76,52,20: three by three subvolumes, whose cores do not end with chunks."""


def fill(folder: Path, network: Path) -> np.ndarray:
    """Brings network, request and a volume of four times three bodies; returns their labels."""
    flood.fill_folder(folder, network)
    one = flood.write_volume(folder)
    labels = np.block(
        [[one + 10 * i * (one > 0) + 40 * j * (one > 0) for i in range(2)] for j in range(2)]
    )
    with h5py.File(folder / 'volume.h5', 'w') as file:
        file['raw'] = np.where(labels > 0, 255, 1).astype(np.uint8)
    return labels


def command(*arguments: str) -> list[str]:
    return [
        sys.executable,
        '-m',
        'ffn.assembly.segment_volume',
        '--inference_request',
        'request.pbtxt',
        *arguments,
    ]


def call(
    repository: Path, folder: Path, *arguments: str, by: Callable = run_loaded
) -> subprocess.CompletedProcess:
    return by(folder, *command(*arguments)[1:], env=environment(repository))


def environment(repository: Path) -> dict[str, str]:
    return {**os.environ, 'PYTHONPATH': str(repository), 'FFN_DASHBOARD': ':0'}


def read(spec: str) -> np.ndarray:
    with open_volume(spec) as volume:
        return volume.read(volume.box)


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """The results that are there, and when they were written."""
    found = {}
    for path in (folder / 'results').glob('*/*/seg-*.npz'):
        stat = path.stat()
        found[path.name] = stat.st_ino, stat.st_mtime_ns
    return found
