"""Loaders of what people write or programs leave as text: requests, settings, flags, skeletons, augmentations."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ffn.cli.flags import parse_command, read_settings
from ffn.cli.partitions import Partitions
from ffn.distributed.cluster import read_scheduler_file
from ffn.evaluation.swc import read_swc
from ffn.inference.config import InferenceConfig
from ffn.inference.int8_ranges import read_ranges
from ffn.inference.request import read_boxes, read_config
from ffn.models.checkpoints import latest_checkpoint
from ffn.models.trained_settings import read_trained_settings
from ffn.training.augmentation.config import parse_augmentation
from ffn.utils.atomic import write_json
from ffn.utils.checksums import sealed
from ffn.utils.errors import UserError
from ffn.volumes import provenance
from tests.fuzz.case import Loader
from tests.fuzz.mutations import edit_json_file, edit_text_file

_REQUEST = """
image { hdf5: "volume.h5:raw" }
image_mean: 128
image_stddev: 33.5
voxel_size { x: 8 y: 8 z: 33 }
model_name: "convstack_3d.ConvStack3DFFNModel"
model_args: "{\\"depth\\": 2, \\"fov_size\\": [9, 7, 5], \\"deltas\\": [2, 2, 1]}"
model_checkpoint_path: "none"
seed_policy: "PolicyPeaks"
segmentation_output_dir: "results"
masks { coordinate_expression { expression: "(x > 5) & (z < 3)" } }
inference_options {
  init_activation: 0.95
  pad_value: 0.05
  move_threshold: 0.9
  segment_threshold: 0.6
  min_boundary_dist { x: 1 y: 1 z: 1 }
  min_segment_size: 1000
}
"""
_SWC = """# a tree
1 1 10.5 20 30 1.5 -1
2 3 11 21.25 30 1 1
3 3 12 22 31 1 2
4 3 12 23 31 1 2
"""
_FLAGS = """--input_volume=labels.h5:labels
--output_volume=partitions.h5:af
--thresholds=0.025,0.05,0.1
--lom_radius=24,24,24
--min_size=10000
"""
_SETTINGS = {
    'model_name': 'convstack_3d.ConvStack3DFFNModel',
    'model_args': {'depth': 2, 'fov_size': [9, 7, 5], 'deltas': [2, 2, 1]},
    'image_mean': 128.0,
    'image_stddev': 33.0,
    'init_activation': 0.95,
    'seed_pad': 0.05,
    'threshold': 0.9,
    'voxel_size': [8, 8, 33],
    'image_offset_scale': {'train': [120.0, 30.0]},
    'step': 17,
}
_AUGMENTATION = {
    'voxel_size': [8, 8, 30],
    'rotation_2d': {},
    'elastic': {'probability': 0.5, 'amplitude': 3, 'smoothness': 10, 'per_section': True},
    'missing_section': {'section_probability': 0.02},
}
_SCHEDULER = {
    'type': 'Scheduler',
    'id': 'Scheduler-1',
    'address': 'tcp://127.0.0.1:8786',
    'services': {'dashboard': 8787},
    'started': 1.5,
    'workers': {},
}
_BOXES = """
box { start { x: 1 y: 2 z: 3 } size { x: 10 y: 20 z: 30 } }
box { start { x: 11 y: 2 z: 3 } size { x: 10 y: 20 z: 30 } }
"""


def _good_request(config: InferenceConfig) -> bool:
    options = config.options
    logits = (options.init_activation, options.pad_value, options.move_threshold)
    return (
        all(map(np.isfinite, (*logits, config.image_mean, options.segment_threshold)))
        and 0 < config.image_stddev < np.inf
        and all(0 < n < np.inf for n in config.voxel_size_zyx)
        and min(options.min_boundary_dist) >= 0
        and options.min_segment_size >= 0
        and min(config.batch_size, config.concurrent_requests) >= 1
    )


def _writer(name: str, content: Any) -> Any:
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    return lambda folder: (folder / name).write_text(text)


def _write_ranges(folder: Path) -> None:
    content = {'image': 'volume.h5:raw', 'image_mean': 128.0, 'ranges': [3.5, 12.25, 0.5]}
    write_json(folder / 'network.int8-0123abcd.json', sealed(content))


def _write_settings(folder: Path) -> None:
    _writer('network.json', _SETTINGS)(folder)
    (folder / 'network.weights.h5').write_bytes(b'')


def _good_settings(value: Any) -> bool:
    numbers = (value.image_mean, value.image_stddev, value.seed_pad, value.threshold)
    sizes = value.voxel_size or (1, 1, 1)
    return (
        all(n is None or np.isfinite(n) for n in (*numbers, *sizes))
        and len(sizes) == 3
        and (value.image_stddev is None or value.image_stddev > 0)
        and all(0 < p < 1 for p in numbers[2:] if p is not None)
    )


def _read_flags(folder: Path) -> Any:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            argv = [f'--flagfile={folder / "partitions.flags"}']
            args = parse_command('partitions', '', 'Partitions', Partitions, argv)
    except SystemExit as error:  # the way of argparse, which prints one line and the usage
        raise UserError(said.getvalue()) from error
    return read_settings(args, Partitions)


def _write_state(folder: Path) -> None:
    for step in (5, 17):
        for end in ('.index', '.data-00000-of-00001'):
            (folder / f'model.ckpt-{step}{end}').touch()
    (folder / 'checkpoint').write_text(
        'model_checkpoint_path: "model.ckpt-17"\nall_model_checkpoint_paths: "model.ckpt-17"\n'
    )


def _write_stamp(folder: Path) -> None:
    (folder / 'volume').mkdir()
    metadata = {'zarr_format': 2, 'shape': [5, 6, 7], 'chunks': [5, 6, 7], 'dtype': '|u1'}
    metadata |= {'compressor': None, 'filters': None, 'fill_value': 0, 'order': 'C'}
    (folder / 'volume' / '.zarray').write_text(json.dumps(metadata))
    (folder / 'volume' / 'ffn.json').write_text(json.dumps({'made_from': 'x', 'complete': True}))


LOADERS = (
    Loader(
        'request of inference',
        _writer('request.pbtxt', _REQUEST),
        lambda folder: read_config(str(folder / 'request.pbtxt')),
        ('*.pbtxt',),
        (('*.pbtxt', edit_text_file),),
        check=_good_request,
        names_file=False,
    ),
    Loader(
        'bounding boxes',
        _writer('boxes.pbtxt', _BOXES),
        lambda folder: read_boxes(str(folder / 'boxes.pbtxt')),
        ('*.pbtxt',),
        (('*.pbtxt', edit_text_file),),
        check=lambda boxes: all(min(box.size) > 0 for box in boxes),
        names_file=False,
    ),
    Loader(
        'settings of a network (JSON)',
        _write_settings,
        lambda folder: read_trained_settings(str(folder / 'network.weights.h5')),
        ('*.json',),
        (('*.json', edit_json_file),),
        check=lambda value: value is None or _good_settings(value),
    ),
    Loader(
        'ranges of int8 (JSON)',
        _write_ranges,
        lambda folder: read_ranges(folder / 'network.int8-0123abcd.json'),
        ('*.json',),
        (('*.json', edit_json_file),),
        sealed=True,
        check=lambda ranges: all(0 < top < np.inf for top in ranges),
    ),
    Loader(
        'augmentation (JSON)',
        _writer('augmentation.json', _AUGMENTATION),
        lambda folder: parse_augmentation(str(folder / 'augmentation.json')),
        ('*.json',),
        (('*.json', edit_json_file),),
        check=lambda value: all(n > 0 for n in value.voxel_size),
        names_file=False,
    ),
    Loader(
        'flag file',
        _writer('partitions.flags', _FLAGS),
        _read_flags,
        ('*.flags',),
        (('*.flags', edit_text_file),),
        names_file=False,
    ),
    Loader(
        'skeleton (SWC)',
        _writer('neuron.swc', _SWC),
        lambda folder: read_swc(folder / 'neuron.swc'),
        ('*.swc',),
        (('*.swc', edit_text_file),),
        check=lambda value: bool(
            np.isfinite(value[0]).all() and value[1].max(initial=0) < len(value[0])
        ),
    ),
    Loader(
        "file of Dask's scheduler",
        _writer('scheduler.json', _SCHEDULER),
        lambda folder: read_scheduler_file(str(folder / 'scheduler.json')),
        ('*.json',),
        (('*.json', edit_json_file),),
        check=lambda address: '://' in address,
    ),
    Loader(
        'state of checkpoints (text)',
        _write_state,
        lambda folder: str(latest_checkpoint(folder)).removeprefix(str(folder)),
        ('checkpoint',),
        (('checkpoint', edit_text_file),),
        check=lambda path: path in ('/model.ckpt-17', '/model.ckpt-5'),
    ),
    Loader(
        'stamp of a volume (JSON)',
        _write_stamp,
        lambda folder: provenance.read_input_stamp(f'zarr://{folder}/volume'),
        ('volume/ffn.json',),
        (('volume/ffn.json', edit_json_file),),
    ),
)
