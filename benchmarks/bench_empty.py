"""Time of subvolumes of 320³ voxels in which nothing is: constant, masked, missing.

    python -m benchmarks.bench_empty --data FOLDER

Beside them, in turns: reading the image alone, and an image that differs in one voxel, for which seeds are computed.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import measure
from ffn.inference.network import load_network
from ffn.inference.request import make_config, read_request
from ffn.inference.runner import Runner
from ffn.utils.geometry import Box
from ffn.utils.protos import parse_text

SHAPE = (320, 320, 320)
MASK = 'masks { coordinate_expression { expression: "x >= 0" } }'


def write_volumes(folder: Path) -> dict[str, str]:
    """Writes the images; returns what differs in the requests: name → fields."""
    import h5py
    import tensorstore as ts

    fields = {}
    for name in ('constant', 'one voxel'):
        with h5py.File(folder / f'{name}.h5', 'w') as file:
            image = file.create_dataset('raw', SHAPE, np.uint8, chunks=(64, 64, 64))
            image[...] = 0
            if name == 'one voxel':
                image[160, 160, 160] = 255
        fields[name] = f'image {{ hdf5: "{folder}/{name}.h5:raw" }}'
    fields['masked'] = f'image {{ hdf5: "{folder}/one voxel.h5:raw" }} {MASK}'
    # A Zarr array with one chunk, which is not in the subvolume.
    wide = [640, *SHAPE[1:]]
    metadata = {'shape': wide, 'chunks': [64, 64, 64], 'dtype': '|u1', 'dimension_separator': '/'}
    spec = {'driver': 'zarr', 'kvstore': f'file://{folder}/missing', 'metadata': metadata}
    ts.open(spec, create=True).result()[600, 0, 0].write(1).result()
    fields['missing'] = f'image {{ hdf5: "zarr://{folder}/missing" }}'
    return fields


def main() -> None:
    """Prints the figures."""
    args = measure.parser(__doc__).parse_args()
    request = read_request(str(measure.ROOT / 'configs' / 'inference_training_sample2.pbtxt'))
    request.model_checkpoint_path = str(Path(args.data, 'fib25/model/model.ckpt-27465036'))
    model = load_network(make_config(request))
    request.ClearField('image')
    times: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], object]) -> None:
        begin = time.perf_counter()
        call()
        times.setdefault(name, []).append(time.perf_counter() - begin)

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        runners = {}
        for name, fields in write_volumes(folder).items():
            own = parse_text(fields, type(request).FromString(request.SerializeToString()), name)
            own.segmentation_output_dir = ''
            runners[name] = Runner(make_config(own), model)
        reader = runners['constant']
        for turn in range(args.repeats):
            timed('reading alone', lambda: reader.open_canvas(Box.of_shape(SHAPE)).image.max())
            for name, runner in runners.items():
                runner.config = dataclasses.replace(
                    runner.config, segmentation_output_dir=str(folder / f'{name}{turn}')
                )
                timed(name, functools.partial(runner.run, (0, 0, 0), SHAPE))
        for runner in runners.values():
            runner.close()
    whole = statistics.median(times['one voxel'])
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f'{name}: {middle:.2f} s, {whole / middle:.1f} times as fast as one voxel')


if __name__ == '__main__':
    measure.run_bench(main)
