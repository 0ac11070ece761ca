"""Time and memory of PolicyPeaks on training_sample2, 250 x 250 x 250 voxels.

    python -m benchmarks.bench_peaks --data FOLDER

Every repetition is a process of its own; what it needs to load is not timed, but its peak memory
counts everything. The points are compared with those of plain SciPy and scikit-image calls.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import edt
import h5py
import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max

from benchmarks import measure, real_segmentation
from ffn.inference.seeds import peaks


def read(path: str) -> np.ndarray:
    """The normalised image, float32 [z, y, x]."""
    with h5py.File(path, 'r') as file:
        return (file['raw'][:].astype(np.float32) - 128) / np.float32(33)


def run(path: str) -> None:
    """Prints the seconds that the policy takes, then the number of points and their checksum."""
    image = read(path)
    view = SimpleNamespace(
        image=image,
        segmentation=np.zeros(image.shape, np.int32),
        mask=None,
        seed_mask=None,
        voxel_size_zyx=(1, 1, 1),
    )
    begin = time.perf_counter()
    points = peaks.PolicyPeaks(view).points()
    print(time.perf_counter() - begin, len(points), zlib.crc32(points.astype(np.int64).tobytes()))


def plain(path: str) -> tuple[float, str]:
    """The same in as few library calls as possible: seconds, and number and checksum of points."""
    image = read(path)
    begin = time.perf_counter()
    gradient = ndimage.generic_gradient_magnitude(image, ndimage.sobel)
    edge = gradient > ndimage.gaussian_filter(gradient, 49 / 6, mode='reflect')
    height = edt.edt(~edge) + np.random.RandomState(42).rand(*image.shape) * 1e-4
    points = peak_local_max(height, min_distance=3, threshold_abs=0, threshold_rel=0)
    points = points[np.lexsort(points.T[::-1])]
    seconds = time.perf_counter() - begin
    return seconds, f'{len(points)} {zlib.crc32(points.astype(np.int64).tobytes())}'


def main() -> None:
    """Prints the figures."""
    args = measure.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, 'volume.h5'))
        real_segmentation.write_image(args.data, Path(path))
        script = Path(folder, 'run.py')
        script.write_text(f'from benchmarks import bench_peaks\nbench_peaks.run({path!r})\n')
        ours, theirs = [], []
        for _ in range(args.repeats):
            done = subprocess.run(
                [sys.executable, '-c', script.read_text()],
                cwd=measure.ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
            seconds, _, points = done.stdout.partition(' ')
            ours.append(float(seconds))
            theirs.append(plain(path)[0])
        _, peak = measure.command(['-c', script.read_text()], 1)
        expected = plain(path)[1]
    if points.strip() != expected:
        raise SystemExit(f'error: points {points.strip()} instead of {expected}')
    us, them = statistics.median(ours), statistics.median(theirs)
    print(f'PolicyPeaks on 250³   {us:8.2f} s     (target 4)')
    print(f'plain library calls   {them:8.2f} s')
    print(f'peak memory           {peak:8.0f} MB    (target 1200)')
    print(f'points                {expected.split()[0]:>8s}')


if __name__ == '__main__':
    measure.run_bench(main)
