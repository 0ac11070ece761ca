"""What is known of an export once its blocks are written: sizes of segments, and where they are."""

import tracemalloc

import numpy as np

from ffn.export import pyramid
from ffn.utils.geometry import Box, Xyz
from tests.export.shapes import START, exported


def test_what_the_view_opens_on_is_found_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid, 'BLOCK_CHUNKS', 1)
    labels = np.zeros((90, 140, 200), np.uint64)
    labels[10:71, 20:101, 5:191] = 3
    written = exported(tmp_path, labels, max_scales=1)
    tracemalloc.start()
    found = written.find_content()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == Box.from_zyx((START.z + 10, START.y + 20, START.x + 5), (61, 81, 186))
    assert most < labels.size  # a byte for each voxel of a block; not 24 for each of the volume
    monkeypatch.setattr(
        pyramid, '_LOOKED_AT', labels.size - 1
    )  # blocks of 64³ voxels that have labels
    assert written.find_content() == Box(START, Xyz(192, 128, 90))
    (tmp_path / 'empty').mkdir()
    empty = exported(tmp_path / 'empty', labels * 0, max_scales=1)
    assert empty.find_content() == empty.scales[0].box


def test_sizes_of_many_segments_are_a_table(tmp_path, monkeypatch):
    written = exported(tmp_path, np.ones((3, 4, 5), np.uint64), max_scales=1)
    parts = np.arange(1, 200_001, dtype=np.uint64).reshape(10, -1)
    monkeypatch.setattr(pyramid, '_MAX_ROWS', 1000)
    monkeypatch.setattr(
        pyramid.Pyramid, '_counted', lambda _: ((None, np.stack([ids, ids])) for ids in parts)
    )
    tracemalloc.start()
    ids, voxels, unlabelled = written.sizes()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(ids, parts.ravel())
    np.testing.assert_array_equal(voxels, parts.ravel())
    assert unlabelled == 0
    assert most < 110 * parts.size
