import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ffn.inference import inference_pb2, storage
from ffn.inference.storage import OriginInfo
from ffn.utils import npz
from ffn.utils.errors import UserError

CORNER = (3, 20, 100)


def labels():
    """Two objects, the first in two parts."""
    array = np.zeros((6, 8, 10), dtype=np.int32)
    array[1:3, 1:4, 1:5] = 1
    array[4, 6, 7:9] = 1
    array[3:5, 1:3, 6:9] = 300
    return array


ORIGINS = {1: OriginInfo((1, 2, 3), 7, 0.5), 300: OriginInfo((4, 1, 7), 9, 1.5)}


def save(directory, **kwargs):
    arguments = {
        'segmentation': labels(),
        'origins': ORIGINS,
        'request': b'\x0a\x03abc',
        'counters': {'predict-calls': 16},
        'overlaps': {300: np.array([[1], [5]])},
    }
    storage.save_result(directory, CORNER, **{**arguments, **kwargs})
    return storage.subvolume_path(directory, CORNER, 'npz')


@pytest.mark.parametrize('split_cc', [False, True])
def test_what_is_not_labelled_is_no_object(tmp_path, split_cc):
    array = labels().astype(np.uint64)
    array[array == 300] = 2**64 - 1
    array[0, 0, 0] = 2**64 - 2
    save(tmp_path, segmentation=array, origins={1: ORIGINS[1], 2**64 - 1: ORIGINS[300]})
    loaded, origins = storage.load_segmentation(tmp_path, CORNER, split_cc=split_cc)
    np.testing.assert_array_equal(loaded > 0, (array > 0) & (array < 2**64 - 1))
    assert loaded[0, 0, 0] == (1 if split_cc else 2**64 - 2)
    assert set(origins.values()) == {ORIGINS[1]}


def test_paths_are_x_y_z():
    path = storage.subvolume_path('seg', CORNER, 'npz')
    assert str(path) == os.path.join('seg', '100', '20', 'seg-100_20_3.npz')
    assert (
        storage.subvolume_path('seg', CORNER, 'prob', old_layout=True).name == 'seg-100_20_3.prob'
    )


@given(hnp.arrays(np.float32, (3, 5, 7), elements=st.floats(0, 1, width=32) | st.just(np.nan)))
def test_quantised_as_by_digitize(prob):
    expected = np.digitize(prob, np.linspace(0, 1, 255))
    expected[np.isnan(prob)] = 0
    quantised = storage.quantize_probability(prob)
    assert quantised.dtype == np.uint8
    assert np.array_equal(quantised, expected)
    back = storage.dequantize_probability(quantised)
    assert np.array_equal(np.isnan(back), np.isnan(prob))
    assert np.nanmax(np.abs(back - prob), initial=0) < 0.5 / 254 + 1e-2


def test_quantised_at_every_step():
    steps = np.linspace(0, 1, 255)
    for values in (steps, np.nextafter(steps, 0), np.nextafter(steps, 1), steps.astype(np.float32)):
        assert np.array_equal(storage.quantize_probability(values), np.digitize(values, steps))
    assert np.isnan(storage.dequantize_probability(np.uint8(0)))
    assert storage.dequantize_probability(np.uint8(128)) == np.float32(0.5)


def test_round_trip(tmp_path):
    path = save(tmp_path)
    loaded, origins = storage.load_segmentation(tmp_path, CORNER, split_cc=False)
    assert loaded.dtype == np.uint64
    assert np.array_equal(loaded, labels())
    assert origins == ORIGINS
    assert storage.load_origins(tmp_path, CORNER) == ORIGINS
    with np.load(path, allow_pickle=True) as members:
        assert members['segmentation'].dtype == np.uint16
        assert members['request'].item() == b'\x0a\x03abc'
        assert members['counters'].item() == b'{"predict-calls": 16}'
        assert members['origins'].item() == ORIGINS
        assert members['overlaps'].item()[300].tolist() == [[1], [5]]


def test_the_older_layout_is_read(tmp_path):
    path = save(tmp_path)
    shutil.move(path, storage.subvolume_path(tmp_path, CORNER, 'npz', old_layout=True))
    assert storage.load_segmentation(tmp_path, CORNER)[0].max() == 3


def test_components_get_ids_and_the_origins_of_what_they_came_from(tmp_path):
    save(tmp_path)
    split, origins = storage.load_segmentation(tmp_path, CORNER)
    assert sorted(np.unique(split)) == [0, 1, 2, 3]
    assert split[1, 1, 1] != split[4, 6, 7]
    assert origins[int(split[1, 1, 1])] == origins[int(split[4, 6, 7])] == ORIGINS[1]
    assert origins[int(split[3, 1, 6])] == ORIGINS[300]


def test_small_objects_can_be_left_out(tmp_path):
    save(tmp_path)
    whole, origins = storage.load_segmentation(tmp_path, CORNER, split_cc=False, min_size=13)
    assert np.array_equal(whole, np.where(labels() == 1, 1, 0))
    assert set(origins) == {1}
    split, origins = storage.load_segmentation(tmp_path, CORNER, min_size=3)
    assert split[4, 6, 7] == 0
    assert len(origins) == 2


@pytest.mark.parametrize('threshold', [0.1, 0.7, np.float64(0.7), np.float32(0.3)])
def test_what_is_stored_as_the_threshold_stays(tmp_path, threshold):
    save(tmp_path, qprob=np.full((6, 8, 10), round(255 * threshold + 0.5), np.uint8))
    loaded, _ = storage.load_segmentation(tmp_path, CORNER, threshold=threshold, split_cc=False)
    assert np.array_equal(loaded, labels())


def test_a_threshold_on_the_stored_probability(tmp_path):
    qprob = storage.quantize_probability(np.linspace(0, 1, 480).reshape(6, 8, 10))
    save(tmp_path, qprob=qprob)
    loaded, _ = storage.load_segmentation(tmp_path, CORNER, threshold=0.5, split_cc=False)
    assert np.array_equal(loaded, np.where(qprob >= 128, labels(), 0))
    # The two files may lie in different layouts of folders.
    moved = storage.subvolume_path(tmp_path, CORNER, 'prob', old_layout=True)
    storage.subvolume_path(tmp_path, CORNER, 'prob').rename(moved)
    again, _ = storage.load_segmentation(tmp_path, CORNER, threshold=0.5, split_cc=False)
    assert np.array_equal(again, loaded)
    moved.unlink()
    # 0.5985 is stored in the class of 0.6, as 0.598; what has no probability stays.
    save(tmp_path, qprob=np.full((6, 8, 10), storage.quantize_probability(0.5985)))
    loaded, _ = storage.load_segmentation(tmp_path, CORNER, threshold=0.6)
    assert not loaded.any()
    save(tmp_path, qprob=np.zeros((6, 8, 10), np.uint8))
    loaded, _ = storage.load_segmentation(tmp_path, CORNER, threshold=0.6, split_cc=False)
    assert np.array_equal(loaded, labels())
    (tmp_path / '100' / '20' / 'seg-100_20_3.prob').unlink()
    with pytest.raises(UserError, match=r'seg-100_20_3\.prob is not there'):
        storage.load_segmentation(tmp_path, CORNER, threshold=0.5)


def test_masks_are_in_absolute_coordinates(tmp_path):
    save(tmp_path)
    config = inference_pb2.MaskConfigs()
    config.masks.add().coordinate_expression.expression = 'x >= 106'
    loaded, _ = storage.load_segmentation(tmp_path, CORNER, split_cc=False, mask_config=config)
    expected = labels()
    expected[:, :, 6:] = 0
    assert np.array_equal(loaded, expected)


def test_a_checkpoint_stands_in_only_when_allowed(tmp_path):
    path = save(tmp_path, segmentation=labels())
    path.rename(path.with_suffix('.cpoint'))
    with pytest.raises(UserError, match='no segmentation at'):
        storage.load_segmentation(tmp_path, CORNER)
    assert storage.load_segmentation(tmp_path, CORNER, allow_cpoint=True)[0].any()


def test_a_checkpoint_has_its_own_probabilities(tmp_path):
    qprob = np.where(labels() == 1, np.uint8(200), np.uint8(100))
    save(
        tmp_path, qprob=np.full_like(qprob, 255)
    ).unlink()  # the probabilities of an earlier run stay
    path = storage.subvolume_path(tmp_path, CORNER, 'cpoint')
    storage.save_npz(path, segmentation=labels(), seg_prob=qprob)
    for _ in range(2):
        loaded, _ = storage.load_segmentation(tmp_path, CORNER, True, 0.5, split_cc=False)
        assert np.array_equal(loaded, labels() == 1)
        path.with_suffix('.prob').unlink(missing_ok=True)
    storage.save_npz(path, segmentation=labels(), seg_prob=qprob[1:])
    with pytest.raises(UserError, match=r'\.cpoint holds no seg_prob, uint8 of shape'):
        storage.load_segmentation(tmp_path, CORNER, True, 0.5)


def test_the_published_segmentation_loads(data_dir, tmp_path):
    path = storage.subvolume_path(tmp_path, (0, 0, 0), 'npz')
    path.parent.mkdir(parents=True)
    path.symlink_to((data_dir / 'fib25' / 'sample-training2.npz').resolve())
    loaded, origins = storage.load_segmentation(tmp_path, (0, 0, 0), split_cc=False)
    assert loaded.shape == (250, 250, 250)
    assert len(origins) == len(np.unique(loaded)) - 1 == 254
    assert np.mean(loaded > 0) == pytest.approx(0.887, abs=5e-4)
    assert sum(origin.iters for origin in origins.values()) <= 25799
    assert origins[1] == OriginInfo((16, 18, 109), 1884, pytest.approx(26.24, abs=0.01))


class Evil:
    """Pickles as a call of os.system."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize('member', ['origins', 'overlaps'])
@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_a_pickle_that_runs_code_is_refused(tmp_path, member, protocol):
    path = save(tmp_path)
    marker = tmp_path / 'ran'
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = members['origins.npy'][: members['origins.npy'].index(b'\n') + 1]
    evil = np.array({1: Evil(f'touch {marker}')}, dtype=object)
    members[f'{member}.npy'] = header + pickle.dumps(evil, protocol=protocol)
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    from ffn.utils.npz import read_npz

    with pytest.raises(UserError, match=r'(posix|nt|os)\.system'):
        read_npz(path, [member], [OriginInfo])
    if member == 'origins':
        with pytest.raises(UserError, match='is refused'):
            storage.load_segmentation(tmp_path, CORNER)
    assert not marker.exists()


@pytest.mark.parametrize(
    'payload',
    [
        b'cbuiltins\neval\n(S"1"\ntR.',
        b'cnumpy.f2py\nrun_main\n(tR.',
        b'c__builtin__\ngetattr\n(tR.',
        b'cnumpy\nload\n(tR.',
        b'cffn.inference.storage\nsave_npz\n(tR.',
        b'cnumpy.core.multiarray\nfromfile\n(tR.',
        b'\x80\x04\x8c\x08builtins\x8c\x0cgetattr.dict\x93.',
    ],
)
def test_other_names_are_refused_too(tmp_path, payload):
    path = save(tmp_path)
    with zipfile.ZipFile(path) as archive:
        origins = archive.read('origins.npy')
    header = origins[: origins.index(b'\n') + 1]
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('origins.npy', header + payload)
    with pytest.raises(UserError, match='is refused'):
        storage.load_origins(tmp_path, CORNER)


def test_damaged_files_are_named(tmp_path):
    path = save(tmp_path)
    whole = path.read_bytes()
    for damaged in (b'', b'not a zip', whole[:-40]):
        path.write_bytes(damaged)
        with pytest.raises(
            UserError, match=r'seg-100_20_3\.npz is not a whole npz.*; remove it and run again'
        ):
            storage.load_segmentation(tmp_path, CORNER)
        with pytest.raises(UserError, match=r'holds no 3-d seg.*zip.*; remove it and run again'):
            storage.segmentation_shape(path)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('segmentation.npy', b'\x93NUMPY\x01\x00')
    with pytest.raises(UserError, match='is not a whole npz'):
        storage.load_segmentation(tmp_path, CORNER)
    start = whole.index(b'segmentation.npy') + 40
    path.write_bytes(whole[:start] + bytes(20) + whole[start + 20 :])
    with pytest.raises(UserError, match='is not a whole npz'):
        storage.load_segmentation(tmp_path, CORNER)
    np.savez(path, segmentation=labels(), origins=np.array({1: 'here'}, dtype=object))
    with pytest.raises(UserError, match='origins is no dict of OriginInfo'):
        storage.load_segmentation(tmp_path, CORNER)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(UserError, match='holds no 3-d segmentation; remove it and run again'):
        storage.load_segmentation(tmp_path, CORNER)


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = save(tmp_path)
    before = path.read_bytes()

    def full_disk(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(npz, 'write_compressed', full_disk)
    with pytest.raises(OSError, match='No space left'):
        save(tmp_path, segmentation=labels() * 0)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
