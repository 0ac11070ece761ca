"""What was accepted is on disk, whatever happens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.inference import inference_pb2, storage
from ffn.proofreading.seeding import accepted
from ffn.proofreading.seeding.background import BackgroundWriter
from ffn.proofreading.seeding.seeding import Seeding
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.npz import read_npz, write_compressed
from tests.proofreading.seeded import BOX, STARTS, accept, everything, runner, session

CORNER = BOX.start.zyx


def result_path(folder):
    return storage.subvolume_path(folder / 'results', CORNER, 'npz')


def objects(folder):
    return sorted(path.name for path in result_path(folder).with_suffix('.objects').glob('*.npz'))


def load(folder):
    return storage.load_segmentation(folder / 'results', CORNER, split_cc=False)


@pytest.fixture(scope='module')
def accepted_folder(tmp_path_factory):
    """A folder in which two objects were accepted, and what they were."""
    folder = tmp_path_factory.mktemp('accepted')
    with session(folder) as seeding:
        for start in STARTS[:2]:
            accept(seeding, start)
        return folder, everything(seeding)


@pytest.fixture
def again(accepted_folder, tmp_path):
    folder = tmp_path / 'copy'
    shutil.copytree(accepted_folder[0], folder)
    # The request of what was accepted names the volume in its folder.
    shutil.rmtree(folder / 'results')
    with session(folder) as seeding:
        for start in STARTS[:2]:
            accept(seeding, start)
    return folder


def test_the_result_is_a_normal_one(accepted_folder):
    folder, segments = accepted_folder
    labels, origins = load(folder)
    np.testing.assert_array_equal(labels, segments)
    assert list(origins) == [1, 2]
    for i, start in enumerate(STARTS[:2], 1):
        assert origins[i].start_zyx == tuple(p - c for p, c in zip(start.zyx, CORNER))
        assert origins[i].iters > 5
        assert origins[i].walltime_sec > 0
    data = read_npz(
        result_path(folder), ['request', 'counters', 'overlaps', 'section_crcs'], [], labels.shape
    )
    request = inference_pb2.InferenceRequest.FromString(data['request'].tobytes())
    assert request.image.hdf5 == f'{folder}/volume.h5:raw'
    assert json.loads(data['counters'].item())['predict-calls'] == sum(
        origin.iters for origin in origins.values()
    )
    assert set(data['overlaps']) == {1, 2}
    confident, _ = storage.load_segmentation(
        folder / 'results', CORNER, threshold=0.97, split_cc=False
    )
    assert 0 < np.count_nonzero(confident) < np.count_nonzero(labels)


def test_the_next_session_goes_on(again):
    before = load(again)
    steps = json.loads(read_npz(result_path(again), ['counters'], [])['counters'].item())
    with session(again) as seeding:
        assert seeding.look().accepted == (1, 2)
        np.testing.assert_array_equal(everything(seeding), before[0])
        assert accept(seeding, STARTS[2]) == 3
        assert seeding.undo() == 3
        assert seeding.undo() == 2
        assert accept(seeding, STARTS[3]) == 2
    labels, origins = load(again)
    assert objects(again) == ['000001.npz', '000002.npz']
    assert origins[1] == before[1][1]
    np.testing.assert_array_equal(labels == 1, before[0] == 1)
    assert labels[STARTS[3].z - 1, STARTS[3].y - 1, STARTS[3].x - 2] == 2
    after = json.loads(read_npz(result_path(again), ['counters'], [])['counters'].item())
    assert after['predict-calls'] > steps['predict-calls']


def test_what_is_taken_back_is_not_counted(tmp_path):
    def counters():
        return json.loads(read_npz(result_path(tmp_path), ['counters'], [])['counters'].item())

    with session(tmp_path) as seeding:
        accept(seeding, STARTS[1])
        accept(seeding, STARTS[0])
    assert counters()['voxels-segmented'] == np.count_nonzero(load(tmp_path)[0])
    with session(tmp_path) as seeding:
        seeding.undo()
    first, (labels, origins) = counters(), load(tmp_path)
    assert first['voxels-segmented'] == np.count_nonzero(labels)
    assert first['valid-time-ms'] == round(1e3 * origins[1].walltime_sec)
    with session(tmp_path) as seeding:
        accept(seeding, STARTS[0])
        seeding.undo()
        accept(seeding, STARTS[0])
    assert counters()['voxels-segmented'] == np.count_nonzero(load(tmp_path)[0])
    overlaps = read_npz(result_path(tmp_path), ['overlaps'], [])['overlaps']
    overlapping = sum(int(counts.sum()) for _, counts in overlaps.values())
    assert counters()['voxels-overlapping'] == overlapping
    # All steps have been made, nevertheless.
    steps = sum(origin.iters for origin in load(tmp_path)[1].values())
    assert counters()['predict-calls'] > steps


def test_a_session_that_changes_nothing_writes_nothing(again):
    before = result_path(again).stat().st_mtime_ns
    with session(again):
        pass
    assert result_path(again).stat().st_mtime_ns == before


@pytest.mark.parametrize('lost', ['missing', 'damaged', 'older'])
def test_the_result_is_made_again(again, lost, caplog):
    labels, origins = load(again)
    if lost == 'missing':
        result_path(again).unlink()
    elif lost == 'damaged':
        result_path(again).write_bytes(b'PK and then nothing')
    else:
        storage.save_result(again / 'results', CORNER, labels * 0, {}, b'', {}, {})
    with session(again):
        pass
    found, known = load(again)
    np.testing.assert_array_equal(found, labels)
    assert known == origins
    assert ('it is made again' in caplog.text) == (lost == 'damaged')


def start_process(folder, moment, *starts):
    command = [sys.executable, '-m', 'tests.proofreading.seeded', str(folder), moment]
    command += [','.join(map(str, start)) for start in starts]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ('moment', 'known'),
    [
        ('', 3),
        ('half:npz', 2),
        pytest.param('before:npz', 2, marks=pytest.mark.slow),
        pytest.param('after:npz', 3, marks=pytest.mark.slow),
    ],
)
def test_a_kill_loses_nothing_that_was_accepted(tmp_path, moment, known):
    with start_process(tmp_path, moment, *STARTS[:3]) as process:
        told = [process.stdout.readline() for _ in range(2 if moment else 3)]
        assert told == ['1\n', '2\n', '3\n'][: len(told)]
        if not moment:
            process.kill()
        assert process.wait(60) == -signal.SIGKILL
    reference = tmp_path / 'reference'
    reference.mkdir()
    with session(reference, saved=False) as seeding:
        for start in STARTS[:known]:
            accept(seeding, start)
        expected = everything(seeding)
    with session(tmp_path) as seeding:
        assert seeding.look().accepted == tuple(range(1, known + 1))
        np.testing.assert_array_equal(everything(seeding), expected)
        assert accept(seeding, STARTS[3]) == known + 1
        seeding.undo()
    np.testing.assert_array_equal(load(tmp_path)[0], expected)
    # The dead process' temporary file is gone.
    assert sorted(os.listdir(result_path(tmp_path).with_suffix('.objects'))) == [
        '.lock',
        *objects(tmp_path),
    ]


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from(['undo', 'close', 'reject']), st.integers(0, len(STARTS) - 1)),
        max_size=10,
    )
)
def test_any_sequence_is_what_a_list_of_masks_says(tmp_path_factory, actions):
    folder = tmp_path_factory.mktemp('sequence')
    model = []
    sessions = session(folder)
    seeding = sessions.__enter__()
    for action in [*actions, 'close']:
        filled = sum(model, np.zeros(BOX.size.zyx, int)) > 0
        if action == 'close':
            sessions.__exit__(None, None, None)
            labels, origins = load(folder) if model or objects(folder) else (filled, {})
            assert list(origins) == list(range(1, len(model) + 1))
            np.testing.assert_array_equal(labels > 0, filled)
            sessions = session(folder)
            seeding = sessions.__enter__()
        elif action == 'undo' and model:
            assert seeding.undo() == len(model)
            model.pop()
        elif action == 'reject':
            free = [s for s in STARTS if not filled[tuple(s.zyx[i] - CORNER[i] for i in range(3))]]
            if free:
                seeding.start(free[0])
                seeding.reject()
        elif isinstance(action, int):
            start = STARTS[action]
            place = tuple(p - c for p, c in zip(start.zyx, CORNER))
            if not filled[place]:
                seeding.start(start)
                seeding.wait(60)
                mask = seeding.read_object(np.s_[:, :, :])
                assert not np.any(mask & filled)
                model.append(mask)
                assert seeding.accept() == len(model)
        for i, mask in enumerate(model, 1):
            np.testing.assert_array_equal(everything(seeding) == i, mask)
        assert objects(folder) == [f'{i:06d}.npz' for i in range(1, len(model) + 1)]
    sessions.__exit__(None, None, None)


def test_one_session_at_a_box_at_a_time(again):
    with session(again):
        with pytest.raises(UserError, match=r'another command works in .*objects'):
            session(again).__enter__()


def test_results_of_other_commands_stay(again):
    shutil.rmtree(result_path(again).with_suffix('.objects'))
    before = result_path(again).read_bytes()
    with pytest.raises(UserError, match='is the result of another command and stays as it is'):
        session(again).__enter__()
    assert result_path(again).read_bytes() == before


def test_a_box_of_another_size_at_the_same_place(tmp_path):
    small = Box(BOX.start, Xyz(24, 20, 16))
    folder = tmp_path / 'results'
    with runner(tmp_path) as made:
        with Seeding(made, small, folder) as seeding:
            accept(seeding, STARTS[0])
            first = everything(seeding)
        # What is accepted fits into a larger box, and the result becomes that of this one.
        with Seeding(made, BOX, folder) as seeding:
            assert seeding.look().accepted == (1,)
        labels, origins = load(tmp_path)
        assert (labels.shape, list(origins)) == (BOX.size.zyx, [1])
        np.testing.assert_array_equal(labels[:, :, :24], first)
        assert not labels[:, :, 24:].any()
        with Seeding(made, BOX, folder) as seeding:
            accept(seeding, STARTS[1])
        before = objects(tmp_path)
        with pytest.raises(
            UserError,
            match=r'object 2, .*, was accepted in a larger box than one of size x,y,z 24,20,16; give that box',
        ):
            Seeding(made, small, folder)
        assert objects(tmp_path) == before


def test_another_volume_is_noticed(again, tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    shutil.copytree(again, elsewhere)
    with pytest.raises(UserError, match=r'was accepted with image .* now it is .*elsewhere'):
        session(elsewhere).__enter__()


def test_another_init_segmentation_is_noticed(again):
    import h5py

    with h5py.File(again / 'volume.h5', 'a') as file:
        file['known'] = np.ones(file['raw'].shape, np.uint8)
    more = f'init_segmentation {{ hdf5: "{again}/volume.h5:known" }}'
    with pytest.raises(UserError, match='accepted with init_segmentation None, now it is'):
        session(again, more=more).__enter__()


def test_one_flipped_bit(again):
    path = result_path(again).with_suffix('.objects') / '000002.npz'
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match=r'000002\.npz'):
        session(again).__enter__()


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('box', [[0, 0, 0], [4, 4, 4000]], 'was accepted in a larger box'),
        ('box', [0, 0, 0], 'is damaged'),
        ('box', [[-1, 0, 0], [4, 4, 4]], 'is not in'),
        ('box', [[0.5, 0, 0], [4, 4, 4]], 'is damaged'),
        ('mask', np.zeros(3, np.uint8), 'is damaged'),
        ('qprob', np.ones(3, np.uint8), 'qprob is uint8 of shape'),
        ('overlaps', np.ones((3, 2), np.int64), 'overlaps is int64 of shape'),
        ('origin', np.ones(2, np.int64), 'is damaged'),
        ('origin', [1, 2, 3000, 4], 'origin is'),
        ('request', b'no request', 'is damaged'),
    ],
)
def test_values_that_are_impossible(again, name, value, message):
    path = result_path(again).with_suffix('.objects') / '000001.npz'
    members = read_npz(path, accepted._MEMBERS, [])
    write_compressed(path, **{**members, name: np.asarray(value)})
    with pytest.raises(UserError, match=message):
        session(again).__enter__()


def test_an_object_that_lies_where_another_one_is(again):
    folder = result_path(again).with_suffix('.objects')
    shutil.copy(folder / '000001.npz', folder / '000003.npz')
    with pytest.raises(UserError, match=r'object 3, .* lies where another one is'):
        session(again).__enter__()


def test_an_object_that_cannot_be_saved_is_not_accepted(again, monkeypatch):
    def full(*_, **__):
        raise OSError(28, 'No space left on device', '000003.npz')

    with session(again) as seeding:
        seeding.start(STARTS[2])
        seeding.wait(60)
        voxels = seeding.look().voxels
        monkeypatch.setattr(storage, 'save_npz', full)
        with pytest.raises(OSError, match='No space left'):
            seeding.accept()
        look = seeding.look()
        assert (look.state, look.voxels, look.accepted) == ('complete', voxels, (1, 2))
        monkeypatch.undo()
        assert seeding.accept() == 3


def test_a_result_that_cannot_be_written_is_told(again, monkeypatch, caplog):
    told = threading.Event()

    def full(*_, **__):
        told.set()
        raise OSError(28, 'No space left on device', 'seg.npz')

    with session(again) as seeding:
        monkeypatch.setattr(storage, 'save_result', full)
        accept(seeding, STARTS[2])
        assert told.wait(30)
        with pytest.raises(OSError, match='No space left'):
            seeding.close()
        assert 'the result cannot be written: ' in seeding.look().message
        monkeypatch.undo()
    assert 'the result cannot be written' in caplog.text
    with session(again) as seeding:
        assert seeding.look().accepted == (1, 2, 3)
    assert list(load(again)[1]) == [1, 2, 3]


def test_the_writer_writes_what_changed_last():
    written, value = [], [0]
    writer = BackgroundWriter(lambda: written.append(value[0]), lambda error: None)
    for value[0] in range(1, 50):
        writer.change()
    writer.close()
    assert written[-1] == 49
    writer = BackgroundWriter(lambda: written.append('nothing'), lambda error: None)
    writer.close()
    assert written[-1] == 49
