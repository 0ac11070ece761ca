"""What train.py makes of its flags, and what it saves of them."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.calls import run_python

SHOW_CONFIG = """
import dataclasses, json, sys, train
train.FLAGS(['train', *sys.argv[1:]])
given = [flag.name for flag in train.FLAGS.flags_by_module_dict()['train'] if not flag.present]
json.dump([given, dataclasses.asdict(train.make_config())], sys.stdout)
"""
# Field of the config → flag and value, all other than the defaults.
FIELDS = {
    'data': {
        'train_coords': 'a,b', 'data_volumes': {'v': 'r:x', 'w': 's:x'},
        'label_volumes': {'v': 'l:x', 'w': 'm:x'}, 'image_mean': 3.0, 'image_stddev': 4.0,
        'offset_scale': {'w': [5.0, 6.0]}, 'permutable_axes': [0, 1], 'reflectable_axes': [2],
        'volume_weights': {'v': 2.5, 'w': 0.0}, 'loss_weight_volumes': {'w': 'n:x'},
        'skip_corrupt_records': True, 'unlabelled': 37, 'unlabelled_weight': 0.5, 'missing': 'error',
    },
    'walk': {
        'fov_policy': 'window', 'fov_moves': 2, 'shuffle_moves': False, 'seed_pad': 0.07,
        'threshold': 0.8, 'window_radius': 3,
    },
    'optimizer': {
        'optimizer': 'adamw', 'learning_rate': 0.011, 'momentum': 0.12, 'schedule': 'cosine',
        'decay_factor': 0.13, 'decay_steps': 14, 'warmup_steps': 15, 'rmsprop_decay': 0.16,
        'adam_beta1': 0.17, 'adam_beta2': 0.18, 'epsilon': 0.19, 'weight_decay': 0.2,
        'clip_value': 0.21, 'clip_norm': 0.22, 'unrolled_steps': 2, 'ema_decay': 0.23,
    },
    'checkpoints': {'steps': 24, 'minutes': 25.0, 'keep': 26, 'keep_every_hours': 27.0},
    '': {
        'model_name': 'm', 'model_args': {'depth': 28}, 'train_dir': 'd', 'batch_size': 29,
        'max_steps': 30, 'summary_seconds': 31.0, 'precision': 'float16', 'init_checkpoint': 'i',
        'eval_steps': 32, 'voxel_size': [33.0, 34.0, 35.0], 'seed': 36, 'quiet': True,
    },
}  # fmt: skip
FLAG_NAMES = {
    'offset_scale': 'image_offset_scale_map', 'window_radius': 'fov_window_radius',
    'schedule': 'learning_rate_schedule', 'decay_factor': 'learning_rate_decay_factor',
    'clip_value': 'gradient_clip_value', 'clip_norm': 'gradient_clip_norm',
    'steps': 'checkpoint_steps', 'minutes': 'checkpoint_minutes', 'keep': 'keep_checkpoints',
    'keep_every_hours': 'keep_checkpoint_every_n_hours', 'summary_seconds': 'summary_rate_secs',
}  # fmt: skip


def as_flag(field: str, value: object) -> str:
    if field == 'model_args':
        text = json.dumps(value)
    elif isinstance(value, dict):
        pairs = {k: v if isinstance(v, list) else [v] for k, v in value.items()}
        text = ','.join(':'.join(map(str, [k, *v])) for k, v in pairs.items())
    else:
        text = ','.join(map(str, value)) if isinstance(value, list) else str(value)
    return f'--{FLAG_NAMES.get(field, field)}={text}'


FLAGS = [as_flag(f, v) for fields in FIELDS.values() for f, v in fields.items()]
FLAGS.append('--augmentation={"noise": {}}')
EXPECTED = {name: fields for name, fields in FIELDS.items() if name} | FIELDS['']


def test_every_flag_reaches_its_field(repository):
    done = run_python(repository, '-c', SHOW_CONFIG, *FLAGS, timeout=60)
    assert done.returncode == 0, done.stderr
    not_given, config = json.loads(done.stdout)
    of_the_process = {'allow_module', 'allow_remote', 'log_json'}
    of_the_run = {'eval_request', 'eval_labels', 'eval_box', 'strategy'}
    assert set(not_given) - of_the_process == of_the_run
    assert config['data'].pop('augmentation')['noise'] is not None
    assert config == EXPECTED


REQUEST = """
image { hdf5: "a#1.h5:raw" }  # the "same" image
# with the usual policy
seed_policy: 'PolicyPeaks'
"""
IN_ONE_LINE = 'image { hdf5: "a#1.h5:raw" } seed_policy: \'PolicyPeaks\''


SHOW_SAVED = """
import json, sys, train
from ffn.cli import absl_flags, train as command
from ffn.cli.flags import add_settings, format_flags, make_parser
train.FLAGS(['train', *sys.argv[1:]])
parser = make_parser('train', '')
add_settings(parser, '', command.Train, train_dir=None)
saved = format_flags(parser.parse_args(sys.argv[1:]), command.Train)
json.dump([absl_flags.format_flags(command.Train), saved], sys.stdout)
"""


def test_the_script_and_the_command_save_the_same_flags(repository):
    arguments = [flag for flag in FLAGS if not flag.endswith(('=True', '=False'))]
    text = subprocess.run(
        [
            sys.executable,
            '-c',
            SHOW_SAVED,
            *arguments,
            '--quiet',
            '--noshuffle_moves',
            f'--eval_request={REQUEST}',
            '--allow_module=mylab',
            '--allow_remote',
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    by_script, by_command = (set(saved.splitlines()) for saved in json.loads(text))
    assert by_command <= by_script
    assert not [line for line in by_script if 'allow_' in line or 'log_json' in line]
    assert f'--eval_request={IN_ONE_LINE}' in by_script
    assert len(by_command) > 50
