"""Pieces of volumes as Neuroglancer asks for them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip('neuroglancer')
from neuroglancer import local_volume

from ffn.proofreading.viewing import sources
from ffn.proofreading.viewing.skeleton_files import find_skeletons
from ffn.proofreading.viewing.sources import ServedArray, ServedSkeletons, ServedVolume, served_type
from ffn.utils.errors import UserError
from ffn.volumes.units import KnownVoxelSize
from ffn.volumes.volume import Volume

SHAPE = (40, 60, 90)  # z, y, x
START = (7, 0, -3)


class Recorded:
    """An array that notes what is read of it."""

    def __init__(self, array):
        self.shape, self.dtype, self._array, self.read = array.shape, array.dtype, array, []

    def __getitem__(self, index):
        self.read.append(tuple((s.start, s.stop) for s in index))
        return self._array[index]


def make(dtype=np.int64, labels=True, scale=1, **kwargs):
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)[::scale, ::scale, ::scale]
    start = [s // scale for s in START]
    size = KnownVoxelSize((4.0 * scale, 8.0 * scale, 16.0 * scale), 'a test')
    return Volume('it', Recorded(values), {}, start, voxel_size=size, **kwargs)


def ask(served, start, end, factors=(1, 1, 1)):
    data, _ = served.get_encoded_subvolume(
        'raw', np.array(start), np.array(end), ','.join(map(str, factors))
    )
    size = np.subtract(end, start)
    return np.frombuffer(data, served.data_type).reshape(size, order='F')


def test_a_piece_is_read_and_nothing_else():
    volume = make()
    served = ServedVolume(volume, True, (4, 8, 16))
    whole = volume.read(volume.box)
    volume._array.read.clear()
    piece = ask(served, (64, 32, 0), (90, 60, 32))
    np.testing.assert_array_equal(piece, whole.T[64:90, 32:60, :32])
    assert volume._array.read == [((0, 32), (32, 60), (64, 90))]
    info = served.info()
    assert (info['dataType'], info['volumeType']) == ('uint64', 'segmentation')
    assert list(info['voxelOffset']) == [-3, 0, 7]
    assert info['coordinateSpace'] == {'x': [4e-9, 'm'], 'y': [8e-9, 'm'], 'z': [16e-9, 'm']}


@pytest.mark.parametrize(
    ('dtype', 'labels', 'image'),
    [
        ('int64', 'uint64', 'float32'),
        ('int32', 'uint32', 'int32'),
        ('uint8', 'uint8', 'uint8'),
        ('bool', 'uint8', 'uint8'),
        ('uint64', 'uint64', 'float32'),
        ('float64', None, 'float32'),
        ('int16', 'uint16', 'int16'),
    ],
)
def test_types(dtype, labels, image):
    assert labels is None or served_type(np.dtype(dtype), True) == labels
    assert served_type(np.dtype(dtype), False) == image


def test_largest_ids_and_negative_labels():
    values = np.array([2**63 - 1, -1, 5, 0], np.int64).reshape(1, 1, 4)
    served = ServedVolume(Volume('it', values, {}).require_labels(), True, (1, 1, 1))
    assert ask(served, (0, 0, 0), (4, 1, 1)).ravel().tolist() == [2**63 - 1, 0, 5, 0]
    ids = np.array([2**64 - 2, 1], np.uint64).reshape(1, 1, 2)
    served = ServedVolume(Volume('it', ids, {}).require_labels(), True, (1, 1, 1))
    assert ask(served, (0, 0, 0), (2, 1, 1)).ravel().tolist() == [2**64 - 2, 1]


@pytest.mark.parametrize('factors', [(1, 1, 1), (2, 2, 1), (4, 2, 4)])
def test_scales_of_labels_hold_labels_and_those_of_images_means(factors):
    volume = make(np.uint16)
    whole = volume.read(volume.box).T
    size = [-(-n // f) for n, f in zip(whole.shape, factors)]
    labels = ask(ServedVolume(volume, True, (4, 8, 16)), (0, 0, 0), size, factors)
    np.testing.assert_array_equal(labels, whole[tuple(slice(None, None, f) for f in factors)])
    image = ask(ServedVolume(volume, False, (4, 8, 16)), (0, 0, 0), size, factors)
    x, y, z = factors
    assert abs(image[0, 0, 0] - whole[:x, :y, :z].mean()) < 1


def test_pieces_of_a_scale_fit_together():
    served = ServedVolume(make(np.uint32), True, (4, 8, 16))
    whole = ask(served, (0, 0, 0), (45, 30, 20), (2, 2, 2))
    joined = np.zeros_like(whole)
    for x, y, z in itertools.product((0, 32), (0, 16), (0, 16)):
        end = np.minimum([x + 32, y + 16, z + 16], whole.shape)
        joined[x : end[0], y : end[1], z : end[2]] = ask(served, (x, y, z), end, (2, 2, 2))
    np.testing.assert_array_equal(joined, whole)


def test_a_distant_view_of_a_large_volume_reads_nothing(monkeypatch):
    monkeypatch.setattr(sources, '_SMALL', 1000)
    told, volume = [], make()
    served = ServedVolume(volume, True, (4, 8, 16), tell=told.append)
    assert not ask(served, (0, 0, 0), (23, 15, 10), (4, 4, 4)).any()
    assert volume._array.read == []
    assert 'zoom in' in told[0]
    assert ask(served, (0, 0, 0), (45, 30, 20), (2, 2, 2)).any()


def test_distant_views_are_read_from_coarser_scales(monkeypatch):
    monkeypatch.setattr(sources, '_SMALL', 1000)
    fine, coarse = make(), make(scale=4)
    served = ServedVolume(fine, True, (4, 8, 16), [make(scale=2), coarse])
    piece = ask(served, (0, 0, 0), (11, 7, 5), (8, 8, 8))
    assert fine._array.read == []
    assert coarse._array.read == [((0, 10), (0, 14), (0, 22))]
    # The coarse scale begins at -3 // 4 = -1, the piece at -3: at the same voxel of that scale.
    np.testing.assert_array_equal(piece, coarse.read(coarse.box).T[:22:2, :14:2, :10:2])


@pytest.mark.parametrize(
    ('start', 'end', 'key'),
    [
        ((0, 0, 0), (91, 1, 1), '1,1,1'),
        ((-1, 0, 0), (1, 1, 1), '1,1,1'),
        ((2, 0, 0), (1, 1, 1), '1,1,1'),
        ((0, 0, 0), (1, 1, 1), '0,1,1'),
        ((0, 0, 0), (1, 1, 1), '1,1'),
        ((0, 0, 0), (1, 1, 1), 'x,1,1'),
        ((0, 0, 0), (46, 1, 1), '2,1,1'),
    ],
)
def test_pieces_that_do_not_exist(start, end, key):
    served = ServedVolume(make(), True, (4, 8, 16))
    with pytest.raises(ValueError, match=r'no such|invalid literal'):
        served.get_encoded_subvolume('raw', np.array(start), np.array(end), key)


def test_what_cannot_be_read_is_told():
    class Damaged(Recorded):
        def __getitem__(self, index):
            raise OSError('bad chunk')

    told = []
    volume = Volume('it', Damaged(np.zeros(SHAPE, np.uint8)), {})
    served = ServedVolume(volume, False, (1, 1, 1), tell=told.append)
    with pytest.raises(ValueError, match='cannot be read'):
        ask(served, (0, 0, 0), (1, 1, 1))
    assert 'it cannot be read, it may be damaged' in told[0]


def test_meshes_of_small_volumes_only(monkeypatch):
    labels = np.zeros((20, 30, 40), np.int32)
    labels[4:9, 5:20, 6:30] = 7
    served = ServedVolume(Volume('it', labels, {}), True, (4, 8, 16))
    assert len(served.get_object_mesh(7)) > 100
    with pytest.raises(local_volume.InvalidObjectIdForMesh):
        served.get_object_mesh(8)
    monkeypatch.setattr(sources, 'MESHED', 1000)
    with pytest.raises(local_volume.MeshesNotSupportedForVolume):
        ServedVolume(Volume('it', labels, {}), True, (4, 8, 16)).get_object_mesh(7)


def test_an_array_in_memory_that_changes():
    array = np.zeros((3, 4, 5), np.uint64)
    served = ServedArray(array.T, (1, 2, 3), (4, 8, 16), labels=True)
    before = served.info()['generation']
    array[2, 1, 3] = 17
    served.invalidate()
    assert served.info()['generation'] > before
    assert ask(served, (3, 1, 2), (4, 2, 3)).item() == 17


def test_skeletons(tmp_path):
    for name, x in (('neuron_17.swc', 1.5), ('neuron_18.swc', 2.5)):
        (tmp_path / name).write_text(f'1 0 {x} 2 3 1 -1\n2 0 {x} 2 4 1 1\n')
    told = []
    found = find_skeletons(tmp_path)
    assert list(found.files) == [17, 18]
    served = ServedSkeletons(found, (4, 8, 16), told.append)
    skeleton = served.get_skeleton(18)
    np.testing.assert_allclose(skeleton.vertex_positions, [[2.5, 2, 3], [2.5, 2, 4]])
    assert skeleton.edges.tolist() == [[1, 0]]
    assert served.get_skeleton(19) is None
    assert list(served.dimensions.scales) == pytest.approx([1e-9] * 3)
    voxels = ServedSkeletons(find_skeletons(tmp_path, voxels=True), (4, 8, 16))
    assert list(voxels.dimensions.scales) == pytest.approx([4e-9, 8e-9, 16e-9])
    (tmp_path / 'neuron_17.swc').write_text('nothing')
    assert served.get_skeleton(17) is None
    assert 'neuron_17.swc' in told[0]
    with pytest.raises(UserError, match='holds no skeletons'):
        find_skeletons(tmp_path / 'none')
