"""The whole pipeline on a generated sample, run as a user would run it: `make demo`.

Trains a small network on one sample, segments another that it has not seen, scores the result and
writes a report. The four stages are called as commands, and each command is shown.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from ffn.evaluation.rand import RandScore, rand_score
from ffn.inference import storage
from ffn.utils.errors import UserError, run_tool
from ffn.visualization.curve import plot_scalars, read_scalars
from ffn.visualization.overlay import planes_picture
from ffn.visualization.page import write_page

WORST_ERROR = 0.10
MARK = 'made_by_demo.txt'
# Scripts lie beside the package in a checkout.
ROOT = Path(__file__).resolve().parents[1]

MODEL = 'convstack_3d.ConvStack3DFFNModel'
# As small as it can be and still see both sides of a membrane: it learns in minutes.
MODEL_ARGS = '{"depth": 5, "features": 16, "fov_size": [11, 11, 11], "deltas": [4, 4, 4]}'
IMAGE_MEAN, IMAGE_STDDEV = 128, 40

REQUEST = """\
image {{ hdf5: "{image}" }}
image_mean: {mean}
image_stddev: {stddev}
checkpoint_interval: 600
# Peaks first; then a grid, for objects whose middle is too near to the border for the field of view.
seed_policy: "SequentialPolicies"
seed_policy_args: "{{\\"policies\\": [[\\"PolicyPeaks\\", {{}}], [\\"PolicyGrid3d\\", {{\\"step\\": 8, \\"offsets\\": [0, 4]}}]]}}"
model_checkpoint_path: "{model}"
model_name: "{name}"
model_args: "{args}"
segmentation_output_dir: "{results}"
inference_options {{
  init_activation: 0.95
  pad_value: 0.05
  move_threshold: 0.9
  segment_threshold: 0.3
  min_boundary_dist {{ x: 1 y: 1 z: 1 }}
  min_segment_size: 200
}}
"""


class Pipeline:
    """Runs commands one after the other and remembers them."""

    def __init__(self, total: int):
        self.commands: list[str] = []
        self._total = total
        self._begin = time.monotonic()

    def run(self, what: str, *arguments: object) -> None:
        """Runs a Python script or module of the checkout.

        Raises:
          UserError: it failed; what it printed stands above.
        """
        words = [str(argument) for argument in arguments]
        self.commands.append(shlex.join(['python', *words]))
        print(
            f'[{len(self.commands)}/{self._total}, {time.monotonic() - self._begin:.0f} s] {what}\n'
            f'    {self.commands[-1]}',
            flush=True,
        )
        done = subprocess.run([sys.executable, *words], cwd=ROOT, check=False)
        if done.returncode:
            raise UserError(f'{words[0]} ended with exit status {done.returncode}')


def run_stages(out: Path, size: int, train_steps: int) -> Pipeline:
    """Generates two samples and runs the four stages.

    Args:
      out: folder for everything, absolute or below the checkout.
      size: voxels of each sample along x, y and z.
      train_steps: training steps.

    Returns:
      What was run.
    """
    pipeline = Pipeline(total=6)
    samples = [out / 'train.h5', out / 'unseen.h5']
    for seed, (path, what) in enumerate(
        zip(samples, ('the sample to train on', 'the sample to segment'), strict=True), start=1
    ):
        pipeline.run(
            f'generating {what}', '-m', 'ffn.synthetic', f'--size={size},{size},{size}',
            f'--seed={seed}', f'--output={path}',
        )  # fmt: skip
    pipeline.run(
        'stage 1: how much of the surroundings belongs to the same object, for every voxel',
        'compute_partitions.py', f'--input_volume={samples[0]}:labels',
        f'--output_volume={out / "partitions.h5"}:partitions',
        '--thresholds=0.3,0.5,0.7', '--lom_radius=8,8,8', '--min_size=1000',
    )  # fmt: skip
    pipeline.run(
        'stage 2: training locations, all kinds of surroundings equally often',
        'build_coordinates.py', f'--partition_volumes=demo:{out / "partitions.h5"}:partitions',
        f'--coordinate_output={out / "coordinates.tfrecord.gz"}', '--margin=13,13,13', '--seed=1',
        '--max_coordinates=500000',
    )  # fmt: skip
    pipeline.run(
        'stage 3: training',
        'train.py', f'--train_coords={out / "coordinates.tfrecord.gz"}',
        f'--data_volumes=demo:{samples[0]}:image', f'--label_volumes=demo:{samples[0]}:labels',
        f'--model_name={MODEL}', f'--model_args={MODEL_ARGS}', f'--train_dir={out / "model"}',
        f'--image_mean={IMAGE_MEAN}', f'--image_stddev={IMAGE_STDDEV}', '--permutable_axes=0,1,2',
        '--fov_policy=max_pred_moves',
        '--optimizer=adam', '--learning_rate=0.002', '--learning_rate_decay_factor=0.3',
        f'--decay_steps={max(train_steps // 4, 1)}', '--batch_size=12',
        f'--max_steps={train_steps}',
        '--summary_rate_secs=10', '--seed=1',
    )  # fmt: skip
    (ROOT / out / 'request.pbtxt').write_text(
        REQUEST.format(
            image=f'{samples[1]}:image', mean=IMAGE_MEAN, stddev=IMAGE_STDDEV, model=out / 'model',
            name=MODEL, args=MODEL_ARGS.replace('"', r'\"'), results=out / 'results',
        )
    )  # fmt: skip
    pipeline.run(
        'stage 4: segmenting the other sample',
        'run_inference.py', f'--inference_request={out / "request.pbtxt"}',
        f'--bounding_box=start {{ x:0 y:0 z:0 }} size {{ x:{size} y:{size} z:{size} }}',
    )  # fmt: skip
    return pipeline


def score_and_report(out: Path, commands: Sequence[str]) -> RandScore:
    """Scores the segmentation and writes pictures and the report.

    Args:
      out: folder that the stages wrote to.
      commands: what was run.
    """
    with h5py.File(out / 'unseen.h5', 'r') as file:
        image, truth = file['image'][:], file['labels'][:]
    labels, origins = storage.load_segmentation(out / 'results', (0, 0, 0))
    score = rand_score(truth, labels)
    pictures = []
    for name, over, caption in (
        ('image', None, 'The unseen sample: planes xy, xz, yz through its centre.'),
        ('truth', truth, 'What is there: the generated objects.'),
        ('segmentation', labels, 'What the network found.'),
    ):
        pictures.append((out / f'{name}.png', caption))
        planes_picture(image, over).save(pictures[-1][0])
    plot_scalars(
        read_scalars(out / 'model'),
        [
            ['pixel_loss', 'eval/patch_loss'],
            ['eval/all/precision', 'eval/all/recall', 'eval/all/f1'],
        ],
        out / 'training.png',
    )
    pictures.append((out / 'training.png', 'Training: loss, and scores of finished patches.'))
    side_by_side([picture for picture, _ in pictures[:3]], out / 'overview.png')
    counted = (truth > 0) | (labels > 0)
    write_page(
        out / 'report.html',
        'Flood-filling network: demo',
        {
            'Adapted Rand error': f'{score.error:.4f} (at most {WORST_ERROR:.2f})',
            'Rand precision, recall': f'{score.precision:.4f}, {score.recall:.4f}',
            'Objects in truth, found': f'{len(np.unique(truth)) - 1}, {len(origins)}',
            'Labelled voxels filled': f'{np.mean(labels[counted] > 0):.1%}',
        },
        pictures,
        commands,
    )
    return score


def side_by_side(paths: Sequence[Path], output: Path) -> None:
    """Puts the xy planes of pictures next to each other, for the README; samples are cubes."""
    tiles = [np.asarray(Image.open(path)) for path in paths]
    tiles = [tile[:, : tile.shape[0]] for tile in tiles]
    gap = np.full((tiles[0].shape[0], 8, 3), 255, dtype=np.uint8)
    joined = [part for tile in tiles for part in (tile, gap)][:-1]
    Image.fromarray(np.concatenate(joined, axis=1)).save(output)


def _empty_folder(output: Path) -> Path:
    """Makes a folder, and clears it of an earlier demo."""
    out = output.resolve()
    if (out / MARK).exists():
        shutil.rmtree(out)
    if out.exists() and any(out.iterdir()):
        raise UserError(f'{output} is not empty and not of an earlier demo; name another --output')
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text('Made by the demo, which replaces this folder when it is run again.\n')
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the demo.

    Raises:
      UserError: a stage failed, or the segmentation is worse than it should be.
    """
    parser = argparse.ArgumentParser(prog='python -m ffn.demo', description=__doc__)
    parser.add_argument('--output', type=Path, default=Path('demo'), help='folder for all results')
    parser.add_argument('--size', type=int, default=128, help='voxels along each axis')
    parser.add_argument('--train_steps', type=int, default=5000)
    args = parser.parse_args(argv)
    if not (ROOT / 'train.py').exists():
        raise UserError(f'the four scripts are not in {ROOT}; run the demo from a checkout')
    out = _empty_folder(args.output)
    begin = time.monotonic()
    pipeline = run_stages(
        out.relative_to(ROOT) if out.is_relative_to(ROOT) else out, args.size, args.train_steps
    )
    score = score_and_report(out, pipeline.commands)
    print(f'adapted Rand error on the unseen sample: {score.error:.4f}')
    print(f'{time.monotonic() - begin:.0f} s; report: {args.output / "report.html"}')
    if not score.error <= WORST_ERROR:
        raise UserError(
            f'the adapted Rand error {score.error:.4f} is above {WORST_ERROR:.2f}: the segmentation '
            'is worse than this demo should give'
        )


if __name__ == '__main__':
    run_tool(main)
