"""The demo's commands: two samples are generated, and the four stages run as a user would run them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ffn.utils.errors import UserError

MARK = 'made_by_demo.txt'

MODEL = 'convstack_3d.ConvStack3DFFNModel'
# Just large enough to see both sides of a membrane, so that it learns in minutes.
MODEL_ARGS = '{"depth": 5, "features": 16, "fov_size": [11, 11, 11], "deltas": [4, 4, 4]}'
IMAGE_MEAN, IMAGE_STDDEV = 128, 40
# Voxels between a training location and the border; a sample needs one location at least.
MARGIN = 13
MIN_SIZE = 2 * MARGIN + 1

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
    """Runs subcommands of `ffn` one after the other and remembers them."""

    def __init__(self, total: int):
        self.commands: list[str] = []
        self._total = total
        self._begin = time.monotonic()

    def run(self, purpose: str, command: str, **flags: object) -> None:
        """Runs a subcommand in a process of its own.

        Args:
          purpose: shown before the command line.
          command: its name.
          **flags: its flags.

        Raises:
          UserError: it failed; it has printed why.
        """
        words = [command, *(f'--{flag}={value}' for flag, value in flags.items())]
        self.commands.append(shlex.join(['ffn', *words]))
        print(
            f'[{len(self.commands)}/{self._total}, {time.monotonic() - self._begin:.0f} s] {purpose}\n'
            f'    {self.commands[-1]}',
            flush=True,
        )
        done = subprocess.run([sys.executable, '-m', 'ffn', *words], check=False)
        if done.returncode:
            raise UserError(f'ffn {command} ended with exit status {done.returncode}')


def check_settings(size: int, train_steps: int) -> None:
    """Checks what `run_stages` is to be given, before an earlier demo is removed.

    Raises:
      UserError: the samples are too small to train on, or nothing is to be trained.
    """
    if size < MIN_SIZE:
        raise UserError(f'--size is {size}; expected {MIN_SIZE} or more')
    if train_steps < 1:
        raise UserError(f'--train_steps is {train_steps}; expected 1 or more')


def prepare_folder(output: Path) -> Path:
    """Makes an empty folder for a demo; that of an earlier demo is replaced.

    Returns:
      The folder, relative to the current one if it is below it: so the commands shown are short.

    Raises:
      UserError: the folder holds something else.
    """
    folder = output.resolve()
    if folder.exists() and not folder.is_dir():
        raise UserError(f'--output {output} is a file; expected a folder')
    folder.mkdir(parents=True, exist_ok=True)
    there = [path for path in folder.iterdir() if path.name != MARK]
    if there and not (folder / MARK).exists():
        raise UserError(f'{output} is not empty and not of an earlier demo; name another --output')
    for path in there:  # the folder stays: it may be the current one
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (folder / MARK).write_text(
        'Made by the demo, which replaces this folder when it is run again.\n'
    )
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def run_stages(folder: Path, size: int, train_steps: int) -> list[str]:
    """Generates two samples and runs the four stages: one sample is trained on, the other segmented.

    Args:
      folder: folder for everything.
      size: voxels of each sample along each axis.
      train_steps: training steps.

    Returns:
      The command lines that were run.
    """
    pipeline = Pipeline(total=6)
    known, unseen = folder / 'train.h5', folder / 'unseen.h5'
    cube = f'{size},{size},{size}'
    pipeline.run('generating the sample to train on', 'synthetic', size=cube, seed=1, output=known)
    pipeline.run('generating the sample to segment', 'synthetic', size=cube, seed=2, output=unseen)
    _train(pipeline, folder, known, train_steps)
    request = folder / 'request.pbtxt'
    request.write_text(
        REQUEST.format(
            image=f'{unseen}:image',
            mean=IMAGE_MEAN,
            stddev=IMAGE_STDDEV,
            model=folder / 'model',
            name=MODEL,
            args=MODEL_ARGS.replace('"', r'\"'),
            results=folder / 'results',
        )
    )
    pipeline.run(
        'stage 4: segmenting the other sample',
        'infer',
        inference_request=request,
        bounding_box=f'start {{ x:0 y:0 z:0 }} size {{ x:{size} y:{size} z:{size} }}',
    )
    return pipeline.commands


def _train(pipeline: Pipeline, folder: Path, sample: Path, train_steps: int) -> None:
    """Runs stages 1 to 3 on a sample."""
    partitions, coordinates = folder / 'partitions.h5', folder / 'coordinates.tfrecord.gz'
    pipeline.run(
        'stage 1: for every voxel, how much of its surroundings belongs to the same object',
        'partitions',
        input_volume=f'{sample}:labels',
        output_volume=f'{partitions}:partitions',
        thresholds='0.3,0.5,0.7',
        lom_radius='8,8,8',
        min_size=1000,
    )
    pipeline.run(
        'stage 2: training locations, all kinds of surroundings equally often',
        'coordinates',
        partition_volumes=f'demo:{partitions}:partitions',
        coordinate_output=coordinates,
        margin=f'{MARGIN},{MARGIN},{MARGIN}',
        seed=1,
        max_coordinates=500000,
    )
    pipeline.run(
        'stage 3: training',
        'train',
        train_coords=coordinates,
        data_volumes=f'demo:{sample}:image',
        label_volumes=f'demo:{sample}:labels',
        model_name=MODEL,
        model_args=MODEL_ARGS,
        train_dir=folder / 'model',
        image_mean=IMAGE_MEAN,
        image_stddev=IMAGE_STDDEV,
        permutable_axes='0,1,2',
        fov_policy='max_pred_moves',
        optimizer='adam',
        learning_rate=0.002,
        learning_rate_decay_factor=0.3,
        decay_steps=max(train_steps // 4, 1),
        batch_size=12,
        max_steps=train_steps,
        summary_rate_secs=10,
        seed=1,
    )
