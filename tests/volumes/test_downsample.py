"""Larger voxels."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.downsample import (
    Grid,
    downsample_image,
    downsample_labels,
    parse_factors,
)
from ffn.volumes.importing.import_labels import import_labels
from ffn.volumes.importing.import_stack import import_stack
from ffn.volumes.volume import open_volume


def test_mean_of_an_image():
    image = np.array([[[1, 2, 10, 10], [3, 4, 10, 11]], [[0, 0, 0, 0], [0, 0, 0, 9]]], np.uint8)
    assert downsample_image(image, Xyz(2, 2, 1)).tolist() == [[[2, 10]], [[0, 2]]]
    assert downsample_image(image, Xyz(4, 1, 2)).tolist() == [[[3], [5]]]


@pytest.mark.parametrize(
    ('block', 'expected'),
    [
        ([7, 7, 3, 0], 7),
        ([0, 0, 0, 9], 0),
        ([0, 0, 9, 9], 9),
        ([5, 3, 0, 0], 0),
        ([5, 3, 0, 8], 3),
        ([2**64 - 2, 2**64 - 2, 1, 2], 2**64 - 2),
    ],
)
def test_most_frequent_label(block, expected):
    labels = np.array(block, np.uint64).reshape(1, 2, 2)
    assert downsample_labels(labels, Xyz(2, 2, 1)).tolist() == [[[expected]]]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=3, max_size=3),
    st.integers(0, 2**32),
    st.sampled_from([np.uint8, np.uint32, np.uint64]),
)
def test_mode_against_counting(factors, seed, dtype):
    factors = Xyz(*factors)
    z, y, x = factors.zyx
    labels = np.random.default_rng(seed).integers(0, 4, (2 * z, 3 * y, 2 * x)).astype(dtype)
    result = downsample_labels(labels, factors)
    assert result.dtype == dtype
    for index in np.ndindex(2, 3, 2):
        a, b, c = index
        block = labels[a * z : a * z + z, b * y : b * y + y, c * x : c * x + x]
        counts = np.bincount(block.ravel().astype(int), minlength=4)
        best = np.flatnonzero(counts == counts.max())
        assert result[index] == (best[best > 0][0] if best.max() > 0 else 0)


def test_grid_counts_from_voxel_0():
    grid = Grid(Box(Xyz(3, -3, 10), Xyz(10, 8, 5)), Xyz(4, 2, 1))
    assert grid.coarse == Box(Xyz(1, -1, 10), Xyz(2, 3, 5))
    assert grid.refine(grid.coarse) == Box(Xyz(4, -2, 10), Xyz(8, 6, 5))
    assert grid.cut == Xyz(2, 2, 0)


def test_bad_factors():
    with pytest.raises(UserError, match=r"--downsample is '2,0,1'; expected three factors"):
        parse_factors('2,0,1', '--downsample')
    with pytest.raises(UserError, match='leaves no voxel of'):
        _ = Grid(Box.of_shape((5, 5, 5)), Xyz(1, 1, 6)).coarse


@pytest.mark.parametrize('factors', [Xyz(2, 2, 1), Xyz(1, 3, 2)])
@pytest.mark.parametrize('slab_bytes', [1, 2**28])
def test_images(tmp_path, monkeypatch, caplog, factors, slab_bytes):
    monkeypatch.setattr('ffn.volumes.importing.import_stack._SLAB_BYTES', slab_bytes)
    stack = np.random.default_rng(0).integers(0, 256, (5, 9, 8)).astype(np.uint8)
    for i, section in enumerate(stack):
        Image.fromarray(section).save(tmp_path / f's{i}.png')
    import_stack(
        f'{tmp_path}/s*.png', f'{tmp_path}/v.h5:raw', voxel_size=(4, 5, 40), downsample=factors
    )
    z, y, x = factors.zyx
    shape = (5 // z, 9 // y, 8 // x)
    blocks = stack[: shape[0] * z, : shape[1] * y, : shape[2] * x].reshape(
        shape[0], z, shape[1], y, shape[2], x
    )
    with h5py.File(tmp_path / 'v.h5', 'r') as file:
        result, attrs = file['raw'][:], dict(file['raw'].attrs)
    assert result.shape == shape
    np.testing.assert_allclose(result, blocks.mean(axis=(1, 3, 5)), atol=0.5)
    assert attrs['resolution'].tolist() == [40 * z, 5 * y, 4 * x]
    assert 'are left out' in caplog.text


def test_labels_keep_their_place(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (4, 9, 12)).astype(np.uint16) * 1000
    with h5py.File(tmp_path / 'in.h5', 'w') as file:
        file['l'] = labels
        file['l'].attrs.update(resolution=[40.0, 5, 4], offset=[80.0, 15, -12])  # voxel 2, 3, -3
    import_labels(f'{tmp_path}/in.h5', f'{tmp_path}/v.h5:l', downsample=Xyz(2, 2, 1), quiet=True)
    with h5py.File(tmp_path / 'v.h5', 'r') as file:
        result, attrs = file['l'][:], dict(file['l'].attrs)
    assert result.dtype == np.uint16
    assert attrs['resolution'].tolist() == [40, 10, 8]
    assert attrs['offset'].tolist() == [80, 20, -8]  # voxel 2, 2, -1
    np.testing.assert_array_equal(result, downsample_labels(labels[:, 1:, 1:11], Xyz(2, 2, 1)))
    with open_volume(f'{tmp_path}/v.h5:l') as volume:
        assert volume.box == Box(Xyz(-1, 2, 2), Xyz(5, 4, 4))
        assert volume.voxel_size is not None
        assert volume.voxel_size.xyz == (8, 10, 40)
