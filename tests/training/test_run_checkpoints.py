"""Checkpoints of a run: resumed, it ends bit for bit as if it had never been interrupted."""

import numpy as np
import pytest

from ffn.models import checkpoints
from ffn.models.model import create_model
from ffn.models.saved_settings import read_settings
from ffn.models.weights import load_weights
from ffn.training import train_loop
from ffn.training.augmentation.config import parse_augmentation
from ffn.training.config import CheckpointConfig, WalkConfig
from ffn.training.input.examples import ExampleSource
from ffn.training.input.input_state import read_input_state, write_input_state
from ffn.training.optimizer_config import OptimizerConfig
from ffn.training.walks.walk import BatchWalker
from ffn.utils.errors import UserError
from tests.events import read_events
from tests.training import sample

AUGMENTATION = '{"rotation_2d": {}, "noise": {}, "missing_section": {}}'


@pytest.fixture
def folder(tmp_path):
    sample.write_sample(tmp_path)
    return tmp_path


def config(folder, name, max_steps, **kwargs):
    return sample.train_config(
        folder, train_dir=str(folder / name), max_steps=max_steps, batch_size=3, **kwargs
    )


def run(folder, name, ends, **kwargs):
    for end in ends:
        assert train_loop.train(config(folder, name, end, **kwargs)) == end
    path = checkpoints.latest_checkpoint(folder / name)
    return checkpoints.read_variables(path), read_input_state(path, 0, 1)


@pytest.mark.parametrize(
    'policy', [pytest.param('fixed', marks=pytest.mark.slow), 'max_pred_moves']
)
def test_cut_in_three_it_ends_bit_for_bit_as_uncut(folder, policy):
    kwargs = {
        'walk': WalkConfig(policy),
        'optimizer': OptimizerConfig('adam', 0.01, ema_decay=0.9, warmup_steps=3),
        'data': {'augmentation': parse_augmentation(AUGMENTATION)},
        'model_args': {**sample.MODEL_ARGS, 'fov_size': [5, 5, 5], 'deltas': [1, 1, 1]},
    }
    whole, examples = run(folder, 'whole', [37], **kwargs)
    parts, taken_up = run(folder, 'parts', [11, 12, 37], **kwargs)
    assert set(whole) == set(parts)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)
    assert set(examples) == set(taken_up)
    for name, value in examples.items():
        np.testing.assert_array_equal(value, taken_up[name], err_msg=name)
    assert int(examples['used/v']) > 3


def test_another_number_of_processes_goes_on_behind_what_all_have_used(folder, monkeypatch):
    _, state = run(folder, 'model', [4])
    (folder / 'model' / 'model.ckpt-4.input-00000-of-00001').unlink()
    for worker, position in enumerate((40, 31, 52)):
        used = {**state, 'position': np.array(position), 'fovs': np.array(1000)}
        write_input_state(folder / 'model', 4, worker, 3, used)
    positions = []
    monkeypatch.setattr(ExampleSource, 'seek', lambda self, position: positions.append(position))
    _, state = run(folder, 'model', [6])
    assert positions == [123]
    assert int(state['fovs']) == 1000 + 2 * 3


def test_fields_of_view_are_counted_across_changes_of_the_batch(folder, caplog):
    caplog.set_level('INFO')
    run(folder, 'model', [4], summary_seconds=0)
    train_loop.train(
        sample.train_config(
            *(folder,),
            train_dir=str(folder / 'model'),
            max_steps=6,
            batch_size=5,
            summary_seconds=0,
        )
    )
    assert read_events(folder / 'model')['fov/seen'] == {2: 6, 4: 12, 6: 22}
    assert 'it has seen 12, and each step sees 5' in caplog.text
    assert 'step 6 of 6, 22 FOVs' in caplog.text


def test_without_the_input_state_new_examples_begin(folder, caplog):
    run(folder, 'model', [4])
    for file in (folder / 'model').glob('*.input-*'):
        file.write_bytes(b'PK damaged')
    assert train_loop.train(config(folder, 'model', 6)) == 6
    assert 'interrupted examples cannot be resumed' in caplog.text
    (aside,) = (folder / 'model').glob('*.aside')
    assert aside.name == 'model.ckpt-4.input-00000-of-00001.aside'
    assert aside.read_bytes() == b'PK damaged'


def test_what_inference_will_do_otherwise_is_told(folder, caplog):
    run(folder, 'model', [2], voxel_size=(8.0, 8.0, 30.0))
    assert 'which inference will take' not in caplog.text
    run(folder, 'model', [3], voxel_size=(8.0, 8.0, 33.0))
    assert 'began with voxel_size [8.0, 8.0, 30.0] and goes on with [8.0, 8.0, 33.0]' in caplog.text
    caplog.clear()
    run(folder, 'model', [4])
    assert 'which inference will take' not in caplog.text
    assert read_settings(folder / 'model')['voxel_size'] == [8.0, 8.0, 33.0]
    (folder / 'model' / 'model.json').write_text('{')
    run(folder, 'model', [5])
    assert 'made anew' in caplog.text
    assert 'voxel_size' not in read_settings(folder / 'model')


@pytest.mark.parametrize(
    ('change', 'why'),
    [
        ({'walk': WalkConfig('max_pred_moves')}, ''),
        ({'seed': 4}, '--seed was 0'),
        ({'data': {'reflectable_axes': ()}}, '(--reflectable_axes changed)'),
        (
            {'data': {'augmentation': parse_augmentation('{"noise": {}}')}},
            '(--augmentation changed)',
        ),
        (
            {'walk': WalkConfig(threshold=0.8), 'data': {'image_mean': 130.0}},
            '(--image_mean, --threshold changed)',
        ),
    ],
)
def test_other_settings_begin_with_new_examples(folder, caplog, change, why, monkeypatch):
    """Those that follow the ones that were used, of which there were fewer than steps."""
    args = {**sample.MODEL_ARGS, 'fov_size': [5, 5, 5], 'deltas': [1, 1, 1]}
    _, state = run(folder, 'model', [4], model_args=args)
    first = 0 if 'seed' in change else int(state['position'])
    assert first < 4 * 3
    positions, numbers, batch = [], [], BatchWalker.batch

    def look(self):
        made = batch(self)
        positions.append([walk.position for walk in self._walks])
        numbers.append([walk.example.number for walk in self._walks])
        return made

    monkeypatch.setattr(BatchWalker, 'batch', look)
    assert train_loop.train(config(folder, 'model', 6, model_args=args, **change)) == 6
    assert 'interrupted examples cannot be resumed' in caplog.text
    assert why in caplog.text
    assert positions[0] == [(0, 0, 0)] * 3
    assert numbers[0] == [first, first + 1, first + 2]


def test_input_states_that_do_not_tell_settings_are_taken_up(folder, caplog):
    """Those of earlier versions."""
    _, state = run(folder, 'model', [4])
    assert any(name.startswith('setting/') for name in state)
    older = {name: value for name, value in state.items() if not name.startswith('setting/')}
    write_input_state(folder / 'model', 4, 0, 1, older)
    caplog.clear()
    _, state = run(folder, 'model', [6], data={'missing': 'error'})
    assert 'cannot be resumed' not in caplog.text
    _, whole = run(folder, 'whole', [6])
    for name, value in whole.items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


def test_giving_up_averages_is_told(folder, caplog):
    averaged = OptimizerConfig('adam', 0.01, ema_decay=0.9)
    run(folder, 'model', [2], optimizer=averaged)
    run(folder, 'model', [3], optimizer=averaged)
    assert 'averaged weights' not in caplog.text
    stored, _ = run(folder, 'model', [4], optimizer=OptimizerConfig('adam', 0.01))
    assert 'model.ckpt-3 holds averaged weights, which the training gives up' in caplog.text
    assert not [name for name in stored if name.startswith('ema/')]
    caplog.clear()
    run(folder, 'model', [5], optimizer=OptimizerConfig('adam', 0.01))
    assert 'averaged weights' not in caplog.text


def test_another_precision_keeps_the_state_of_the_optimizer(folder, caplog):
    adam = OptimizerConfig('adam', 0.01)
    for step, precision in enumerate(('float32', 'float16', 'float16', 'bfloat16'), 1):
        stored, _ = run(folder, 'model', [step], optimizer=adam, precision=precision)
        assert int(stored['optimizer/000_iteration']) == step
        # Of good steps in float16.
        good = stored.get('optimizer/loss_scale_good_steps', 0)
        assert int(good) == (step - 1 if precision == 'float16' else 0)
    assert 'starts afresh' not in caplog.text
    stored, _ = run(folder, 'model', [5], optimizer=OptimizerConfig('momentum'))
    assert 'holds no state of the optimizer momentum: it starts afresh' in caplog.text
    assert int(stored['optimizer/000_iteration']) == 1


@pytest.mark.parametrize('name', ['adam', 'adamw'])
def test_an_optimizer_that_starts_late_corrects_the_bias_of_its_averages(folder, name):
    still = OptimizerConfig('sgd', 1e-30, ema_decay=0.9)
    before, _ = run(folder, 'model', [3], optimizer=still)
    late = {n: value for n, value in before.items() if n != 'global_step'}
    checkpoints.CheckpointWriter(folder / 'model').save(late, 1000)
    steep = OptimizerConfig(
        *(name, 0.01), schedule='cosine', decay_steps=2000, weight_decay=0, ema_decay=0.9
    )
    after, _ = run(folder, 'model', [1001], optimizer=steep)
    assert int(after['optimizer/000_iteration']) == 1
    moves = {n: np.abs(after[n] - before[n]) for n in before if n.startswith('seed_update/')}
    # Half of the rate is left after half of the steps; Adam's first step is one rate.
    rate = 0.01 * 0.5 * (1 + np.cos(np.pi * 1000 / 2000))
    assert max(move.max() for move in moves.values()) == pytest.approx(rate, rel=1e-3)
    # The averages go on, and do not begin anew.
    for n, move in moves.items():
        kept = np.abs(after[f'ema/{n}'] - before[f'ema/{n}'])
        np.testing.assert_allclose(kept, 0.1 * move, atol=1e-6)
    again, _ = run(folder, 'model', [1002, 1003], optimizer=steep)
    assert int(again['optimizer/000_iteration']) == 3
    rates = read_events(folder / 'model')['learning_rate']
    assert rates[1003] == pytest.approx(0.01 * 0.5 * (1 + np.cos(np.pi * 1003 / 2000)), rel=1e-4)


def test_old_input_states_go_with_their_checkpoints(folder):
    run(folder, 'model', [9], checkpoints=CheckpointConfig(steps=2, keep=2))
    names = sorted(path.name for path in (folder / 'model').glob('*.input-*'))
    assert names == [f'model.ckpt-{n}.input-00000-of-00001' for n in (8, 9)]


def test_set_back_it_goes_on_beside_later_checkpoints(folder, caplog):
    every = CheckpointConfig(steps=2, keep=2)
    run(folder, 'model', [8], checkpoints=every)
    assert 'lie beside' not in caplog.text
    (folder / 'model' / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-6"\n')
    run(folder, 'model', [7], checkpoints=every)
    assert 'goes on from step 6, and checkpoints of later steps lie beside: 8.' in caplog.text
    assert checkpoints.latest_checkpoint(folder / 'model').endswith('-7')


def weights_at(path, ema=False):
    model = create_model(sample.MODEL, sample.MODEL_ARGS)
    load_weights(model, path, ema=ema)
    return {name: np.asarray(value).copy() for name, value in model.named_variables().items()}


def test_init_checkpoint_gives_weights_and_nothing_else(folder):
    first, _ = run(folder, 'first', [5])
    still = OptimizerConfig('sgd', 1e-30, ema_decay=0.5)
    second, _ = run(folder, 'second', [2], init_checkpoint=str(folder / 'first'), optimizer=still)
    for name in weights_at(folder / 'first'):
        np.testing.assert_array_equal(second[name], first[name])
        np.testing.assert_allclose(second[f'ema/{name}'], first[name], atol=1e-7)
    assert int(second['global_step']) == 2
    # A checkpoint of the run itself goes before.
    third, _ = run(folder, 'second', [3], init_checkpoint=str(folder / 'none'), optimizer=still)
    assert int(third['global_step']) == 3


def test_init_checkpoint_that_does_not_fit(folder):
    with pytest.raises(UserError, match='no checkpoint at'):
        run(folder, 'model', [2], init_checkpoint=str(folder / 'none'))
    run(folder, 'first', [1])
    other = {**sample.MODEL_ARGS, 'features': 5}
    with pytest.raises(UserError, match='conv0_a'):
        run(folder, 'model', [2], init_checkpoint=str(folder / 'first'), model_args=other)
    assert not list(folder.glob('model/*.index'))


def test_a_full_disk_leaves_the_last_checkpoint(folder, monkeypatch):
    run(folder, 'model', [2])
    before = weights_at(folder / 'model')

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'savez', full)
    with pytest.raises(OSError, match='No space'):
        train_loop.train(config(folder, 'model', 5))
    monkeypatch.undo()
    for name, value in weights_at(folder / 'model').items():
        np.testing.assert_array_equal(value, before[name])
    assert train_loop.train(config(folder, 'model', 5)) == 5
