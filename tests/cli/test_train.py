"""`ffn train` understands what train.py does, flag files included."""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
import threading
from types import ModuleType, SimpleNamespace

import h5py
import numpy as np
import pytest

from ffn.cli import train
from ffn.inference.seeds.policy import SeedPolicy
from ffn.models.model import create_model
from ffn.utils import trust
from ffn.utils.errors import UserError
from tests.test_train_flags import EXPECTED, FLAGS, IN_ONE_LINE, REQUEST

REQUIRED = (
    '--train_coords=c',
    '--data_volumes=v:a:x',
    '--label_volumes=v:b:x',
    '--model_name=m',
    '--model_args={"depth": 9}',
    '--image_mean=1',
    '--image_stddev=2',
)


@pytest.fixture
def call(monkeypatch):
    """Calls `ffn train`; returns what would be done and the flags that would be saved."""

    def parsed(*argv):
        done = []
        monkeypatch.setattr(train, 'run', lambda *arguments: done.append(arguments))
        train.main(argv)
        return done[0]

    return parsed


def test_every_flag_reaches_its_field(call):
    command, _ = call(*FLAGS)
    config = dataclasses.asdict(command.config)
    assert config['data'].pop('augmentation')['noise'] is not None
    config['data'] |= {n: list(config['data'][n]) for n in ('permutable_axes', 'reflectable_axes')}
    config['data']['offset_scale'] = {n: list(v) for n, v in config['data']['offset_scale'].items()}
    config['voxel_size'] = list(config['voxel_size'])
    assert config == EXPECTED
    held_out = ('--eval_request=r', '--eval_labels=l:x', '--eval_box=b', '--strategy=mirrored')
    command, _ = call(*FLAGS, *held_out)
    assert command.held_out == train.HeldOut('r', 'l:x', 'b')
    assert command.strategy == 'mirrored'


@pytest.mark.parametrize('arguments', [REQUIRED, FLAGS])
def test_the_saved_flags_make_the_same_run(call, arguments, tmp_path):
    command, text = call(*arguments, '--train_dir=d')
    (tmp_path / 'train.flags').write_text(f'# comment\n\n{text}')
    assert call(f'--flagfile={tmp_path}/train.flags') == (command, text)
    # Later flags override those of the file.
    again, _ = call('--flagfile', f'{tmp_path}/train.flags', '--seed=99')
    assert again.config == dataclasses.replace(command.config, seed=99)


def test_values_of_several_lines_are_saved_in_one(call, tmp_path):
    arguments = [
        '--model_args={\n  "depth": 9\n}',
        '--eval_labels=l:x',
        '--eval_box=b',
        '--train_dir=d',
    ]
    command, text = call(*REQUIRED, *arguments, f'--eval_request={REQUEST}')
    (tmp_path / 'train.flags').write_text(text)
    again, _ = call(f'--flagfile={tmp_path}/train.flags')
    assert again.config == command.config
    assert again.held_out == train.HeldOut(IN_ONE_LINE, 'l:x', 'b')


def test_flags_of_absl_in_a_saved_file_are_passed_over(call, tmp_path):
    own = '--nopdb\n--verbosity=0\n--log_dir=\n--stderrthreshold=fatal\n--nohelp\n'
    (tmp_path / 'train.flags').write_text(own + '\n'.join(REQUIRED))
    assert call(f'--flagfile={tmp_path}/train.flags', '--train_dir=d') == call(
        *REQUIRED, '--train_dir=d'
    )
    with pytest.raises(SystemExit):
        call(*REQUIRED, '--verbosity=0')


@pytest.mark.parametrize(
    ('argument', 'value'),
    [
        ('--shuffle_moves=false', False),
        ('--shuffle_moves=1', True),
        ('--noshuffle_moves', False),
        ('--shuffle_moves', True),
    ],
)
def test_switches_are_written_as_for_the_scripts(call, argument, value):
    command, _ = call(*REQUIRED, '--train_dir=d', argument)
    assert command.config.walk.shuffle_moves is value


def test_a_flag_file_that_is_not_there(call, tmp_path):
    with pytest.raises(UserError, match=r'flagfile.*absent\.flags'):
        call(f'--flagfile={tmp_path}/absent.flags')


def test_without_train_dir_it_makes_one(call, tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    command, text = call(*REQUIRED)
    (made,) = tmp_path.iterdir()
    assert command.config.train_dir == str(made)
    assert f'--train_dir={made}\n' in text


@pytest.mark.parametrize('name', ['train_fib25_small.flags', 'train_training_sample2.flags'])
def test_flag_files_of_the_repository(call, repository, name):
    command, _ = call(f'--flagfile={repository}/configs/{name}', '--train_dir=d', '--max_steps=3')
    assert command.config.optimizer.optimizer == 'adam'
    assert command.config.model_args['deltas'] == [8, 8, 8]
    assert command.config.max_steps == 3


def test_a_part_of_a_held_out_box_is_refused_in_every_process(monkeypatch):
    """Before they find each other, and the others wait for one that has ended."""
    monkeypatch.setattr('ffn.training.distribution.make_replicas', lambda kind: pytest.fail(kind))
    held_out = SimpleNamespace(request=REQUEST, labels='', box='')
    command = SimpleNamespace(
        held_out=held_out, config=SimpleNamespace(eval_steps=2), strategy='slurm'
    )
    with pytest.raises(UserError, match='are needed together'):
        train.run(command, '')


@pytest.mark.parametrize('max_steps', [1000, 2010])
def test_a_training_that_has_made_its_steps_has_nothing_to_do(tmp_path, caplog, max_steps):
    for ending in ('index', 'data-00000-of-00001'):
        (tmp_path / f'model.ckpt-2010.{ending}').touch()
    before = sorted(tmp_path.iterdir())
    with caplog.at_level(logging.INFO):
        train.main([*REQUIRED, f'--train_dir={tmp_path}', f'--max_steps={max_steps}'])
    (record,) = caplog.records
    assert record.getMessage() == (
        f'{tmp_path} is at step 2010 already, and --max_steps is {max_steps}: nothing to do'
    )
    assert sorted(tmp_path.iterdir()) == before


def test_a_training_that_has_steps_to_make_goes_on(tmp_path, monkeypatch):
    for ending in ('index', 'data-00000-of-00001'):
        (tmp_path / f'model.ckpt-2010.{ending}').touch()
    begun = []
    monkeypatch.setattr('ffn.training.train_loop.train', lambda *_: begun.append(1) or 2011)
    train.main([*REQUIRED, f'--train_dir={tmp_path}', '--max_steps=2011', '--strategy=one_device'])
    assert begun


SCORED = 'inference_options { segment_threshold: 0.6 }'


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """Begins a training with a held-out box whose request says more, on images of 3 sections of 6 times 8 voxels."""
    monkeypatch.chdir(tmp_path)
    with h5py.File('v.h5', 'w') as file:
        file['raw'] = np.arange(144, dtype=np.uint8).reshape(3, 6, 8)
        file['labels'] = np.ones((3, 6, 8), np.int32)

    def begin(request):
        first = 'image { hdf5: "v.h5:raw" }'
        if 'seed_policy:' not in request:
            first += ' seed_policy: "PolicyPeaks"'
        return [
            *REQUIRED,
            f'--eval_request={first} {request}',
            '--eval_labels=v.h5:labels',
            '--eval_box=start { x: 1 y: 0 z: 0 } size { x: 6 y: 5 z: 3 }',
            '--eval_steps=2',
            '--train_dir=d',
        ]

    return begin


@pytest.mark.parametrize(('request_text', 'message'), [
    ('', 'inference_options.segment_threshold is not set'),
    ('inference_options { segment_threshold: 1.5 }', 'segment_threshold is 1.5'),
    (f"{SCORED} seed_policy_args: '{{\"step\": 3}}'", 'do not fit PolicyPeaks'),
    (f"{SCORED} movement_policy_args: '{{\"deltas\": [1, 2]}}'", 'deltas of movement_policy_args'),
    (f"{SCORED} movement_policy_args: '{{\"far\": 1}}'", 'do not fit FaceMaxMovementPolicy'),
    (f'{SCORED} masks {{ coordinate_expression {{ expression: "x >" }} }}', 'x >'),
    (f'{SCORED} seed_masks {{ volume {{ mask {{ hdf5: "no.h5:m" }} }} }}', 'no.h5'),
    (f'{SCORED} reference_histogram: "no.npz"', 'no.npz'),
    (f'{SCORED} init_segmentation {{ hdf5: "v.h5:no" }}', "no dataset 'no'"),
    (f'{SCORED} precision: "half"', "precision is 'half'"),
    (f'{SCORED} use_ema: true', 'needs --ema_decay'),
    ('imag {}', '--eval_request'),
])  # fmt: skip
def test_a_request_that_cannot_be_scored_is_refused_in_every_process(
    evaluated, request_text, message, monkeypatch
):
    """Before TensorFlow is loaded."""
    monkeypatch.setattr(train, 'startup_messages_hidden', lambda: pytest.fail('was not refused'))
    with pytest.raises((UserError, OSError), match=re.escape(message)):
        train.main(evaluated(request_text))


STACK = 'model_name: "convstack_3d.ConvStack3DFFNModel" model_args: '


@pytest.mark.parametrize(('request_text', 'message'), [
    ('', 'size x,y,z 6,5,3 (z,y,x 3,5,6) is smaller than the field of view x,y,z 7,5,3'),
    (STACK + """'{"depth": 3, "fov_size": [5, 5, 3], "deltas": [1, 1, 1]}'""", 'describes another network'),
    (STACK + """'{"depth": 2, "fov_size": [5, 5, 3], "deltas": [1, 1, 1]}'
      movement_policy_args: '{"deltas": [3, 1, 1]}'""", 'deltas'),
    ('model_name: "convstack_3d.NoSuchModel"', 'NoSuchModel'),
])  # fmt: skip
def test_what_sizes_of_the_network_decide_is_told_before_the_first_step(
    evaluated, request_text, message, monkeypatch
):
    def begin(*arguments):
        sizes = {'depth': 2, 'fov_size': [7, 5, 3], 'deltas': [1, 1, 1]}
        check = arguments[-1]
        check(create_model('convstack_3d.ConvStack3DFFNModel', sizes))
        pytest.fail('was not refused')

    monkeypatch.setattr('ffn.training.train_loop.train', begin)
    with pytest.raises(
        UserError, match='the held-out box cannot be scored: .*' + re.escape(message)
    ):
        train.main(evaluated(f'{SCORED} {request_text}'))


def test_policies_of_ones_own_are_not_judged_by_a_field_of_view_that_is_not_known(
    evaluated, monkeypatch
):
    """Of 5 voxels, as here, none would be left around seeds if half of the box had to be free."""
    monkeypatch.setattr(trust, '_trust', trust.Trust(frozenset(['mylab'])))
    mylab = ModuleType('mylab')
    mylab.Center = type('Center', (SeedPolicy,), {'__init__': lambda *_: pytest.fail('was made')})
    monkeypatch.setitem(sys.modules, 'mylab', mylab)
    begun = []
    monkeypatch.setattr('ffn.training.train_loop.train', lambda *_: begun.append(1) or 2)
    train.main([*evaluated(f'{SCORED} seed_policy: "mylab.Center"'), '--allow_module=mylab'])
    assert begun


def test_a_held_out_box_that_cannot_be_scored_does_not_end_a_training(
    evaluated, monkeypatch, caplog
):
    def evaluate(box, checkpoint):
        raise UserError(f'{checkpoint}: the box is smaller than the field of view')

    monkeypatch.setattr('ffn.evaluation.held_out_box.HeldOutBox.evaluate', evaluate)
    monkeypatch.setattr(
        'ffn.training.train_loop.train',
        lambda _, __, ___, evaluate, *____: scores.append(evaluate('c')),
    )
    scores = []
    train.main(evaluated(SCORED))
    assert scores == [{}]
    assert 'training goes on: c: the box is smaller' in caplog.text


def test_an_evaluation_without_a_mean_is_refused_at_once(call):
    """Its request takes what it lacks from the training, where every volume has a mean of its own."""
    own = [flag for flag in REQUIRED if '--image_' not in flag]
    request = 'seed_policy: "PolicyPeaks" image_stddev: 3 model_checkpoint_path: "m"'
    arguments = (f'--eval_request={request}', '--eval_labels=l:x', '--eval_box=b', '--eval_steps=5')
    command, _ = call(*own, '--image_offset_scale_map=v:1:2', *arguments)
    with pytest.raises(UserError, match='--eval_request does not set image_mean, and --image_mean'):
        train._make_evaluation(command, threading.Event())
