"""Real data in eight overlapping subvolumes, assembled, beside the same region as one box.

    python -m benchmarks.assembled_real --data FOLDER [--size 160] [--results FOLDER]

The published network segments a cube of training_sample2, from 60,60,60 or as far as it fits, once as one
box and once in 2 x 2 x 2 subvolumes (bfloat16; 9 minutes for 160 voxels a side, 250 are the whole
sample). Both are compared with the ground truth: adapted Rand error over the voxels that a segmentation labels, and
the variation of information within 8 voxels of a border between subvolumes and elsewhere. With
--results, what is there already is not computed again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import measure, real_segmentation

START, SIDE, BAND = 60, 250, 8


def main() -> None:
    """Prints the figures."""
    parser = measure.parser(__doc__)
    parser.add_argument('--size', type=int, default=160, help='voxels a side, 250 at most')
    parser.add_argument('--overlap', type=int, default=32, help='voxels')
    parser.add_argument('--results', default='', help='folder to keep results in')
    args = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    with contextlib.ExitStack() as stack:
        folder = Path(args.results or stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        compare(folder, args.data, args.size, args.overlap)


def compare(folder: Path, data: Path, size: int, overlap: int) -> None:
    """Segments twice and prints how both compare with the ground truth."""
    from ffn.cli import segment
    from ffn.inference import storage
    from ffn.inference.request import make_config, read_request
    from ffn.inference.runner import Runner
    from ffn.utils.geometry import Box, Xyz
    from ffn.volumes.volume import open_volume

    request = read_request(str(measure.ROOT / 'configs' / 'inference_training_sample2.pbtxt'))
    request.model_checkpoint_path = str(Path(data, 'fib25/model/model.ckpt-27465036'))
    if not (folder / 'volume.h5').exists():
        real_segmentation.write_image(data, folder / 'volume.h5')
    request.image.hdf5 = f'{folder}/volume.h5:raw'
    request.precision = 'bfloat16'
    start = min(START, SIDE - size)
    box = Box(Xyz(start, start, start), Xyz(size, size, size))
    request.segmentation_output_dir = f'{folder}/one'
    with Runner(make_config(request)) as runner:
        runner.run(box.start.zyx, box.size.zyx)
    one = real_segmentation.stored(folder / 'one', box.start.zyx)
    request.segmentation_output_dir = f'{folder}/eight'
    core, labels = size // 2, {'one box': one}
    sizes = [','.join(3 * [str(n)]) for n in (core + overlap, overlap)]
    for conflicts in ('largest', 'join'):
        output = f'zarr://{folder}/{conflicts}.zarr'
        segment.main(
            [
                '--inference_request',
                str(request),
                '--bounding_box',
                str(box.to_proto()),
                '--subvolume_size',
                sizes[0],
                '--overlap',
                sizes[1],
                '--output',
                output,
                '--conflicts',
                conflicts,
                '--assembly_dir',
                f'{folder}/{conflicts}',
            ]
        )
        with open_volume(output) as volume:
            labels[conflicts] = volume.read(box)
    print(f'{len(storage.subvolumes(folder / "eight"))} subvolumes of {sizes[0]}')
    report(labels, measure.sample_labels(data)[box.slices_zyx], core)


def report(labels: dict[str, np.ndarray], truth: np.ndarray, core: int) -> None:
    """Prints the scores of several segmentations of one box whose border is at `core`."""
    from ffn.evaluation.rand import rand_score
    from ffn.evaluation.voi import voi_score

    near = np.zeros(truth.shape, bool)
    for axis in range(3):
        np.moveaxis(near, axis, 0)[core - BAND : core + BAND] = True
    print(f'{"":52s} |    within {BAND} of a border |                elsewhere')
    head = '    VOI  labelled   filled'
    print(f'{"":14s} objects Rand error  VOI split   merge  |{head} |{head}')
    for name, found in labels.items():
        whole, text = voi_score(truth, found, 'truth'), ''
        for where in (near, ~near):
            # Of all voxels of the truth, and of those that the segmentation labels as well.
            every, both = (voi_score(truth * where, found, of).total for of in ('truth', 'both'))
            filled = np.mean(found[where & (truth > 0)] > 0)
            text += f' | {every:6.3f} {both:9.3f} {filled:8.1%}'
        error = real_segmentation.truth_error(truth, found)
        objects = len(np.unique(found)) - 1
        print(
            f'{name:14s} {objects:7d} {error:10.4f} {whole.split:10.3f} {whole.merge:7.3f} {text}'
        )
    for name in list(labels)[1:]:
        error = rand_score(labels['one box'], labels[name]).error
        print(f'{name:14s} against the one box: {error:.4f}')


if __name__ == '__main__':
    measure.run_bench(main)
