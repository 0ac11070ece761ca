"""The segments that a session shows, as Neuroglancer asks for them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('neuroglancer')
import neuroglancer

from ffn.proofreading.editing import cut_masks, cut_scales
from ffn.proofreading.editing.cut_masks import CutLabels, PartMask, save_mask
from ffn.proofreading.editing.cut_scales import read_coarse
from ffn.proofreading.editing.edits import Cut
from ffn.proofreading.editing.objects import Objects
from ffn.proofreading.editing.proofread_layers import ProofreadLayers
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.units import KnownVoxelSize
from ffn.volumes.volume import Volume

START, SIZE, FACTORS = Xyz(7, 2, 12), (4.0, 8.0, 16.0), Xyz(4, 4, 2)
PART = 2**62 + 5


class Unreadable:
    """An array of which nothing can be read."""

    def __init__(self, array):
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, index):
        raise OSError('a chunk is damaged')


def scales(array=lambda values: values):
    """Two scales of a volume with 3 in its first half and 5 in the other one, which begins between coarse voxels."""
    fine = np.full((12, 20, 30), 3, np.int64)
    fine[:, :, 15:] = 5
    size = KnownVoxelSize(SIZE, 'a test')
    coarse_start = [s // f for s, f in zip(START, FACTORS, strict=True)]
    coarse = np.array([[[3] * 4 + [5] * 5] * 6] * 6, np.int64)
    coarser = KnownVoxelSize((16.0, 32.0, 32.0), 'a test')
    return (
        Volume('fine', array(fine), {}, START.zyx, voxel_size=size),
        Volume('coarse', coarse, {}, coarse_start[::-1], voxel_size=coarser),
    )


def serve(fine, coarser, labels, told):
    layers, state = ProofreadLayers(fine, SIZE, coarser, told.append), neuroglancer.ViewerState()
    layers.add_to(state, labels, Objects({}))
    return state.layers['segments'].layer.source[0].url


def ask(served, end, factors):
    key = ','.join(map(str, factors))
    data, _ = served.get_encoded_subvolume('raw', np.zeros(3, int), np.array(end), key)
    return np.frombuffer(data, np.uint64).reshape(end, order='F')


def test_distant_views_show_coarser_scales_with_what_was_cut(tmp_path):
    fine, coarse = scales()
    # All of 3 from y 10 on, as its second side.
    mask = PartMask.of(Box(Xyz(7, 10, 12), Xyz(15, 12, 12)), np.ones((12, 12, 15), bool))
    cut = Cut(3, PART, save_mask(tmp_path, mask))
    told = []
    served = serve(fine, [coarse], CutLabels(tmp_path, (cut,)), told)
    near = ask(served, (30, 20, 12), (1, 1, 1))
    assert np.unique(near[:15, 8:]).tolist() == [PART]
    assert np.unique(near[:15, :8]).tolist() == [3]
    far = ask(served, (8, 5, 6), FACTORS)
    assert np.unique(far[4:]).tolist() == [5]
    assert far[0].T.tolist() == [[3, 3, PART, PART, PART]] * 6
    assert not told


@pytest.mark.parametrize('count', [3, 300])
def test_coarse_views_read_only_the_masks_that_are_near(tmp_path, monkeypatch, count):
    """However many there are, and however many of them are kept in memory."""
    monkeypatch.setattr(cut_masks._masks, '_most_bytes', 0)
    size = Xyz(2, 1, 3)
    names = [
        save_mask(tmp_path, PartMask.of(Box(Xyz(8 + 4 * n, 5, 3), size), np.ones(size.zyx, bool)))
        for n in range(count)
    ]
    cuts = CutLabels(tmp_path, tuple(Cut(3, PART + n, name) for n, name in enumerate(names)))
    factors = Xyz(4, 4, 2)
    coarse = Volume('coarse', np.full((4, 3, count + 4), 3, np.uint64), {})
    whole = read_coarse(cuts, coarse, coarse.box, factors)
    expected = np.full(coarse.box.size.zyx, 3, np.uint64)
    expected[1:3, 1, 2 : count + 2] = PART + np.arange(count)
    np.testing.assert_array_equal(whole, expected)
    used, get = [], cut_scales._coarse.get
    monkeypatch.setattr(cut_scales._coarse, 'get', lambda of: used.append(of) or get(of))
    monkeypatch.setattr(cut_masks, 'read_npz', None)
    for part in (Box(Xyz(1, 1, 1), Xyz(2, 1, 2)), Box(Xyz(2, 0, 0), Xyz(1, 3, 4))):
        found = read_coarse(cuts, coarse, part, factors)
        np.testing.assert_array_equal(found, expected[part.slices_zyx])
    assert {path.name for path, _ in used} == {names[0]}


def test_what_is_not_shown_is_told(tmp_path):
    fine, coarse = scales(Unreadable)
    told = []
    served = serve(fine, [coarse], CutLabels(tmp_path), told)
    with pytest.raises(ValueError, match='cannot be read'):
        ask(served, (30, 20, 12), (1, 1, 1))
    assert 'a chunk is damaged' in told.pop()
    assert ask(served, (4, 3, 3), (8, 8, 4)).all(), 'the coarse scale can be read'
    lost = CutLabels(tmp_path, (Cut(3, PART, 'abc.npz'),))
    for factors, end in (((1, 1, 1), (30, 20, 12)), (FACTORS, (8, 5, 6))):
        with pytest.raises(ValueError, match='cannot be read'):
            ask(serve(*scales()[:1], scales()[1:], lost, told), end, factors)
        assert 'abc.npz' in told.pop()
    served = serve(*scales()[:1], [], CutLabels(tmp_path), told)
    assert not ask(served, (4, 3, 2), (8, 8, 8)).any()
    assert 'zoom in' in told.pop()
