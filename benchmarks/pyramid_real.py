"""From coarse to fine on real data, beside a single scale: steps, time of the network, and scores.

    python -m benchmarks.pyramid_real --data FOLDER [--precision int8] [--work FOLDER]

segments training_sample2 from z = 150 on with `ffn segment`: with the fine request alone, and with a coarse network, at
half its resolution, before it. Both networks are to have learned from z < 150 alone. The pyramid is tried plain; with
what both orders of coarse seeds agree on; with objects that grow on from coarse ones; and with both. Scores are those of
`benchmarks.held_out_real`: adapted Rand error and VOI (bits), split and merge, over all voxels of the box, where a
network pays for what it leaves empty; the last two columns are over the voxels that are labelled. Steps and seconds in the
network are those of the fine pass and of the coarse one, its reverse order included. With --work, what is there already is
not made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

from benchmarks import measure, real_segmentation
from ffn.cli import segment
from ffn.evaluation.held_out_score import HeldOutScore, Segmented
from ffn.inference import inference_pb2
from ffn.inference.request import parse_request, read_box
from ffn.models import precision
from ffn.utils.startup import startup_messages_hidden
from ffn.volumes.volume import open_volume

REQUEST = str(measure.ROOT / 'configs' / 'inference_fib25_medium.pbtxt')
COARSE_REQUEST = str(measure.ROOT / 'configs' / 'inference_fib25_medium_20nm.pbtxt')
BOX = 'start { x:0 y:0 z:150 } size { x:250 y:250 z:100 }'
VOXEL_SIZE = (10, 10, 10)


class Way(NamedTuple):
    """One way to segment the box.

    Attributes:
      title: for the table.
      pyramid: whether the coarse network goes first.
      consensus: whether only what both of its orders agree on is kept.
      grows: whether objects grow on from coarse ones, which also keeps the fine network out of gaps.
    """

    title: str
    pyramid: bool = True
    consensus: bool = False
    grows: bool = False


WAYS = {
    'single': Way('single scale', pyramid=False),
    'plain': Way('pyramid, plain'),
    'consensus': Way('pyramid, both orders agree', consensus=True),
    'grow': Way('pyramid, growing on', grows=True),
    'both': Way('pyramid, both orders agree, growing on', consensus=True, grows=True),
}


def read_request(
    args: argparse.Namespace, folder: Path, way: Way
) -> inference_pb2.InferenceRequest:
    """The fine request of a way."""
    request = parse_request(args.request)
    request.precision = args.precision or request.precision
    request.image.hdf5 = f'{folder.parent}/volume.h5:raw'
    request.segmentation_output_dir = str(folder)
    for axis, size in zip('xyz', VOXEL_SIZE, strict=True):
        setattr(request.voxel_size, axis, size)
    if way.pyramid and not way.grows:
        request.inference_options.prefilled_join_fraction = 0
        request.inference_options.prefilled_gap = 0
    return request


def coarse_request(args: argparse.Namespace) -> inference_pb2.InferenceRequest:
    """The coarse request."""
    request = parse_request(args.coarse_request)
    request.precision = args.precision or request.precision
    if args.coarse:
        request.model_checkpoint_path = args.coarse
        request.use_ema = Path(args.coarse).is_dir()
    for axis, size in zip('xyz', VOXEL_SIZE, strict=True):
        setattr(request.voxel_size, axis, 2 * size)
    return request


def run(args: argparse.Namespace, name: str, folder: Path) -> None:
    """Segments the box in one way."""
    way, box = WAYS[name], read_box(args.box)
    cut = ','.join(map(str, box.size))
    flags = ['--inference_request', str(read_request(args, folder, way))]
    if way.pyramid:
        flags += ['--pyramid', str(coarse_request(args))]
        flags += ['--pyramid_consensus' if way.consensus else '--nopyramid_consensus']
    flags += ['--bounding_box', args.box, '--subvolume_size', cut, '--overlap', '0,0,0']
    segment.main([*flags, '--output', f'zarr://{folder}/whole', '--quiet'])


def cost(folder: Path) -> tuple[int, float]:
    """Steps, and seconds in the network, of the subvolumes of a folder."""
    if (folder / 'counters.json').exists():
        counters = json.loads((folder / 'counters.json').read_text())
    elif (folder / 'counters.txt').exists():
        lines = (folder / 'counters.txt').read_text().splitlines()
        counters = {key: int(value) for key, value in (line.split(': ') for line in lines)}
    else:
        return 0, 0.0
    return counters['predict-calls'], counters['inference-time-ms'] / 1e3


def show(args: argparse.Namespace, name: str, folder: Path) -> None:
    """Prints the row of a way."""
    box = read_box(args.box)
    with open_volume(f'zarr://{folder}/whole') as volume:
        found = volume.read(box)
    truth = measure.sample_labels(args.data)[box.slices_zyx]
    every, labelled = (HeldOutScore.of(truth, Segmented(found), c) for c in ('either', 'both'))
    (fine, fine_s), *coarse = (
        cost(folder / part) for part in ('.', 'pyramid/forward', 'pyramid/reverse')
    )
    print(
        f'| {WAYS[name].title} | {fine:,} | {sum(steps for steps, _ in coarse):,} '
        f'| {fine_s:.0f} s | {sum(seconds for _, seconds in coarse):.0f} s '
        f'| {every.rand_error:.4f} | {every.voi_split:.2f} + {every.voi_merge:.2f} '
        f'| {every.filled_fraction:.1%} | {every.objects} '
        f'| {labelled.rand_error:.4f} | {labelled.voi_split:.2f} + {labelled.voi_merge:.2f} |',
        flush=True,
    )


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = measure.parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add('--request', default=REQUEST, help='InferenceRequest of the fine network')
    add('--coarse_request', default=COARSE_REQUEST, help='of the coarse one')
    add('--coarse', default='', help='checkpoint or train_dir of the coarse network')
    add('--precision', default='', help='of both, overrides the requests')
    add('--box', default=BOX, help='of the held-out part, text format')
    add('--way', action='append', choices=list(WAYS), help='only these; may be given several times')
    add('--work', type=Path, help='keeps what is made, and is resumed')
    return parser.parse_args()


def main() -> None:
    """Prints the table."""
    args = parse()
    with startup_messages_hidden():
        precision.gpu_capability()
    with measure.work_folder(args.work) as work:
        work = work.resolve()
        if not (work / 'volume.h5').exists():
            real_segmentation.write_image(args.data, work / 'volume.h5')
        for name in args.way or WAYS:
            run(args, name, work / name)
        print(
            '| | steps | coarse | network | coarse | error | VOI | filled | objects | labelled: error | VOI |'
        )
        print('|---|' + '---:|' * 10)
        for name in args.way or WAYS:
            show(args, name, work / name)


if __name__ == '__main__':
    measure.run_bench(main)
