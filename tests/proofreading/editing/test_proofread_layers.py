"""The segments that a session shows, as Neuroglancer asks for them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('neuroglancer')
import neuroglancer

from ffn.proofreading.editing.cut_masks import CutLabels, PartMask, save_mask
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
    mask = PartMask(Box(Xyz(7, 10, 12), Xyz(15, 12, 12)), np.ones((12, 12, 15), bool))
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
