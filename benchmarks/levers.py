"""What each setting of a training brings: short trainings that differ in one thing, on real data, with two seeds each.

    python -m benchmarks.levers --data FOLDER --work FOLDER [--steps 1200] [--seed 1 2] [--lever plain …]

Every training is that of configs/train_fib25_small.flags, in bfloat16, with a rate that falls along a cosine and averaged weights, on
training_sample2 with z < 150; `LEVERS` says what is changed. Most go on from models/fib25_small; some begin anew, with three times
as many steps. The part with z >= 150 is segmented and scored: its middle after each third of the steps, all of it at the end, as it is
and filled by `ffn fill`. Adapted Rand error and VOI (bits) are over the voxels labelled in truth or segmentation, so that a network
pays for what it leaves empty; what is segmented at half the resolution is scored at the full one. LEVER_SEED.json in --work has all
scores, split and merge apart.

What is in --work is not made again, and a training that was stopped goes on. Several of these commands, with other seeds or levers, may
share the folder and run beside each other once the first has said that the data are prepared (two on one processor each, by
`taskset`, do more than one on both); the last one prints the table of all that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from scipy import ndimage

from benchmarks import measure, real_segmentation
from ffn.agglomeration.fill import Filling, fill
from ffn.evaluation.held_out_box import HeldOutBox
from ffn.evaluation.held_out_score import HeldOutScore, Segmented
from ffn.inference import box_run
from ffn.inference import request as requests
from ffn.utils.atomic import write_json
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.downsample import downsample_image, downsample_labels

SPLIT_Z, SIZE = 150, 250
HELD_OUT = Box(Xyz(0, 0, SPLIT_Z), Xyz(SIZE, SIZE, SIZE - SPLIT_Z))
MIDDLE = Box(Xyz(60, 60, 160), Xyz(130, 130, 80))
FLAGS = measure.ROOT / 'configs' / 'train_fib25_small.flags'
NETWORK = measure.ROOT / 'models' / 'fib25_small.weights.h5'
# Radius of an example: a field of view of 25 that moves by 8 twice.
EXAMPLE = '28,28,28'
REQUEST = """
image {{ hdf5: "{volume}:raw" }}
seed_policy: "PolicyPeaks"
precision: "bfloat16"
inference_options {{
  segment_threshold: 0.3 min_segment_size: 500 min_boundary_dist {{ x: 1 y: 1 z: 1 }}
}}
"""
TEACHER = measure.ROOT / 'configs' / 'inference_training_sample2_fast.pbtxt'
# Weight of voxels within NEAR voxels of another object or of background.
BORDER_WEIGHT, NEAR = 3, 2
RESIDUAL = {
    'depth': 5,
    'features': 16,
    'layer_norm': True,
    'fov_size': [25, 25, 25],
    'deltas': [8, 8, 8],
}


class Lever(NamedTuple):
    """A training that differs in one thing.

    Attributes:
      title: for the table.
      flags: of `ffn train`, in addition to those of all.
      first: flags of the first third of the steps instead.
      anew: begins with random weights, not with those of models/fib25_small.
      teacher: learns from training_sample1 with objects of the published network as well.
      half: learns and segments at half the resolution, where a field of view is twice as large.
    """

    title: str
    flags: tuple[str, ...] = ()
    first: tuple[str, ...] | None = None
    anew: bool = False
    teacher: bool = False
    half: bool = False


PUBLISHED = ('--seed_pad=0.5', '--threshold=0.6')
NORM = (
    '--model_name=residual_stack.ResidualStackFFNModel',
    f'--model_args={json.dumps(RESIDUAL)}',
)
BORDERS = '--loss_weight_volumes=train:{work}/borders.h5:weights'
UNROLLED = '--unrolled_steps=2'
AUGMENTED = '--augmentation=configs/augmentation.json'
START = 'start'
LEVERS = {
    START: Lever('models/fib25_small itself'),
    'plain': Lever('going on as it was'),
    'teacher': Lever('a teacher on another cube', teacher=True),
    'augmentation': Lever(f'`{AUGMENTED}`', (AUGMENTED,)),
    'published': Lever(f'`{" ".join(PUBLISHED)}`', PUBLISHED),
    'border': Lever(f'loss weight {BORDER_WEIGHT} at borders', (BORDERS,)),
    'fixed': Lever('`--fov_policy=fixed`', ('--fov_policy=fixed',)),
    'unrolled': Lever(f'`{UNROLLED}`', (UNROLLED,)),
    'anew': Lever('anew', anew=True),
    'anew_norm': Lever('anew, residual stack with layer norm', NORM, anew=True),
    'anew_curriculum': Lever(
        'anew, no moves in the first third', first=('--fov_policy=no_step',), anew=True
    ),
    'anew_published': Lever(f'anew, `{" ".join(PUBLISHED)}`', PUBLISHED, anew=True),
    'anew_unrolled': Lever(f'anew, `{UNROLLED}`', (UNROLLED,), anew=True),
    'anew_half': Lever('anew, at half the resolution', anew=True, half=True),
}


def run_flags(*arguments: str) -> None:
    """Runs a command of the project."""
    command = [sys.executable, '-m', 'ffn', *arguments, '--quiet']
    subprocess.run(command, cwd=measure.ROOT, check=True, stdout=subprocess.DEVNULL)


def prepare(args: argparse.Namespace, work: Path) -> None:
    """Writes volumes, the objects of the teacher, and the places to learn from."""
    volume, truth = work / 'volume.h5', measure.sample_labels(args.data)
    if not volume.exists():
        with h5py.File(work / 'borders.h5', 'w') as file:
            file['weights'] = border_weights(truth)
        unfinished = work / 'unfinished.h5'
        real_segmentation.write_image(args.data, unfinished)
        with h5py.File(unfinished, 'a') as file:
            file['labels'] = truth.astype(np.uint32)
        unfinished.rename(volume)
    if any(LEVERS[name].teacher for name in args.lever) and not (work / 'teacher.h5').exists():
        teach(args, work)
    if any(LEVERS[name].half for name in args.lever) and not (work / 'half.h5').exists():
        write_half(volume, work / 'half.h5')
    places = {
        'train': (volume, ('--min_size=10000', *held_out_masked(SPLIT_Z))),
        'half': (work / 'half.h5', ('--min_size=1250', *held_out_masked(SPLIT_Z // 2))),
        'teacher': (work / 'teacher.h5', ('--min_size=10000',)),
    }
    for name, (labels, flags) in places.items():
        partitions, found = work / f'partitions_{name}.h5', work / f'{name}.tfrecord.gz'
        if found.exists() or not labels.exists():
            continue
        run_flags(
            *('partitions', f'--input_volume={labels}:labels', f'--output_volume={partitions}:af'),
            *(measure.thresholds_flag(), f'--lom_radius={EXAMPLE}', *flags),
        )
        volumes = f'{name}:{partitions}:af'
        if name == 'teacher':
            volumes += f',train:{work}/partitions_train.h5:af'
        run_flags(
            *('coordinates', f'--partition_volumes={volumes}', f'--coordinate_output={found}'),
            *(f'--margin={EXAMPLE}', '--seed=1', '--max_coordinates=400000'),
        )
    print('the data are prepared', flush=True)


def held_out_masked(z: int) -> tuple[str, str]:
    """Flags that keep examples out of the held-out part."""
    return '--mask_configs', f'masks {{ coordinate_expression {{ expression: "z >= {z}" }} }}'


def write_half(volume: Path, path: Path) -> None:
    """Writes image and labels at half the resolution."""
    unfinished, factors = path.with_name('unfinished.h5'), Xyz(2, 2, 2)
    with h5py.File(volume, 'r') as file, h5py.File(unfinished, 'w') as out:
        out['raw'] = downsample_image(file['raw'][:], factors)
        out['labels'] = downsample_labels(file['labels'][:], factors)
    unfinished.rename(path)


def border_weights(labels: np.ndarray) -> np.ndarray:
    """Loss weights, float32 [z, y, x]."""
    size = 2 * NEAR + 1
    same = ndimage.minimum_filter(labels, size) == ndimage.maximum_filter(labels, size)
    return np.where(same, 1, BORDER_WEIGHT).astype(np.float32)


def teach(args: argparse.Namespace, work: Path) -> None:
    """Segments training_sample1 with the published network, and fills what it leaves empty."""
    image = work / 'image1.h5'
    real_segmentation.write_image(args.data, image, 'training_sample1')
    request = requests.parse_request(str(TEACHER))
    request.image.hdf5 = f'{image}:raw'
    request.model_checkpoint_path = real_segmentation.copy_model(args.data, work)
    request.segmentation_output_dir = f'{work}/published'
    request.precision = args.teacher_precision
    box = Box(Xyz(0, 0, 0), Xyz(SIZE, SIZE, SIZE))
    box_run.run(requests.make_config(request), [box], quiet=args.quiet)
    found = real_segmentation.stored(work / 'published', box.start.zyx)
    with h5py.File(image, 'r') as file:
        labels = fill(found, file['raw'][:], Filling(max_distance=8))
    with h5py.File(work / 'teacher.h5', 'w') as file:
        file['labels'] = labels.astype(np.uint32)


def train(lever: Lever, seed: int, folder: Path, steps: int, stop: int) -> float:
    """Trains until a step; returns the seconds."""
    work = folder.parent
    volume, found = ('half', 'half') if lever.half else ('volume', 'train')
    images, labels = (f'{found}:{work}/{volume}.h5:{name}' for name in ('raw', 'labels'))
    places, more = f'{work}/{found}.tfrecord.gz', lever.flags
    if lever.teacher:
        images += f',teacher:{work}/image1.h5:raw'
        labels += f',teacher:{work}/teacher.h5:labels'
        places, more = f'{work}/teacher.tfrecord.gz', ('--volume_weights=train:1,teacher:1', *more)
    if lever.first is not None and stop <= steps // 3:
        more = (*more, *lever.first)
    if lever.anew:
        more = ('--learning_rate=0.001', *more)
    else:
        more = ('--learning_rate=0.0003', f'--init_checkpoint={NETWORK}', *more)
    begin = time.monotonic()
    run_flags(
        *('train', f'--flagfile={FLAGS}', f'--train_dir={folder}', f'--train_coords={places}'),
        *(f'--data_volumes={images}', f'--label_volumes={labels}', f'--seed={seed}'),
        *('--batch_size=4', '--precision=bfloat16', '--ema_decay=0.995', '--warmup_steps=200'),
        *('--learning_rate_schedule=cosine', f'--decay_steps={steps}', f'--max_steps={stop}'),
        *('--learning_rate_decay_factor=0.03', '--keep_checkpoints=0', '--checkpoint_minutes=0'),
        *(flag.format(work=work) if '{work}' in flag else flag for flag in more),
    )
    return time.monotonic() - begin


def segment(weights: Path, work: Path, box: Box, averaged: bool, half: bool) -> np.ndarray:
    """Objects of a box, integer [z, y, x]; it has even corners."""
    volume, factor = (work / 'half.h5', 2) if half else (work / 'volume.h5', 1)
    request = requests.parse_request(REQUEST.format(volume=volume))
    request.use_ema = averaged
    request.inference_options.min_segment_size //= factor**3
    box = Box(*(Xyz(*(n // factor for n in xyz)) for xyz in (box.start, box.size)))
    with HeldOutBox(request, f'{volume}:labels', box) as held_out:
        labels = held_out.segment(str(weights)).labels
    return labels.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)


def score(
    weights: Path,
    work: Path,
    box: Box,
    averaged: bool = True,
    filled: bool = False,
    half: bool = False,
) -> dict[str, Any]:
    """Segments a box; the scores by name, the filled ones as `filled`."""
    labels = segment(weights, work, box, averaged, half)
    with h5py.File(work / 'volume.h5', 'r') as file:
        image, truth = (file[name][box.slices_zyx] for name in ('raw', 'labels'))
    scores: dict[str, Any] = HeldOutScore.of(truth, Segmented(labels)).scalars()
    if filled:
        labels = fill(labels, image, Filling())
        scores['filled'] = HeldOutScore.of(truth, Segmented(labels)).scalars()
    return scores


def pull(name: str, seed: int, args: argparse.Namespace, work: Path) -> None:
    """Trains and scores with one lever; does what is missing."""
    folder, half = work / f'{name}_{seed}', LEVERS[name].half
    path = work / f'{name}_{seed}.json'
    done: dict[str, Any] = (
        json.loads(path.read_text()) if path.exists() else {'seconds': 0.0, 'middle': {}}
    )
    if done.setdefault('steps', args.steps) != args.steps:
        raise SystemExit(f'error: {path} is of --steps {done["steps"]}; give another --work')
    steps = args.steps * (3 if LEVERS[name].anew else 1)
    for stop in (0,) if name == START else (steps // 3, steps * 2 // 3, steps):
        if str(stop) not in done['middle']:
            if stop:
                done['seconds'] += train(LEVERS[name], seed, folder, steps, stop)
            done['middle'][str(stop)] = score(folder if stop else NETWORK, work, MIDDLE, half=half)
            write_json(path, done)
    for key, averaged in (('whole', True), ('last', False)):
        if key not in done:
            weights = NETWORK if name == START else folder
            done[key] = score(weights, work, HELD_OUT, averaged, filled=True, half=half)
            write_json(path, done)
    print(f'{name}, seed {seed}: {row(done)}', flush=True)


def row(done: dict[str, Any]) -> str:
    """The numbers of a training in the table."""

    def voi(scores: dict[str, float]) -> str:
        return f'{scores["voi_split"] + scores["voi_merge"]:.2f}'

    def shown(scores: dict[str, float]) -> str:
        return f'{scores["rand_error"]:.3f} / {voi(scores)}'

    middle, whole, last = list(done['middle'].values()), done['whole'], done['last']
    cells = [f'{middle[-1]["rand_error"]:.3f} / {", ".join(map(voi, middle))}', shown(whole)]
    cells += [shown(whole['filled']), shown(last['filled']), f'{done["seconds"] / 60:.0f}']
    return ' | '.join(cells)


def table(work: Path) -> None:
    """Prints what there is, error / VOI each; VOI in the middle after each third of the steps."""
    print('| | seed | middle | whole | filled | filled, weights of the last step | minutes |')
    print('|---|---|' + '---:|' * 5)
    for name, lever in LEVERS.items():
        found: dict[int, dict[str, Any]] = {}
        for path in work.glob(f'{name}_*.json'):
            done, of = json.loads(path.read_text()), path.stem.removeprefix(f'{name}_')
            if of.isdigit() and 'last' in done:
                found[int(of)] = done
        for seed, done in sorted(found.items()):
            print(f'| {lever.title} | {seed} | {row(done)} |')


def main() -> None:
    """Runs what is missing and prints the table."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    parser = measure.parser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        '--steps',
        type=int,
        default=1200,
        help='of each training; three times as many of those that begin anew',
    )
    parser.add_argument('--seed', type=int, nargs='*', default=[1, 2])
    parser.add_argument('--lever', nargs='*', choices=list(LEVERS), default=list(LEVERS))
    parser.add_argument('--teacher_precision', default='int8')

    def run(args: argparse.Namespace, work: Path) -> None:
        work = work.resolve()
        prepare(args, work)
        for name in args.lever:
            for seed in args.seed if name != START else args.seed[:1]:
                pull(name, seed, args, work)
        table(work)

    measure.run_with_network(parser, run)


if __name__ == '__main__':
    measure.run_bench(main)
