"""Voxels of segments and what they share with objects, counted by blocks."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from ffn.agglomeration import overlaps
from ffn.distributed.local_pools import InProcess
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import VolumeSource

SHAPE = 8, 12, 20


@pytest.fixture
def count(tmp_path):
    def count(segments, objects=None):
        with h5py.File(tmp_path / 'volumes.h5', 'w') as file:
            file['segments'], file['objects'] = segments, segments if objects is None else objects
        source = VolumeSource(f'{tmp_path}/volumes.h5:segments')
        other = None if objects is None else VolumeSource(f'{tmp_path}/volumes.h5:objects')
        box, block = Box.of_shape(SHAPE), Xyz(7, 5, 2)
        return overlaps.count_overlaps(source, other, box, block, InProcess(), 'voxels', True)

    return count


def test_blocks_are_added_up(count, monkeypatch):
    monkeypatch.setattr(overlaps, '_HELD', 5)
    rng = np.random.default_rng(0)
    segments, objects = rng.integers(0, 4, (2, *SHAPE), np.uint64)
    pairs, voxels = np.unique(
        np.stack([segments.ravel(), objects.ravel()], axis=1), axis=0, return_counts=True
    )
    expected = np.concatenate([pairs, voxels[:, None].astype(np.uint64)], axis=1)
    np.testing.assert_array_equal(count(segments, objects), expected[expected[:, 0] > 0])
    ids, voxels = np.unique(segments[segments > 0], return_counts=True)
    expected = np.stack([ids, np.zeros_like(ids), voxels.astype(np.uint64)], axis=1)
    np.testing.assert_array_equal(count(segments), expected)
    assert count(np.zeros(SHAPE, np.uint64)).shape == (0, 3)


def test_rows_of_many_blocks_are_not_sorted_again_for_every_block(count, monkeypatch):
    segments = np.arange(1, 1 + np.prod(SHAPE), dtype=np.uint64).reshape(SHAPE)
    rows, added_up = 0, overlaps._added_up

    def count_rows(tables):
        nonlocal rows
        rows += sum(map(len, tables))
        return added_up(tables)

    monkeypatch.setattr(overlaps, '_added_up', count_rows)
    monkeypatch.setattr(overlaps, '_HELD', 20)
    assert len(count(segments)) == segments.size
    assert rows < 8 * segments.size
