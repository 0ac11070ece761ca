"""Serial sections from images to a score, with the settings of `ffn plan`, beside a seeded watershed.

    python -m benchmarks.serial_sections --data FOLDER [--steps 6000] [--decay_steps 6000] [--work FOLDER] [--picture sections.png]

The data are 20 sections of 4.6×4.6×45 nm (Gerhard et al. 2013, doi 10.6084/m9.figshare.856713; licence CC BY-NC-SA,
so nothing made of them is part of this repository) with a mask of the membranes; FOLDER holds vnc/stack1. They are
imported at half resolution in the plane; objects are parts of sections between membranes, linked where they overlap
most. Training sees x < 320 of 512 pixels; the rest is segmented and scored. The watershed gets the settings of its
grid that are best on x < 320. Nothing is typed but paths, the voxel size (the files do not have it), the number of
steps and how the rate falls and weights are averaged.

Scores count voxels that the truth labels: it leaves out membranes, which a watershed fills. What the network leaves empty counts as
one wrong segment; in the last row, `ffn fill` has given it away.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import measure, watershed
from benchmarks.held_out_real import show, watershed_of, write_picture
from ffn.agglomeration.fill import Filling, fill
from ffn.cli import coordinates, import_labels, import_stack, partitions, plan, train
from ffn.evaluation.held_out_box import HeldOutBox
from ffn.evaluation.held_out_score import HEADER, HeldOutScore, Segmented
from ffn.inference.request import parse_request
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import open_volume

SPLIT_X = 320
AVERAGED = ['--ema_decay', '0.999', '--warmup_steps', '500', '--learning_rate_decay_factor', '0.03']
NM, DOWNSAMPLE = '4.6,4.6,45', '2,2,1'


def prepare(data: Path, work: Path) -> tuple[str, str]:
    """Imports image and objects; returns the strings that name them."""
    volume, stack = work / 'volume.h5', data / 'vnc' / 'stack1'
    common = ['--voxel_size', NM, '--downsample', DOWNSAMPLE, '--quiet']
    if not volume.exists():
        import_stack.main(['--images', f'{stack}/raw/*', '--output', f'{volume}:raw', *common])
        objects = ['--instances', 'membrane:1', '--link', 'overlap']
        import_labels.main(
            [
                '--input',
                f'{stack}/membranes/*',
                '--output',
                f'{volume}:labels',
                *objects,
                *common,
            ]
        )
    return f'{volume}:raw', f'{volume}:labels'


def learn(image: str, labels: str, work: Path, args: argparse.Namespace) -> float:
    """Plans, samples and trains; returns the seconds of training. A training that is there goes on."""
    folder = work / 'plan'
    plan.main(
        ['--image', image, '--labels', labels, '--output', str(folder), '--notime', '--quiet']
    )
    masked = f'masks {{ coordinate_expression {{ expression: "x >= {SPLIT_X}" }} }}'
    if not (folder / 'coordinates.tfrecord.gz').exists():
        partitions.main(
            [f'--flagfile={folder}/partitions.flags', '--mask_configs', masked, '--quiet']
        )
        coordinates.main([f'--flagfile={folder}/coordinates.flags', '--quiet'])
    begin = time.monotonic()
    more = ['--precision', args.precision, '--max_steps', str(args.steps), '--quiet', *AVERAGED]
    more += [
        '--learning_rate_schedule',
        'cosine',
        '--decay_steps',
        str(args.decay_steps or args.steps),
    ]
    train.main([f'--flagfile={folder}/train.flags', *more])
    return time.monotonic() - begin


def best_watershed(image: np.ndarray, truth: np.ndarray) -> watershed.Settings:
    """The settings of the grid with the least Rand error."""
    errors = {
        settings: HeldOutScore.of(truth, Segmented(labels), 'truth').rand_error
        for settings, labels in watershed.segmentations(image, watershed.GRID)
    }
    return min(errors, key=errors.__getitem__)


def main() -> None:
    """Measures and prints."""
    parser = measure.parser(__doc__ or '')
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('--steps', type=int, default=6000, help='of training')
    parser.add_argument(
        '--decay_steps', type=int, help='over which the learning rate falls (default: --steps)'
    )
    parser.add_argument('--precision', default='bfloat16', help='of training')
    parser.add_argument('--work', type=Path, help='folder that is kept, to go on with later')
    parser.add_argument('--picture', type=Path, help='image, truth, watershed and network')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        image_name, labels_name = prepare(args.data, work)
        seconds = learn(image_name, labels_name, work, args)
        with open_volume(image_name) as image, open_volume(labels_name) as truth:
            raw, objects = image.read(image.box), truth.read(truth.box)
            box = Box(Xyz(SPLIT_X, 0, 0), Xyz(*image.shape_zyx.xyz)).intersection(image.box)
        if box is None:
            raise SystemExit('error: the sections end before the held-out part')
        inside, part = box.slices_zyx, np.s_[:, :, :SPLIT_X]
        print(f'training: {args.steps} steps, {seconds / 60:.1f} minutes\n{HEADER}')
        settings = best_watershed(raw[part], objects[part])
        classical = watershed_of(raw[inside], settings)
        show(HeldOutScore.of(objects[inside], classical, 'truth'), f'watershed: {settings}')
        request = parse_request(str(work / 'plan' / 'request.pbtxt'))
        request.use_ema = True
        with HeldOutBox(request, labels_name, box, quiet=True) as held_out:
            found = held_out.segment(str(work / 'plan' / 'model'))
        show(HeldOutScore.of(objects[inside], found, 'truth'), 'network')
        filled = fill(found.labels, raw[inside], Filling())
        found = dataclasses.replace(found, labels=filled)
        show(HeldOutScore.of(objects[inside], found, 'truth'), 'network, filled')
        if args.picture:
            write_picture(
                args.picture, raw[inside], [objects[inside], classical.labels, found.labels]
            )


if __name__ == '__main__':
    measure.run_bench(main)
