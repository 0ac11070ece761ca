"""Volumes that requests read at another resolution than they are stored in."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.inference import inference_pb2
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.protos import read_text_or_file
from ffn.volumes.resampled import Repeated, touched_box
from ffn.volumes.volume import VolumeSource

SHAPE_ZYX = (7, 9, 12)


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['raw'] = rng.integers(0, 255, SHAPE_ZYX, np.uint8)
        file['raw'].attrs['resolution'] = [30.0, 8.0, 8.0]
        file['labels'] = rng.integers(0, 2**40, SHAPE_ZYX, np.uint64)
    return tmp_path / 'v.h5'


def source(text: str) -> VolumeSource:
    decorated = read_text_or_file(text, inference_pb2.DecoratedVolume(), 'test')
    return VolumeSource.from_proto(decorated, 'image')


def test_means_of_blocks(path):
    with h5py.File(path) as file:
        raw = file['raw'][:].astype(float)
    with source(f'hdf5: "{path}:raw" downsample {{ x: 4 y: 2 z: 1 }}').open() as volume:
        # What does not fill a block of 2 along y is left out.
        assert volume.box == Box(Xyz(0, 0, 0), Xyz(3, 4, 7))
        assert volume.voxel_size.xyz == (32, 16, 30)
        assert volume.dtype == np.uint8
        found = volume.read(Box(Xyz(1, 1, 2), Xyz(2, 3, 4)))
    expected = raw[2:6, 2:8, 4:12].reshape(4, 3, 2, 2, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(found, expected, atol=0.5)


def test_labels_are_repeated_and_end_in_background(path):
    with h5py.File(path) as file:
        labels = file['labels'][:]
    with source(f'hdf5: "{path}:labels" upsample {{ x: 3 y: 1 z: 2 }}').open() as volume:
        labels_read = volume.require_labels().read(Box(Xyz(0, 0, 0), Xyz(38, 9, 15)))
    expected = labels.repeat(2, 0).repeat(3, 2)
    assert labels_read.dtype == np.uint64
    assert (labels_read[:14, :, :36] == expected).all()
    assert not labels_read[14:].any()
    assert not labels_read[:, :, 36:].any()


@settings(max_examples=50)
@given(
    st.tuples(*[st.integers(-7, 7)] * 3),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.data(),
)
def test_every_fine_voxel_has_the_label_of_its_coarse_one(start, size, factors, data):
    coarse, factors = Box(Xyz(*start), Xyz(*size)), Xyz(*factors)
    labels = np.arange(1, 1 + np.prod(size), dtype=np.int32).reshape(coarse.size.zyx)
    array = Repeated(
        lambda box: labels[box.relative_to(coarse.start).slices_zyx], coarse, labels.dtype, factors
    )
    first = [data.draw(st.integers(0, n - 1)) for n in array.box.size]
    last = [data.draw(st.integers(a + 1, n)) for a, n in zip(first, array.box.size)]
    box = Box(Xyz(*first), Xyz(*(b - a for a, b in zip(first, last))))
    found = array[box.slices_zyx]
    assert found.shape == box.size.zyx
    for at in np.ndindex(found.shape):
        fine = (i + a + o for i, a, o in zip(at, box.start.zyx, array.box.start.zyx))
        place = [n // f - c for n, f, c in zip(fine, factors.zyx, coarse.start.zyx)]
        inside = all(0 <= n < m for n, m in zip(place, coarse.size.zyx))
        assert found[at] == (labels[tuple(place)] if inside else 0)


def test_touched_voxels():
    box = Box(Xyz(-1, 4, 5), Xyz(2, 4, 1))
    assert touched_box(box, Xyz(2, 4, 1)) == Box(Xyz(-1, 1, 5), Xyz(2, 1, 1))


def test_labels_are_not_averaged(path):
    text = f'hdf5: "{path}:labels" downsample {{ x: 2 y: 2 z: 1 }}'
    decorated = read_text_or_file(text, inference_pb2.DecoratedVolume(), 'test')
    with pytest.raises(UserError, match=r'init_segmentation sets downsample, which averages'):
        VolumeSource.from_proto(decorated, 'init_segmentation')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('downsample { x: 2 y: 2 }', 'image.downsample is x,y,z 2,2,0; expected 1 or more'),
        ('downsample { x: 2 y: 2 z: 2 } upsample { x: 2 y: 2 z: 2 }', 'expected one of them'),
        ('downsample { x: 2 y: 20 z: 2 }', 'leaves no voxel'),
    ],
)
def test_factors_that_do_not_fit(path, text, words):
    with pytest.raises(UserError, match=words):
        source(f'hdf5: "{path}:raw" {text}').open()
