"""A trained network beside a seeded watershed, on the part of real data that is held out of training.

    python -m benchmarks.held_out_real --data FOLDER --model DIR [--picture held_out.png]
    python -m benchmarks.held_out_real --data FOLDER --request REQUEST.pbtxt [--fill]

Both segment training_sample2 from z = 150 on; the network is to have learned from z < 150 alone. The
watershed gets the setting of a grid that is best on z < 150, of those on the gradient and of all, and, as
a bound for what a better choice could give, that which is best on the held-out part itself. `--model` names a checkpoint or a train_dir
and overrides the request's; without both, only the watershed runs. The network's image is that of the
data, whatever the request says.

Rand and VOI (bits) are over the voxels labelled in truth or segmentation, where a network pays for
what it leaves empty; then over the voxels that the network labels, for both. With `--fill`, a row is added for
what `ffn fill` makes of it. Cutting the volume at
z = 150 divides bodies of the truth, which costs a perfect segmentation that separates the parts 0.004
of Rand error and 0.07 bits of split.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from benchmarks import measure, real_segmentation, watershed
from ffn.agglomeration.fill import Filling, fill
from ffn.evaluation.held_out_box import HeldOutBox
from ffn.evaluation.held_out_score import HEADER, HeldOutScore, Segmented
from ffn.inference import inference_pb2
from ffn.inference.request import parse_request, read_box
from ffn.models import precision
from ffn.utils.geometry import Box
from ffn.utils.progress import progress
from ffn.utils.startup import startup_messages_hidden
from ffn.visualization.overlay import overlay

SPLIT_Z = 150
HELD_OUT = 'start { x:0 y:0 z:150 } size { x:250 y:250 z:100 }'
# Where --request is not given: the rest is as in training.
REQUEST = """
seed_policy: "PolicyPeaks"
inference_options {
  min_boundary_dist { x: 1 y: 1 z: 1 }
  segment_threshold: 0.6
  min_segment_size: 1000
}
"""
GAP = 4

Scored = tuple[watershed.Settings, HeldOutScore, np.ndarray]


def best_of_grid(image: np.ndarray, truth: np.ndarray, what: str, quiet: bool) -> dict[str, Scored]:
    """Segments with the whole grid; by what it is best → the best setting."""
    best: dict[str, tuple[float, Scored]] = {}
    with progress(total=len(watershed.GRID), desc=what, unit='setting', quiet=quiet) as bar:
        begin = time.perf_counter()
        for settings, labels in watershed.segmentations(image, watershed.GRID):
            score = HeldOutScore.of(truth, Segmented(labels, 0, time.perf_counter() - begin))
            values = {'Rand': score.rand_error, 'VOI': score.voi_split + score.voi_merge}
            if settings.height == 'gradient':
                values['Rand, on the gradient'] = score.rand_error
            for name, value in values.items():
                if name not in best or value < best[name][0]:
                    best[name] = (value, (settings, score, labels))
            bar.update()
            begin = time.perf_counter()
    return {name: scored for name, (_, scored) in sorted(best.items())}


def watershed_of(image: np.ndarray, settings: watershed.Settings) -> Segmented:
    """Segments with one setting, timed as a whole; empty where it finds no marker."""
    begin, labels = time.perf_counter(), np.zeros(image.shape, np.int32)
    for _, found in watershed.segmentations(image, [settings]):
        labels = found
    return Segmented(labels, 0, time.perf_counter() - begin)


def show(score: HeldOutScore, name: str) -> None:
    """Prints a row of the table."""
    print(f'{score.row()}  {name}', flush=True)


def baseline(
    image: np.ndarray, truth: np.ndarray, box: Box, sections: int, quiet: bool
) -> Segmented:
    """Prints the rows of the watershed; returns that of the setting chosen by Rand error."""
    part, inside = slice(SPLIT_Z - sections, SPLIT_Z), box.slices_zyx
    chosen = best_of_grid(image[part], truth[part], 'choosing', quiet)
    found = {}
    for by, (settings, score, _) in chosen.items():
        show(score, f'watershed on z < {SPLIT_Z}, chosen by {by} there: {settings}')
        found[by] = watershed_of(image[inside], settings)
        show(HeldOutScore.of(truth[inside], found[by]), '  the same, held out')
    for by, (settings, score, _) in best_of_grid(
        image[inside], truth[inside], 'oracle', quiet
    ).items():
        show(score, f'watershed, held out, best there by {by}: {settings}')
    return found['Rand']


def network(
    request: inference_pb2.InferenceRequest, labels: str, box: Box, args: argparse.Namespace
) -> Segmented:
    """Segments the box with the network and prints its row."""
    name = args.model or request.model_checkpoint_path
    with HeldOutBox(
        request,
        labels,
        box,
        max_steps=args.max_steps,
        max_seconds=args.max_seconds,
        quiet=args.quiet,
    ) as held_out:
        found = held_out.segment(name)
    show(HeldOutScore.of(held_out.truth, found), f'network, held out: {name}')
    return found


def write_picture(path: Path, image: np.ndarray, volumes: list[np.ndarray]) -> None:
    """Puts the middle xy plane of the image beside those of label volumes."""
    z = image.shape[0] // 2
    planes = [overlay(image[z], None), *(overlay(image[z], labels[z]) for labels in volumes)]
    gap = np.full((image.shape[1], GAP, 3), 255, np.uint8)
    tiles = [part for plane in planes for part in (plane, gap)][:-1]
    Image.fromarray(np.concatenate(tiles, axis=1).repeat(2, 0).repeat(2, 1)).save(path)


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = measure.parser(__doc__.splitlines()[0])
    parser.add_argument('--request', default='', help='InferenceRequest, text format or a file')
    parser.add_argument('--model', default='', help='checkpoint or train_dir')
    parser.add_argument('--box', default=HELD_OUT, help='of the held-out part, text format')
    parser.add_argument(
        '--choose_on',
        type=int,
        default=SPLIT_Z,
        metavar='N',
        help=f'choose the setting on the last N sections before z = {SPLIT_Z}',
    )
    parser.add_argument('--max_steps', type=int, help='network steps, 0: no limit')
    parser.add_argument('--max_seconds', type=float, default=0, help='of the network')
    parser.add_argument('--precision', default='', help='of the network, overrides the request')
    parser.add_argument('--fill', action='store_true', help='also score what ffn fill makes of it')
    parser.add_argument('--picture', type=Path, help='image | truth | watershed | network')
    parser.add_argument('--quiet', action='store_true', help='no progress bars')
    return parser.parse_args()


def main() -> None:
    """Prints the table and writes the picture."""
    args = parse()
    with startup_messages_hidden():
        precision.gpu_capability()
    box = read_box(args.box)
    truth = measure.sample_labels(args.data)
    with tempfile.TemporaryDirectory() as folder:
        volume = Path(folder, 'volume.h5')
        real_segmentation.write_image(args.data, volume)
        measure.write_labels(Path(folder, 'labels.h5'), truth)
        with h5py.File(volume, 'r') as file:
            image = file['raw'][:]
        print(f'{HEADER}  training_sample2, box {box}')
        classical = baseline(image, truth, box, args.choose_on, args.quiet)
        volumes = [truth[box.slices_zyx], classical.labels]
        if args.request or args.model:
            request = parse_request(args.request or REQUEST)
            request.image.hdf5 = f'{volume}:raw'
            request.precision = args.precision or request.precision
            found = network(request, f'{folder}/labels.h5:stack', box, args)
            volumes.append(found.labels)
            there = np.where(found.labels > 0, classical.labels, 0)
            both = {'watershed': dataclasses.replace(classical, labels=there), 'network': found}
            for name, segmented in both.items():
                score = HeldOutScore.of(volumes[0], segmented, 'both')
                show(score, f'{name}, over the voxels that the network labels')
            if args.fill:
                labels = fill(found.labels, image[box.slices_zyx], Filling())
                filled = dataclasses.replace(found, labels=labels)
                show(HeldOutScore.of(volumes[0], filled), 'network, filled by ffn fill')
    if args.picture:
        write_picture(args.picture, image[box.slices_zyx], volumes)


if __name__ == '__main__':
    measure.run_bench(main)
