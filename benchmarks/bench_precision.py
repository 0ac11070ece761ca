"""bfloat16 against float32: time of a step, and the segmentation of a box of real data.

    python -m benchmarks.bench_precision --data FOLDER

The published network segments training_sample2 from 60,60,60, 120 x 120 x 120 voxels, once in each
precision (1,585 steps, minutes); the steps of the two are timed in turns, on fields of view of that
box. Errors are adapted Rand errors over the voxels that a segmentation labels.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import measure, real_segmentation

CORNER_ZYX, SIZE_ZYX = (60, 60, 60), (120, 120, 120)


def main() -> None:
    """Prints the figures."""
    parser = measure.parser(__doc__)
    parser.set_defaults(repeats=25)
    args = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    from ffn.evaluation.rand import rand_score
    from ffn.inference.network import load_network
    from ffn.inference.request import make_config, read_request
    from ffn.inference.runner import Runner
    from ffn.models.predictor import make_predictor

    box = tuple(slice(a, a + n) for a, n in zip(CORNER_ZYX, SIZE_ZYX, strict=True))
    truth = measure.sample_labels(args.data)[box]
    request = read_request(str(measure.ROOT / 'configs' / 'inference_training_sample2.pbtxt'))
    request.model_checkpoint_path = str(Path(args.data, 'fib25/model/model.ckpt-27465036'))
    labels, ways = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        real_segmentation.write_image(args.data, Path(folder, 'volume.h5'))
        request.image.hdf5 = f'{folder}/volume.h5:raw'
        for precision in ('float32', 'bfloat16'):
            request.precision = precision
            request.segmentation_output_dir = f'{folder}/{precision}'
            config = make_config(request)
            ways[precision] = make_predictor(load_network(config))
            with Runner(config) as runner:
                begin = time.perf_counter()
                canvas = runner.run(CORNER_ZYX, SIZE_ZYX)
                if canvas is None:
                    raise SystemExit('error: the folder is not empty')
                seconds = time.perf_counter() - begin
            labels[precision], image = canvas.segmentation.copy(), canvas.image
            print(
                f'{precision:9s} {seconds:8.1f} s, {canvas.counters["predict-calls"]} steps, '
                f'{len(canvas.origins)} objects, error against ground truth '
                f'{real_segmentation.truth_error(truth, labels[precision]):.4f}',
                flush=True,
            )
    field = np.ascontiguousarray(image[40:73, 40:73, 40:73])[np.newaxis, ..., np.newaxis]
    seed = np.full_like(field, request.inference_options.pad_value)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(args.repeats):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            ways[name](field, seed)
            times[name].append(time.perf_counter() - begin)
    full, half = (statistics.median(times[name]) * 1e3 for name in ways)
    print(f'error between the two {rand_score(labels["float32"], labels["bfloat16"]).error:8.4f}')
    print(f'a step: float32 {full:.1f} ms, bfloat16 {half:.1f} ms')
    print(f'ratio                 {full / half:8.2f}   (target 1.7)')


if __name__ == '__main__':
    main()
