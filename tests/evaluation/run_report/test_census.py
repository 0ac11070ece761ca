"""Sizes and extents of the objects of a volume, in one pass."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from ffn.distributed.local_pools import InProcess
from ffn.evaluation.run_report import census
from ffn.evaluation.run_report.census import take_census
from ffn.evaluation.run_report.object_summaries import summarize_sizes, summarize_spans
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import VolumeSource
from tests.assembly.cut import blobs

SHAPE, BIG = (18, 25, 40), 2**63 + 1


@pytest.fixture
def source(tmp_path):
    labels = blobs(SHAPE, 9, 1).astype(np.uint64)
    labels[labels > 0] += np.uint64(BIG)
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'] = labels
    return labels, VolumeSource(spec=f'{tmp_path}/v.h5:labels')


@pytest.mark.parametrize(('block', 'coarse'), [(256, 200), (8, 200), (7, 10)])
def test_one_pass_finds_all_objects(source, monkeypatch, block, coarse):
    labels, volume = source
    monkeypatch.setattr(census, '_BLOCK', block)
    monkeypatch.setattr(census, '_MAX_ROWS', 10)
    monkeypatch.setattr(census, 'COARSE', coarse)
    box = Box(Xyz(3, 2, 1), Xyz(37, 22, 16))
    found = take_census(volume, box, (8, 8, 16), InProcess(), quiet=True)
    inside = labels[box.slices_zyx]
    ids, counts = np.unique(inside[inside > 0], return_counts=True)
    np.testing.assert_array_equal(found.objects.ids, ids)
    np.testing.assert_array_equal(found.objects.voxels, counts)
    for label, low, high in zip(ids, found.objects.low, found.objects.high):
        z, y, x = (n + s for n, s in zip(np.nonzero(inside == label), box.start.zyx))
        assert low.tolist() == [x.min(), y.min(), z.min()]
        assert high.tolist() == [x.max() + 1, y.max() + 1, z.max() + 1]
    assert found.factors == ((1, 1, 1) if coarse == 200 else (4, 4, 2))
    if coarse == 200:
        np.testing.assert_array_equal(found.coarse, inside)
    else:
        assert found.coarse.shape == (8, 6, 10)
        assert set(np.unique(found.coarse)) <= {0, *ids}
    sizes = [np.prod(b.size) for b in census.blocks(box, found.block)]
    assert found.filled.ravel() @ sizes == pytest.approx(counts.sum())


def test_objects_of_many_blocks_are_not_sorted_again_for_every_block(tmp_path, monkeypatch):
    labels = np.arange(1, 1 + 10 * 15 * 40, dtype=np.uint64).reshape(10, 15, 40)
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'] = labels
    rows, of = 0, census.Objects.of

    def counted(parts):
        nonlocal rows
        rows += sum(len(part.ids) for part in parts)
        return of(parts)

    monkeypatch.setattr(census.Objects, 'of', counted)
    monkeypatch.setattr(census, '_BLOCK', 5)
    monkeypatch.setattr(census, '_MAX_ROWS', 100)
    volume = VolumeSource(spec=f'{tmp_path}/v.h5:labels')
    found = take_census(volume, Box.of_shape(labels.shape), (1, 1, 1), InProcess(), quiet=True)
    np.testing.assert_array_equal(found.objects.ids, labels.ravel())
    assert rows < 4 * labels.size


def test_spans(source):
    _, volume = source
    box = Box.of_shape(SHAPE)
    found = take_census(volume, box, (8, 8, 30), InProcess(), quiet=True).objects
    spans = found.spans((8, 8, 30))
    sides = (found.high - found.low) * (8, 8, 30)
    np.testing.assert_allclose(spans, np.sqrt((sides**2).sum(axis=1)))
    least = int(np.median(found.voxels))
    summary = summarize_spans(found, box, (8, 8, 30), 'nm', least)
    large = found.voxels >= least
    assert summary.objects == large.sum() < len(spans)
    assert summary.largest == spans[large].max()
    weights = found.voxels[large] / found.voxels[large].sum()
    assert summary.mean_by_voxel == pytest.approx(spans[large] @ weights)
    assert sum(summary.histogram) == summary.objects
    assert summary.diagonal == pytest.approx(np.linalg.norm([320, 200, 540]))
    reach = (found.low == 0) & (found.high == SHAPE[::-1])
    assert summary.crossing == (reach.any(axis=1) & large).sum() > 0


def test_sizes_in_parts():
    parts = [np.array([0, 1, 9, 10]), np.array([99, 100, 10**6, 0]), np.array([], np.int64)]
    found = summarize_sizes(parts)
    assert (found.objects, found.voxels) == (6, 1 + 9 + 10 + 99 + 100 + 10**6)
    histogram = found.histogram
    # Four steps for each factor of ten, the edges rounded to whole voxels.
    assert (histogram[0], histogram[3], histogram[4], histogram[7], histogram[8]) == (1, 1, 1, 1, 1)
    assert (histogram[24], len(histogram), sum(histogram)) == (1, 25, 6)
    assert 9 <= found.median <= 99
    empty = summarize_sizes([])
    assert (empty.objects, empty.voxels, empty.histogram) == (0, 0, [])
