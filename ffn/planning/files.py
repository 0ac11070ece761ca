"""A plan as files: flags of the stages, an augmentation, and a request for inference."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ffn.planning.measure import Measurements
from ffn.planning.rules import Plan
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.volumes.tensorstores import is_remote

NAME = 'train'


def check_folder(folder: str | Path) -> None:
    """Checks that flags can hold the name of a folder.

    Raises:
      UserError: they cannot.
    """
    if ',' in str(folder):
        raise UserError(
            f'the folder {folder} has a comma in its name, by which --train_coords separates files; choose another one'
        )


def write_plan(
    plan: Plan,
    measured: Measurements,
    folder: Path,
    batch_size: int,
    replace: bool = False,
) -> dict[str, str]:
    """Writes the files of a plan.

    Args:
      plan: the settings.
      measured: what they were made for.
      folder: is created.
      batch_size: examples of a training step.
      replace: whether files are replaced that are there and hold something else, such as changes by hand.

    Returns:
      The commands that use the files, by stage.

    Raises:
      UserError: see `check_folder`; or files would be replaced that may not be. Nothing is written then.
    """
    check_folder(folder)
    reasons = {choice.name: choice.reason for choice in plan.choices}
    files = {
        name: _flag_lines(flags, reasons)
        for name, flags in _flags(plan, measured, folder, batch_size).items()
    }
    files['augmentation.json'] = [json.dumps(plan['augmentation'], indent=2)]
    files['request.pbtxt'] = _request(plan, measured, folder)
    contents = {folder / name: ('\n'.join(lines) + '\n').encode() for name, lines in files.items()}
    if not replace:
        _check_unchanged(contents)
    for path, content in contents.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    return {
        'partitions': f'ffn partitions --flagfile={folder}/partitions.flags',
        'coordinates': f'ffn coordinates --flagfile={folder}/coordinates.flags',
        'train': f'ffn train --flagfile={folder}/train.flags',
        # That a request names another machine is not enough for its volume to be opened.
        'segment': f'ffn segment --flagfile={folder}/segment.flags'
        + (' --allow_remote' if is_remote(measured.image) else ''),
    }


def _check_unchanged(contents: Mapping[Path, bytes]) -> None:
    """Refuses to replace files that hold something else than what is to be written."""
    differing = [
        str(path)
        for path, content in contents.items()
        if path.exists() and path.read_bytes() != content
    ]
    if differing:
        raise UserError(
            f'{", ".join(differing)}: would be replaced with something else, and changes made by hand would be '
            'lost; name another --output, or give --replace'
        )


def _flag_lines(flags: Mapping[str, Any], reasons: Mapping[str, str]) -> list[str]:
    """The lines of a flag file; above a flag stands the reason for its value."""
    lines = []
    for flag, value in flags.items():
        lines += [f'# {reasons[flag]}'] if flag in reasons else []
        lines.append(f'--{flag}={value}')
    return lines


def _flags(
    plan: Plan, measured: Measurements, folder: Path, batch_size: int
) -> dict[str, Mapping[str, Any]]:
    """The flags of the stages: file → flag → value."""
    return {
        'partitions.flags': {
            'input_volume': measured.labels,
            'output_volume': f'{folder}/partitions.h5:af',
            'thresholds': _join(plan['thresholds']),
            'lom_radius': _join(plan['lom_radius']),
            'min_size': plan['min_size'],
        },
        'coordinates.flags': {
            'partition_volumes': _entry(f'{NAME}:{folder}/partitions.h5:af'),
            'coordinate_output': f'{folder}/coordinates.tfrecord.gz',
            'margin': _join(plan['margin']),
            'seed': 1,
        },
        'train.flags': {
            'train_coords': f'{folder}/coordinates.tfrecord.gz',
            'data_volumes': _entry(f'{NAME}:{measured.image}'),
            'label_volumes': _entry(f'{NAME}:{measured.labels}'),
            'model_name': 'convstack_3d.ConvStack3DFFNModel',
            'model_args': json.dumps(plan['model_args']),
            'image_mean': plan['image_mean'],
            'image_stddev': plan['image_stddev'],
            **({'voxel_size': _join(measured.voxel_size.xyz)} if measured.voxel_size else {}),
            'permutable_axes': plan['permutable_axes'],
            'augmentation': f'{folder}/augmentation.json',
            'fov_policy': 'max_pred_moves',
            'optimizer': 'adam',
            'learning_rate': 0.001,
            'batch_size': batch_size,
            'max_steps': plan['max_steps'],
            'train_dir': f'{folder}/model',
        },
        'segment.flags': {
            'inference_request': f'{folder}/request.pbtxt',
            'subvolume_size': _join(plan['subvolume_size']),
            'overlap': _join(plan['overlap']),
            'output': f'{_output_format(measured)}://{folder}/segmentation',
        },
    }


def _output_format(measured: Measurements) -> str:
    # Zarr begins at 0, so that it covers more than an image that begins elsewhere; precomputed volumes need a voxel size.
    moved = any(measured.image_box.start) and measured.voxel_size is not None
    return 'precomputed' if moved else 'zarr3'


def _request(plan: Plan, measured: Measurements, folder: Path) -> list[str]:
    # What the training knows (network, mean, thresholds, voxel size) is taken from there.
    return [
        '# Fields that are not set here are those of the training.',
        f'image {{ hdf5: {json.dumps(measured.image)} }}',
        f'model_checkpoint_path: {json.dumps(f"{folder}/model")}',
        f'segmentation_output_dir: {json.dumps(f"{folder}/results")}',
        f'seed_policy: "{plan["seed_policy"]}"',
        '# Fewer steps than the default policy, where the network predicts farther than it moves.',
        'movement_policy_name: "CoarseToFineMovementPolicy"',
        'inference_options {',
        '  segment_threshold: 0.6',
        f'  min_segment_size: {plan["min_segment_size"]}',
        '  min_boundary_dist { x: 1 y: 1 z: 1 }',
        '}',
    ]


def _join(values: Iterable[float]) -> str:
    return ','.join(f'{value:g}' for value in values)


def _entry(text: str) -> str:
    """One entry of a list of flags: between quotes where it holds a comma or a quote itself."""
    line = io.StringIO()
    csv.writer(line, lineterminator='').writerow([text])
    return line.getvalue()
