import os

import numpy as np
import pytest
import tensorflow as tf

from ffn.models import checkpoints
from ffn.models.saved_settings import read_settings, write_settings
from ffn.models.weights import load_weights
from ffn.utils.errors import UserError
from tests.models.small_network import ARGS, NAME, make, values


@pytest.fixture
def saved(tmp_path):
    """A folder with checkpoints of steps 10 and 20, and the network of step 20."""
    writer = checkpoints.CheckpointWriter(tmp_path)
    for step in (10, 20):
        model = make(step)
        writer.save(model.named_variables(), step)
    return tmp_path, model


def test_round_trip_through_prefix_file_name_and_folder(saved):
    folder, model = saved
    for path in (folder, folder / 'model.ckpt-20', f'{folder}/model.ckpt-20.index'):
        other = make(1)
        assert load_weights(other, path) == 20
        for name, value in values(other).items():
            np.testing.assert_array_equal(value, values(model)[name])


def test_files_hold_the_flat_names_of_existing_installations(saved):
    folder, model = saved
    reader = tf.train.load_checkpoint(str(folder))
    assert set(reader.get_variable_to_shape_map()) == {*model.named_variables(), 'global_step'}
    assert reader.get_tensor('global_step') == 20
    assert reader.get_variable_to_dtype_map()['global_step'] == tf.int64
    assert tf.train.latest_checkpoint(str(folder)) == f'{folder}/model.ckpt-20'


def test_a_folder_can_be_moved(saved):
    folder, _ = saved
    moved = folder.rename(folder.with_name('moved'))
    assert checkpoints.latest_checkpoint(moved) == f'{moved}/model.ckpt-20'
    assert tf.train.latest_checkpoint(str(moved)) == f'{moved}/model.ckpt-20'


def test_latest_is_the_newest_whole_one_whatever_the_state_file_says(saved):
    folder, _ = saved
    (folder / 'model.ckpt-20.data-00000-of-00001').unlink()
    assert checkpoints.latest_checkpoint(folder) == f'{folder}/model.ckpt-10'
    (folder / 'checkpoint').unlink()
    assert checkpoints.latest_checkpoint(folder) == f'{folder}/model.ckpt-10'
    (folder / 'checkpoint').write_bytes(b'\xff\x00 not text')
    assert checkpoints.latest_checkpoint(folder) == f'{folder}/model.ckpt-10'


def test_writing_that_breaks_off_leaves_the_last_one(saved, monkeypatch):
    folder, _ = saved
    writer = checkpoints.CheckpointWriter(folder, keep=1)

    def no_space(**_):
        raise tf.errors.ResourceExhaustedError(None, None, 'No space left on device')

    with monkeypatch.context() as patched:
        patched.setattr(tf.raw_ops, 'SaveV2', no_space)
        with pytest.raises(UserError, match='No space left'):
            writer.save(make(30).named_variables(), 30)
    assert load_weights(make(), folder) == 20


def test_only_the_newest_are_kept(tmp_path):
    writer = checkpoints.CheckpointWriter(tmp_path, keep=2)
    writer.save(make().named_variables(), 7)
    for file in tmp_path.glob('model.ckpt-7.*'):  # a name of the user's
        file.rename(file.with_name(file.name.replace('-7', '-best')))
    for step in (8, 9, 10, 11):
        writer.save(make().named_variables(), step)
    assert sorted(p.name for p in tmp_path.glob('*.index')) == [
        'model.ckpt-10.index',
        'model.ckpt-11.index',
        'model.ckpt-best.index',
    ]
    assert len(list(tmp_path.iterdir())) == 3 * 2 + 1


def test_one_of_every_so_many_hours_is_kept_over_restarts(tmp_path, monkeypatch):
    """A checkpoint every quarter of an hour, one per hour kept, a restart after each."""
    now = 1e9
    monkeypatch.setattr(checkpoints.time, 'time', lambda: now)
    for step in range(1, 21):
        now += 900
        writer = checkpoints.CheckpointWriter(tmp_path, keep=2, keep_every_hours=1)
        writer.save(make().named_variables(), step)
        for file in tmp_path.glob(f'model.ckpt-{step}.*'):
            os.utime(file, (now, now))
    kept = sorted(int(path.stem.split('-')[1]) for path in tmp_path.glob('*.index'))
    assert kept[-2:] == [19, 20]
    old = kept[:-2]
    assert len(old) in (4, 5)
    assert set(np.diff(old)) == {4}


def test_settings_travel_beside_the_checkpoint(saved):
    folder, _ = saved
    assert read_settings(folder / 'model.ckpt-10') is None
    settings = {'model_name': NAME, 'model_args': ARGS, 'image_mean': 128.0}
    write_settings(folder, settings)
    assert read_settings(folder / 'model.ckpt-10') == settings
    assert read_settings(folder) == settings
    (folder / 'model.json').write_text('{"model_name": ')
    with pytest.raises(UserError, match=r'model\.json'):
        read_settings(folder)


def check_refused(model, path, *words):
    before = values(model)
    with pytest.raises(UserError) as caught:
        load_weights(model, path)
    for word in words:
        assert word in str(caught.value)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_missing_checkpoints(saved):
    folder, _ = saved
    check_refused(make(), folder / 'model.ckpt-30', 'model.ckpt-30')
    (folder / 'empty').mkdir()
    check_refused(make(), folder / 'empty', 'empty')
    check_refused(make(), folder / 'nowhere' / 'model.ckpt-1', 'nowhere')


def test_checkpoints_of_another_network(saved):
    folder, _ = saved
    check_refused(
        make(features=4),
        folder,
        'seed_update/conv0_a/weights',
        '(3, 3, 3, 2, 3)',
        '(3, 3, 3, 2, 4)',
    )
    check_refused(make(depth=3), folder, 'seed_update/conv2_a/weights')
    check_refused(make(depth=1), folder, 'conv1_a')


@pytest.mark.parametrize('size', [0, 7, 100])
@pytest.mark.parametrize('file', ['index', 'data-00000-of-00001'])
def test_truncated_files(saved, file, size):
    folder, _ = saved
    os.truncate(folder / f'model.ckpt-20.{file}', size)
    check_refused(make(), folder / 'model.ckpt-20', 'model.ckpt-20')


def test_files_of_another_kind(saved):
    folder, _ = saved
    (folder / 'model.ckpt-20.index').write_text('no checkpoint at all, but long enough to be ' * 9)
    check_refused(make(), folder / 'model.ckpt-20', 'model.ckpt-20')


def test_averaged_weights_beside_the_weights(tmp_path):
    """Training with --ema_decay saves both; which are loaded is for the reader to say."""
    plain, averaged = make(1), make(2)
    named = {f'ema/{name}': value for name, value in values(averaged).items()}
    state = {'optimizer/000_momentum': np.ones((2, 3), np.float32)}
    path = checkpoints.CheckpointWriter(tmp_path).save({**values(plain), **named, **state}, 5)
    for ema, expected in ((False, plain), (True, averaged)):
        other = make(3)
        assert load_weights(other, path, ema) == 5
        for name, value in values(other).items():
            np.testing.assert_array_equal(value, values(expected)[name])
    check_refused(make(depth=1), path, 'conv1_a')  # with the layers of the averages or without
    with pytest.raises(UserError, match=r'averaged weights of .* has layers that this model lacks'):
        load_weights(make(depth=1), path, ema=True)


def test_no_averaged_weights(saved):
    folder, model = saved
    other = make(3)
    with pytest.raises(UserError, match=r'holds no averaged weights \(ema/…\).*use_ema'):
        load_weights(other, folder, ema=True)
    part = {f'ema/{n}': v for n, v in values(model).items() if 'conv0_a' in n}
    checkpoints.CheckpointWriter(folder).save({**values(model), **part}, 30)
    with pytest.raises(
        UserError, match=r'averaged weights of .* has no variable seed_update/conv0_b'
    ):
        load_weights(other, folder, ema=True)
    for name, value in values(other).items():
        np.testing.assert_array_equal(value, values(make(3))[name])
