"""Checkpoints as files: names, the latest one, writing that breaks off, and removing old ones."""

import os

import numpy as np
import pytest
import tensorflow as tf

from ffn.models import checkpoints
from ffn.models.weights import load_weights
from ffn.utils.errors import UserError
from tests.flips import refusals
from tests.models.small_network import make


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


def test_a_training_that_was_set_back_keeps_what_it_saves(tmp_path):
    model = make()

    def steps():
        return sorted(int(path.stem.split('-')[1]) for path in tmp_path.glob('*.index'))

    writer = checkpoints.CheckpointWriter(tmp_path)
    for step in (10, 20, 30, 40):
        writer.save(model.named_variables(), step)
    (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-20"\n')
    writer = checkpoints.CheckpointWriter(tmp_path, keep=2)
    for step in (21, 22, 23):
        assert writer.save(model.named_variables(), step).endswith(f'-{step}')
        assert checkpoints.latest_checkpoint(tmp_path) == f'{tmp_path}/model.ckpt-{step}'
        assert load_weights(make(1), tmp_path) == step
    assert steps() == [22, 23, 30, 40]
    # Those that it passes grow old as others do.
    writer.save(model.named_variables(), 31)
    assert steps() == [30, 31, 40]
    # One that was killed before it named its last one.
    writer = checkpoints.CheckpointWriter(tmp_path, keep=1)
    writer.save(model.named_variables(), 35)
    assert steps() == [35, 40]


def test_checkpoints_of_later_steps_are_told(saved, caplog):
    folder, _ = saved
    writer = checkpoints.CheckpointWriter(folder)
    writer.warn_of_later(20)
    assert not caplog.text
    writer.warn_of_later(9)
    assert 'goes on from step 9' in caplog.text
    assert 'lie beside: 10, 20. They stay until' in caplog.text


@pytest.mark.parametrize(
    'ending',
    [
        *('.index', '.data-00000-of-00001', '.input-00002-of-00012', '.int8-0a1b2c3d.json'),
        *('.input-00000-of-00001.aside', '.input-00000-of-00001.aside2'),
    ],
)
def test_any_file_stands_for_its_checkpoint(saved, ending):
    folder, _ = saved
    path = f'{folder}/model.ckpt-10'
    assert checkpoints.find_checkpoint(path + ending) == path
    assert checkpoints.without_ending(path) == path
    assert checkpoints.without_ending(f'{path}.json') == f'{path}.json'


def test_ranges_for_int8_go_with_their_checkpoint(saved):
    folder, model = saved
    for step in (10, 20):
        (folder / f'model.ckpt-{step}.int8-0a1b2c3d.json').write_text('{}')
    checkpoints.CheckpointWriter(folder, keep=2).save(model.named_variables(), 30)
    assert [path.name for path in folder.glob('*.json')] == ['model.ckpt-20.int8-0a1b2c3d.json']


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


def test_a_folder_stands_for_its_last_checkpoint_until_a_newer_one_is_there(saved):
    folder, model = saved
    assert checkpoints.resolve_checkpoint(str(folder)) == f'{folder}/model.ckpt-20'
    checkpoints.CheckpointWriter(folder).save(model.named_variables(), 30)
    assert checkpoints.resolve_checkpoint(str(folder)) == f'{folder}/model.ckpt-30'


def test_other_paths_stand_for_themselves(saved, tmp_path):
    (tmp_path / 'empty').mkdir()
    for path in ('', f'{tmp_path}/model.ckpt-10', f'{tmp_path}/none', f'{tmp_path}/empty'):
        assert checkpoints.resolve_checkpoint(path) == path


@pytest.mark.parametrize('ending', ['.index', '.data-00000-of-00001'])
def test_one_flipped_bit(saved, ending):
    """TensorFlow's files have checksums of their own."""
    folder, _ = saved

    def read():
        found = checkpoints.read_variables(folder / 'model.ckpt-20')
        return {name: array.tolist() for name, array in sorted(found.items())}

    assert refusals(folder / f'model.ckpt-20{ending}', read, 30) >= 20


def test_what_killed_trainings_left(saved):
    """Checkpoints stay, also those of others, and those that are split among files."""
    folder, _ = saved
    abandoned = [
        'model.ckpt-30.data-00000-of-00001',
        'model.ckpt-30.input-00000-of-00002',
        'model.ckpt-40.data-00000-of-00001.tempstate123456',
        'model.ckpt-20.index.tempstate7',
    ]
    kept = [
        'model.ckpt-20.input-00001-of-00002',
        'model.ckpt-50.index',
        'model.ckpt-50.data-00000-of-00002',
        'model.ckpt-60.data-00001-of-00002',
        'model.ckpt-best.data-00000-of-00001',
        'other-30.data-00000-of-00001',
        'model.ckpt-70.meta',
    ]
    for name in (*abandoned, *kept):
        (folder / name).write_bytes(b'x')
    before = {path.name for path in folder.iterdir()}
    checkpoints.CheckpointWriter(folder).remove_abandoned()
    assert before - {path.name for path in folder.iterdir()} == set(abandoned)
    assert load_weights(make(1), folder) == 20


def test_an_index_that_points_out_of_the_file(saved):
    """TensorFlow would make room for a block of 2^40 bytes."""
    folder, _ = saved
    path = folder / 'model.ckpt-20.index'
    data = path.read_bytes()
    footer = b'\0\0' + b'\0' + b'\x80' * 5 + b'\x20'  # varints: offset, size, offset, 2^40
    path.write_bytes(data[:-48] + footer.ljust(40, b'\0') + data[-8:])
    with pytest.raises(UserError, match=r'model\.ckpt-20 is no readable checkpoint: its index'):
        checkpoints.read_variables(folder / 'model.ckpt-20')
