"""Reading volumes beside the libraries themselves, block by block.

    python -m benchmarks.bench_reading [--size 384,384,256]

Each format is written once and read by turns with `open_volume` and with h5py or TensorStore alone; printed are
medians and the ratio of the two (target 1.05), and the time to open a volume.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks import measure
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.volumes.tensorstores import find_store
from ffn.volumes.volume import open_volume

BLOCK, CHUNK = Xyz(128, 128, 64), (64, 64, 64)
REPEATS = 5


def write(folder: Path, data: np.ndarray) -> dict[str, str]:
    """Writes the data in every format; returns the strings that name them."""
    import tensorstore as ts

    with h5py.File(folder / 'v.h5', 'w') as file:
        file.create_dataset('raw', data=data, chunks=CHUNK)
    specs = {'HDF5': f'{folder}/v.h5:raw'}
    scale = {
        'resolution': [8, 8, 8],
        'encoding': 'raw',
        'chunk_size': CHUNK,
        'size': data.shape[::-1],
    }
    kinds: dict[str, tuple[dict[str, Any], np.ndarray]] = {
        'zarr': ({'metadata': {'chunks': CHUNK, 'compressor': None}}, data),
        'zarr3': (
            {
                'metadata': {
                    'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': CHUNK}}
                }
            },
            data,
        ),
        'n5': ({'metadata': {'blockSize': CHUNK, 'compression': {'type': 'raw'}}}, data.T),
        'precomputed': (
            {
                'driver': 'neuroglancer_precomputed',
                'multiscale_metadata': {'type': 'image', 'data_type': 'uint8', 'num_channels': 1},
                'scale_metadata': scale,
            },
            data.T[..., np.newaxis],
        ),
    }
    for kind, (options, array) in kinds.items():
        spec = {'driver': kind, 'kvstore': f'file://{folder}/{kind}', **options}
        made: dict[str, Any] = {'dtype': 'uint8', 'shape': array.shape}
        made = {} if kind == 'precomputed' else made
        ts.open(spec, create=True, **made).result()[...] = array
        specs[kind] = f'{kind}://{folder}/{kind}'
    return specs


def read_directly(kind: str, spec: str) -> Callable[[Box], Any]:
    """A function that reads a box with the library alone."""
    import tensorstore as ts

    if kind == 'HDF5':
        dataset = h5py.File(spec.rpartition(':')[0], 'r')['raw']
        return lambda box: dataset[box.slices_zyx]
    store = ts.open(find_store(spec), read=True, open=True).result()
    if kind == 'precomputed':
        store = store[..., 0]
    if kind in ('n5', 'precomputed'):
        store = store[ts.d[2, 1, 0].transpose[:]]
    return lambda box: store[box.slices_zyx].read().result()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', default='384,384,256', help='x,y,z voxels')
    size = Xyz.parse(parser.parse_args().size, '--size')
    rng = np.random.default_rng(0)
    data = rng.integers(1, 255, size.zyx, np.uint8)
    parts = list(blocks(Box(Xyz(0, 0, 0), size), BLOCK))
    with tempfile.TemporaryDirectory() as folder:
        for kind, spec in write(Path(folder), data).items():
            direct = read_directly(kind, spec)
            seconds: dict[str, list[float]] = {'open': [], 'ours': [], 'library': []}
            for _ in range(REPEATS):
                begin = time.monotonic()
                with open_volume(spec) as volume:
                    seconds['open'].append(time.monotonic() - begin)
                    for name, read in (('ours', volume.read), ('library', direct)):
                        begin = time.monotonic()
                        for part in parts:
                            read(part)
                        seconds[name].append(time.monotonic() - begin)
            ours, library = (statistics.median(seconds[n]) for n in ('ours', 'library'))
            print(
                f'{kind:<12} {data.size / ours / 1e6:7.0f} Mvoxels/s, {ours / library:.2f} of the '
                f'library alone; opened in {1e3 * statistics.median(seconds["open"]):.1f} ms'
            )


if __name__ == '__main__':
    measure.run_bench(main)
