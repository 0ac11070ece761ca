"""What can be evaluated, and how two volumes lie over each other."""

from __future__ import annotations

import logging

import h5py
import numpy as np
import pytest
import tensorstore as ts

from ffn.evaluation.joined_results import SUBVOLUME_IDS
from ffn.evaluation.sources import (
    open_segmentation,
    open_truth,
    shared_box,
    translated,
)
from ffn.inference import inference_pb2
from ffn.inference.storage import OriginInfo, save_result
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import Volume, open_volume
from tests.volumes.test_tensorstores import write_precomputed

SHAPE = (3, 4, 6)


def labels(seed=0, top=5):
    return np.random.default_rng(seed).integers(0, top, SHAPE)


def save(folder, corner_zyx, array):
    save_result(folder, corner_zyx, array, {1: OriginInfo((0, 0, 0), 1, 1.0)}, b'', {}, {})


def all_of(volume):
    return volume.read(volume.box)


def test_a_folder_with_one_result(tmp_path):
    save(tmp_path, (5, 6, 7), labels())
    (path,) = tmp_path.glob('7/6/seg-7_6_5.npz')
    for spec in (tmp_path, path):
        volume = open_segmentation(str(spec))
        assert volume.box == Box(Xyz(7, 6, 5), Xyz(6, 4, 3))
        np.testing.assert_array_equal(all_of(volume), labels())
    part = Box(Xyz(9, 7, 6), Xyz(2, 3, 1))
    np.testing.assert_array_equal(volume.read(part), labels()[1:2, 1:4, 2:4])


def test_a_file_of_another_name_begins_at_0(tmp_path):
    np.savez(tmp_path / 'mine.npz', segmentation=labels())
    assert open_segmentation(str(tmp_path / 'mine.npz')).box.start == (0, 0, 0)


def test_several_results(tmp_path, caplog):
    """Two boxes that overlap in x = 4, 5; the first one counts there."""
    save(tmp_path, (0, 0, 0), labels(1))
    save(tmp_path, (0, 0, 4), labels(2))
    with caplog.at_level(logging.WARNING):
        volume = open_segmentation(str(tmp_path))
    assert '2 results whose ids are not joined' in caplog.text
    assert volume.box == Box(Xyz(0, 0, 0), Xyz(10, 4, 3))
    second = np.where(labels(2) > 0, labels(2) + SUBVOLUME_IDS, 0)
    expected = np.concatenate([labels(1), second[..., 2:]], axis=2)
    np.testing.assert_array_equal(all_of(volume), expected)
    part = Box(Xyz(5, 1, 2), Xyz(4, 2, 1))
    np.testing.assert_array_equal(volume.read(part), expected[part.slices_zyx])


def test_a_gap_between_results_is_background(tmp_path):
    save(tmp_path, (0, 0, 0), labels(1) + 1)
    save(tmp_path, (0, 0, 9), labels(2) + 1)
    found = all_of(open_segmentation(str(tmp_path)))
    assert (found[..., 6:9] == 0).all()
    assert (np.delete(found, [6, 7, 8], axis=2) > 0).all()


def told(caplog):
    return [record.getMessage() for record in caplog.records if 'no result' in record.getMessage()]


def test_a_gap_between_results_is_told_where_it_is_compared(tmp_path, caplog):
    """Boxes of 6 x 4 x 3 voxels at x, y, z 1,1,1 and 10,6,5."""
    save(tmp_path, (1, 1, 1), labels(1) + 1)
    save(tmp_path, (5, 6, 10), labels(2) + 1)
    truth, found = volume((12, 13, 20)), open_segmentation(str(tmp_path))
    shared_box(truth, found)
    (line,) = told(caplog)
    assert line.startswith(f'{tmp_path}: 801 of 945 voxels of box start')
    assert 'lie in no result and count as background' in line
    caplog.clear()
    shared_box(found, translated(volume((12, 13, 20)), Xyz(1, 1, 1)))  # the truth has it
    shared_box(truth, found, Xyz(3, 0, 2))
    assert [line.split(': ')[1][:10] for line in told(caplog)] == ['801 of 945'] * 2
    caplog.clear()
    for box in (Box(Xyz(10, 6, 5), Xyz(6, 4, 3)), Box(Xyz(2, 2, 2), Xyz(1, 2, 1))):
        shared_box(truth, found, box=box)
    save(tmp_path / 'dense', (0, 0, 0), labels(1))
    save(tmp_path / 'dense', (0, 0, 4), labels(2))
    shared_box(volume((3, 4, 10)), open_segmentation(str(tmp_path / 'dense')))
    assert told(caplog) == []


def test_a_run_that_is_not_finished_is_told(tmp_path, caplog):
    save(tmp_path, (0, 0, 0), labels())
    open_segmentation(str(tmp_path))
    assert 'is not complete' not in caplog.text
    (tmp_path / 'unfinished').touch()
    open_segmentation(str(tmp_path))
    assert f'{tmp_path} is not complete: subvolumes are still missing' in caplog.text


def test_ids_too_great_to_be_joined(tmp_path):
    save(tmp_path, (0, 0, 0), labels() + SUBVOLUME_IDS)
    save(tmp_path, (0, 0, 6), labels())
    with pytest.raises(UserError, match='several results can be read together only where ids'):
        all_of(open_segmentation(str(tmp_path)))


def test_split_components(tmp_path):
    two = np.zeros(SHAPE, np.int64)
    two[0], two[2] = 7, 7
    two[1, 0] = -1
    save(tmp_path, (0, 0, 0), np.maximum(two, 0))
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['seg'] = two
    for spec in (str(tmp_path), f'{tmp_path}/v.h5:seg'):
        assert set(all_of(open_segmentation(spec, split_cc=True)).ravel()) == {0, 1, 2}
        assert len(np.unique(all_of(open_segmentation(spec)))) == 2


@pytest.mark.parametrize('scheme', ['zarr', 'n5', 'precomputed'])
def test_other_volumes(tmp_path, scheme):
    drivers = {'zarr': 'zarr', 'n5': 'n5', 'precomputed': 'neuroglancer_precomputed'}
    spec = {'driver': drivers[scheme], 'kvstore': {'driver': 'file', 'path': str(tmp_path / 'v')}}
    if scheme == 'precomputed':
        spec |= {
            'multiscale_metadata': {
                'type': 'segmentation',
                'data_type': 'uint64',
                'num_channels': 1,
            },
            'scale_metadata': {
                'size': SHAPE[::-1],
                'voxel_offset': [10, 20, 30],
                'encoding': 'raw',
                'resolution': [4, 4, 40],
                'chunk_size': [4, 4, 2],
            },
        }
        store = ts.open(spec, create=True).result()
        store[...] = labels().astype(np.uint64).T[..., np.newaxis]
    else:
        array = labels().astype(np.uint64)
        stored = array.T if scheme == 'n5' else array
        ts.open(spec, create=True, dtype=ts.uint64, shape=stored.shape).result()[...] = stored
    volume = open_segmentation(f'{scheme}://{tmp_path}/v')
    np.testing.assert_array_equal(all_of(volume), labels())
    assert volume.box.start == ((10, 20, 30) if scheme == 'precomputed' else (0, 0, 0))


def test_transforms(tmp_path):
    table = np.array([[1, 2**40], [2, 7], [3, 7], [4, 0]])
    with h5py.File(tmp_path / 't.h5', 'w') as file:
        file['stack'], file['transforms'], file['bad'] = labels(), table, labels()
    spec = f'{tmp_path}/t.h5:'
    with open_truth(spec + 'stack', spec + 'transforms') as truth:
        expected = np.array([0, 2**40, 7, 7, 0])[labels()]
        np.testing.assert_array_equal(all_of(truth), expected)
        part = Box(Xyz(1, 2, 1), Xyz(3, 1, 2))
        np.testing.assert_array_equal(truth.read(part), expected[part.slices_zyx])
        assert truth.dtype == np.int64
    with pytest.raises(UserError, match='expected integers, N×2'):
        open_truth(spec + 'stack', spec + 'bad')
    with pytest.raises(UserError, match="no dataset 'none'"):
        open_truth(spec + 'stack', spec + 'none')


def test_mistakes(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['soft'] = labels().astype(np.float32)
    np.savez(tmp_path / 'soft.npz', segmentation=labels().astype(np.float32))
    np.savez(tmp_path / 'flat.npz', segmentation=labels()[0])
    (tmp_path / 'empty').mkdir()
    for spec, message in (
        ('v.h5:soft', 'holds float32; labels must be integers'),
        ('soft.npz', 'holds float32; labels must be integers'),
        ('flat.npz', 'holds no 3-d segmentation'),
        ('none.npz', 'no such file'),
        ('empty', r'empty holds no results of inference, seg-X_Y_Z\.npz; .* no Zarr'),
    ):
        with pytest.raises(UserError, match=message):
            open_segmentation(f'{tmp_path}/{spec}')


def volume(shape, start_zyx=(0, 0, 0)):
    return Volume('v', np.zeros(shape, np.uint8), {}, start_zyx)


def test_equal_boxes_need_no_word():
    truth = volume((5, 6, 7))
    assert shared_box(truth, volume((5, 6, 7)))[1] == truth.box


def test_a_result_inside_of_the_truth(tmp_path):
    save(tmp_path, (1, 1, 1), labels())
    assert shared_box(volume((5, 6, 7)), open_segmentation(str(tmp_path)))[1].start == (1, 1, 1)
    with pytest.raises(UserError, match='--offset'):
        shared_box(volume((3, 4, 6)), open_segmentation(str(tmp_path)))
    (tmp_path / '1/1/seg-1_1_1.npz').unlink()
    save(tmp_path, (0, 0, 0), labels())
    assert shared_box(volume((5, 6, 7)), open_segmentation(str(tmp_path)))[1].size == (6, 4, 3)


def test_shapes_that_differ_are_shown_in_both_orders():
    with pytest.raises(UserError) as error:
        shared_box(volume((5, 6, 7)), volume((3, 4, 6)))
    for words in ('z,y,x 5,6,7 (x,y,z 7,6,5)', 'z,y,x 3,4,6 (x,y,z 6,4,3)', '--offset X,Y,Z'):
        assert words in str(error.value)


def test_offset_and_box():
    truth = volume((5, 6, 7))
    found = Volume('s', labels(), {})
    laid, box = shared_box(truth, found, Xyz(2, 3, 1))
    assert box == Box(Xyz(2, 3, 1), Xyz(5, 3, 3))
    np.testing.assert_array_equal(laid.read(box), labels()[:, :3, :5])
    inside = Box(Xyz(3, 3, 2), Xyz(2, 2, 1))
    laid, box = shared_box(truth, found, Xyz(2, 3, 1), inside)
    np.testing.assert_array_equal(laid.read(box), labels()[1:2, :2, 1:3])
    # Without an offset, a box says that both begin at the same voxel.
    there = Box(Xyz(3, 1, 2), Xyz(2, 2, 1))
    assert shared_box(truth, found, box=there)[1] == there
    with pytest.raises(UserError, match='is not inside of both'):
        shared_box(truth, found, box=Box(Xyz(0, 0, 0), Xyz(7, 1, 1)))
    with pytest.raises(UserError, match='do not overlap'):
        shared_box(truth, found, Xyz(7, 0, 0))


def test_moved():
    there = translated(Volume('s', labels(), {}, (1, 1, 1)), Xyz(10, 20, 30))
    part = Box(Xyz(11, 21, 31), Xyz(3, 2, 1))
    np.testing.assert_array_equal(there.read(part), labels()[1:2, 1:3, 1:4])


def test_volumes_that_say_where_they_begin_are_compared_where_they_overlap(tmp_path):
    placed = []
    for name, start, shape in (('a', (10, 20, 30), (5, 6, 7)), ('b', (12, 18, 31), (5, 6, 7))):
        write_precomputed(tmp_path / name, np.ones(shape, np.uint64), start)
        placed.append(open_volume(f'precomputed://{tmp_path}/{name}'))
    assert shared_box(*placed)[1] == Box(Xyz(12, 20, 31), Xyz(5, 4, 4))
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['bare'] = np.ones((5, 20, 30), np.uint64)
    with open_volume(f'{tmp_path}/v.h5:bare') as bare:
        with pytest.raises(UserError, match='do not overlap'):
            shared_box(placed[0], bare)
        small = translated(placed[0], Xyz(1, 2, 0))
        with pytest.raises(UserError, match='the ground truth does not say where it begins; say'):
            shared_box(bare, translated(placed[1], Xyz(26, 2, 0)))
        with h5py.File(tmp_path / 'w.h5', 'w') as file:
            file['other'] = np.ones((6, 20, 29), np.uint64)
        with (
            open_volume(f'{tmp_path}/w.h5:other') as other,
            pytest.raises(UserError, match='neither says where it begins; say'),
        ):
            shared_box(bare, other)
        assert shared_box(bare, small)[1] == Box(Xyz(1, 2, 0), Xyz(7, 6, 5))


def test_results_have_the_voxel_size_of_their_request(tmp_path):
    request = inference_pb2.InferenceRequest()
    request.voxel_size.x, request.voxel_size.y, request.voxel_size.z = 8, 9.5, 30
    for x in (0, SHAPE[2]):
        save_result(tmp_path / 'r', (0, 0, x), labels(), {}, request.SerializeToString(), {}, {})
    first = tmp_path / 'r' / '0' / '0' / 'seg-0_0_0.npz'
    for place in (tmp_path / 'r', first):
        found = open_segmentation(str(place)).voxel_size
        assert (found.xyz, found.source) == ((8, 9.5, 30), 'the request stored with it')
    save_result(tmp_path / 's', (0, 0, 0), labels(), {}, b'', {}, {})
    assert open_segmentation(str(tmp_path / 's')).voxel_size is None
