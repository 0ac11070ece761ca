"""The flags of the four scripts are an interface: names, types and defaults stay."""

from __future__ import annotations

import json

import pytest

from tests.calls import run_python

# Name → type and default; None: no default; 'required': it must be given.
FLAGS = {
    'compute_partitions': {
        'exclusion_regions': ('comma separated list of strings', []),
        'id_whitelist': ('comma separated list of strings', []),
        'input_volume': ('string', 'required'),
        'lom_radius': ('comma separated list of strings', 'required'),
        'mask_configs': ('string', ''),
        'min_size': ('int', 10000),
        'missing': ('string enum', 'tell'),
        'output_volume': ('string', 'required'),
        'quiet': ('bool', False),
        'thresholds': ('comma separated list of strings', 'required'),
        'unlabelled': ('int', None),
    },
    'build_coordinates': {
        'coordinate_output': ('string', 'required'),
        'margin': ('comma separated list of strings', 'required'),
        'max_coordinates': ('int', None),
        'partition_volumes': ('comma separated list of strings', 'required'),
        'quiet': ('bool', False),
        'seed': ('int', None),
        'shards': ('int', 1),
    },
    'train': {
        'adam_beta1': ('float', 0.9),
        'adam_beta2': ('float', 0.999),
        'augmentation': ('string', ''),
        'batch_size': ('int', 4),
        'checkpoint_minutes': ('float', 10.0),
        'checkpoint_steps': ('int', 0),
        'data_volumes': ('comma separated list of strings', 'required'),
        'decay_steps': ('int', None),
        'ema_decay': ('float', 0.0),
        'epsilon': ('float', 1e-08),
        'eval_box': ('string', ''),
        'eval_labels': ('string', ''),
        'eval_request': ('string', ''),
        'eval_steps': ('int', 0),
        'fov_moves': ('int', 1),
        'fov_policy': ('string', 'fixed'),
        'fov_window_radius': ('int', 1),
        'gradient_clip_norm': ('float', 0.0),
        'gradient_clip_value': ('float', 0.7),
        'image_mean': ('float', None),
        'image_offset_scale_map': ('comma separated list of strings', []),
        'image_stddev': ('float', None),
        'init_checkpoint': ('string', ''),
        'keep_checkpoint_every_n_hours': ('float', 0.0),
        'keep_checkpoints': ('int', 5),
        'label_volumes': ('comma separated list of strings', 'required'),
        'learning_rate': ('float', 0.001),
        'learning_rate_decay_factor': ('float', None),
        'learning_rate_schedule': ('string', 'exponential'),
        'loss_weight_volumes': ('comma separated list of strings', []),
        'max_steps': ('int', 10000),
        'missing': ('string enum', 'tell'),
        'model_args': ('string', 'required'),
        'model_name': ('string', 'required'),
        'momentum': ('float', 0.9),
        'optimizer': ('string', 'sgd'),
        'permutable_axes': ('comma separated list of strings', ['1', '2']),
        'precision': ('string', 'float32'),
        'quiet': ('bool', False),
        'reflectable_axes': ('comma separated list of strings', ['0', '1', '2']),
        'rmsprop_decay': ('float', 0.9),
        'seed': ('int', 0),
        'seed_pad': ('float', 0.05),
        'shuffle_moves': ('bool', True),
        'skip_corrupt_records': ('bool', False),
        'strategy': ('string', 'auto'),
        'summary_rate_secs': ('float', 120.0),
        'threshold': ('float', 0.9),
        'train_coords': ('string', 'required'),
        'train_dir': ('string', None),
        'unlabelled': ('int', None),
        'unlabelled_weight': ('float', 1.0),
        'unrolled_steps': ('int', 1),
        'volume_weights': ('comma separated list of strings', []),
        'voxel_size': ('comma separated list of strings', []),
        'warmup_steps': ('int', 0),
        'weight_decay': ('float', 0.004),
    },
    'run_inference': {
        'bounding_box': ('string', ''),
        'bounding_boxes': ('string', ''),
        'inference_options': ('string', ''),
        'inference_request': ('string', 'required'),
        'missing': ('string enum', 'tell'),
        'precision': ('string enum', ''),
        'quiet': ('bool', False),
        'report': ('string', ''),
    },
}
EVERY_SCRIPT = {
    'allow_module': ('multi string', []),
    'allow_remote': ('bool', False),
    'log_json': ('bool', False),
}
SHOW = """
import importlib, json, sys
from absl import flags
importlib.import_module(sys.argv[1])
shown = {
    flag.name: [flag.flag_type(), 'required' if flag.validators else flag.default]
    for flag in flags.FLAGS.flags_by_module_dict()[sys.argv[1]]
}
json.dump(shown, sys.stdout)
"""


@pytest.mark.parametrize('script', FLAGS)
def test_flags_of_the_scripts_stay(repository, script):
    done = run_python(repository, '-c', SHOW, script)
    assert done.returncode == 0, done.stderr
    found = {name: tuple(about) for name, about in json.loads(done.stdout).items()}
    assert found == FLAGS[script] | EVERY_SCRIPT
