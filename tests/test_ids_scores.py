"""Scores do not depend on what objects are called, nor on where volumes lie.

Three bars of 16 voxels. Whatever the integer type, byte order, and ids: against itself under other names, a
volume scores as perfect; cut or merged, it has the scores computed here by hand.
"""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.cli import compare, evaluate
from ffn.evaluation.erl import erl_score, read_voxels
from ffn.evaluation.held_out_box import HeldOutBox
from ffn.evaluation.held_out_score import HeldOutScore, Segmented
from ffn.evaluation.skeletons import skeletonize_truth
from ffn.inference import inference_pb2
from ffn.inference.storage import save_npz, subvolume_path
from ffn.utils.geometry import Box
from ffn.volumes.volume import Volume
from tests.ids import CASES, Stored

SHAPE = (2, 3, 8)
CORNER = (-1, -2, -30)
BARS = np.zeros(SHAPE, np.int64)
BARS[:, 0], BARS[:, 1], BARS[:, 2] = 1, 2, 3
CUT = np.where((BARS == 1) & (np.arange(8) >= 4), 4, BARS)
MERGED = np.where(BARS == 3, 2, BARS)
# Bar 1 is two halves of a bit; bars 2 and 3 are one, a bit; of 48 voxels 16 and 32. Pairs of voxels: a bar
# has 16 * 15, half a bar 8 * 7, two bars 32 * 31. Skeletons are 7 long each; half of one is 3, as an edge
# is lost, and those of both merged bars are.
EXPECTED = {
    'perfect': (BARS, 0, 0, 0, 7),
    'cut': (CUT, 1 / 3, 0, 1 - 2 * 592 / (720 + 592), (9 + 9 + 49 + 49) / 21),
    'merged': (MERGED, 0, 2 / 3, 1 - 2 * 720 / (720 + 1232), 49 / 21),
}


@pytest.fixture(scope='module')
def swc_files(tmp_path_factory) -> list[str]:
    """Skeletons along the bars of a volume at x,y,z -30,-2,-1; node ids are neighbours of 2^53."""
    folder = tmp_path_factory.mktemp('swc')
    paths = [folder / f'{bar}.swc' for bar in range(3)]
    for y, path in enumerate(paths):
        ids = [2**53 + n for n in range(8)]
        lines = [
            f'{i} 2 {x - 29.5} {y - 1.5} -0.5 1 {ids[x - 1] if x else -1}'
            for x, i in enumerate(ids)
        ]
        path.write_text('\n'.join(lines))
    return list(map(str, paths))


def save(folder, corner_zyx, labels) -> str:
    """Writes a result of inference, as another program may: labels as they are; returns the folder."""
    save_npz(subvolume_path(folder, corner_zyx, 'npz'), segmentation=labels)
    return str(folder)


stored = st.sampled_from(CASES)
errors = st.sampled_from(sorted(EXPECTED))


@settings(max_examples=40, deadline=None)
@given(stored, stored, errors)
def test_evaluate(tmp_path_factory, swc_files, truth: Stored, found: Stored, error):
    folder = tmp_path_factory.mktemp('evaluate')
    objects, split, merge, rand, length = EXPECTED[error]
    scores = evaluate.main(
        [
            '--segmentation',
            save(folder / 'found', CORNER, found.of(objects)),
            '--groundtruth',
            save(folder / 'truth', CORNER, truth.of(BARS)),
            '--skeletons',
            *swc_files,
            '--skeleton_unit',
            'voxels',
            '--merge_threshold',
            '3',
            '--boundary',
            '0',
            '--quiet',
        ]
    )
    both = scores.scores['both']
    assert (scores.box, both.voxels) == (Box.from_zyx(CORNER, SHAPE), 48)
    assert (both.voi_split, both.voi_merge) == pytest.approx((split, merge))
    assert both.rand_error == pytest.approx(rand)
    assert (scores.erl.erl, scores.erl.max_erl) == pytest.approx((length, 7))
    wrong = [case.id for case in (*scores.splits, *scores.mergers)]
    assert wrong == {'perfect': [], 'cut': [truth.ids[1]], 'merged': [found.ids[2]]}[error]
    assert [m.segment for m in scores.erl.mergers] == ([found.ids[2]] if error == 'merged' else [])


@settings(max_examples=30, deadline=None)
@given(stored, stored, errors)
def test_compare(tmp_path_factory, first: Stored, second: Stored, error):
    folder = tmp_path_factory.mktemp('compare')
    objects, split, merge, rand, _ = EXPECTED[error]
    with h5py.File(folder / 'v.h5', 'w') as file:
        file['a'], file['b'] = first.of(BARS), second.of(objects)
    found = compare.main([f'{folder}/v.h5:a', f'{folder}/v.h5:b', '--quiet'])
    either = found.scores['either']
    assert (either.voi_b_given_a, either.voi_a_given_b) == pytest.approx((split, merge))
    assert either.rand_error == pytest.approx(rand)
    assert found.identical == {'perfect': 3, 'cut': 2, 'merged': 1}[error]
    assert [case.id for case in found.cut_in_b] == ([first.ids[1]] if error == 'cut' else [])
    assert [case.id for case in found.joined_in_b] == ([second.ids[2]] if error == 'merged' else [])


def test_results_at_negative_corners(tmp_path):
    """Half of a volume that scores as perfect: of two results, that at the negative corner is wrong."""
    truth = save(tmp_path / 'truth', CORNER, BARS)
    save(tmp_path / 'found', CORNER, MERGED[..., :4])
    save(tmp_path / 'found', (-1, -2, 4 + CORNER[2]), BARS[..., 4:])
    found = evaluate.main(
        ['--segmentation', f'{tmp_path}/found', '--groundtruth', truth, '--quiet']
    )
    assert found.scores['both'].voxels == 48
    assert found.coverage.segments == 2 + 3
    # Each bar is cut in two; in one half, of 24 voxels, bars 2 and 3 are one.
    assert found.scores['both'].voi_split == pytest.approx(1)
    assert found.scores['both'].voi_merge == pytest.approx(16 / 48)


@pytest.mark.parametrize('flag', [['--offset', '-1,-2,0'], ['--offset=-1,-2,0']])
def test_negative_offsets(tmp_path, flag):
    """B begins before A, which has no voxels for its first column and its first two rows."""
    b = np.pad(MERGED, [(0, 0), (2, 0), (1, 0)], constant_values=9)
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['a'], file['b'] = BARS, b
    box = 'start { x:0 y:0 z:0 } size { x:8 y:3 z:2 }'
    more = [*flag, '--bounding_box', box, '--quiet']
    found = compare.main([f'{tmp_path}/v.h5:a', f'{tmp_path}/v.h5:b', *more])
    assert found.scores['either'].voi_a_given_b == pytest.approx(2 / 3)
    assert found.scores['either'].voxels == 48


@pytest.mark.parametrize('truth', CASES)
def test_select_and_training(tmp_path, truth: Stored):
    """The box that checkpoints are scored on."""
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['raw'], file['labels'] = np.zeros(SHAPE, np.uint8), truth.of(BARS)
    request = inference_pb2.InferenceRequest(seed_policy='PolicyPeaks')
    request.image.hdf5 = f'{tmp_path}/v.h5:raw'
    with HeldOutBox(request, f'{tmp_path}/v.h5:labels', Box.of_shape(SHAPE)) as box:
        for objects, split, merge, rand, _ in EXPECTED.values():
            score = HeldOutScore.of(box.truth, Segmented(objects.astype(np.int32)))
            assert (score.voi_split, score.voi_merge) == pytest.approx((split, merge))
            assert score.rand_error == pytest.approx(rand)


@pytest.mark.parametrize('stored', CASES)
def test_skeletons_made_from_truth(stored: Stored):
    """A bar of 3 by 3 by 24 voxels has a skeleton of its own name, and a run length of its own."""
    objects = np.zeros((5, 11, 26), np.int64)
    objects[1:4, 1:4, 1:25], objects[1:4, 6:9, 1:25] = 1, 2
    volume = Volume('labels', stored.of(objects), {}, CORNER)
    skeletons = skeletonize_truth(volume.read(volume.box), volume.box, min_voxels=9)
    assert sorted(skeletons.names) == sorted(map(str, stored.ids[1:3]))
    assert set(read_voxels(volume, skeletons.voxels_zyx).tolist()) == set(stored.ids[1:3])
    halves = np.where((objects == 1) & (np.arange(26) >= 13), 3, objects)
    cut = Volume('labels', stored.of(halves), {}, CORNER)
    scores = [
        erl_score(skeletons, read_voxels(one, skeletons.voxels_zyx), (1, 1, 1))
        for one in (volume, cut)
    ]
    assert scores[0].erl == scores[0].max_erl
    # One line is cut into two runs, without the edge between them.
    lengths = skeletons.lengths((1, 1, 1))
    cut_one = np.array(skeletons.names)[skeletons.neuron[skeletons.edges[:, 0]]] == str(
        stored.ids[1]
    )
    ends = skeletons.nodes_xyz[skeletons.edges][:, :, 0] - CORNER[2] >= 13
    parts = ~cut_one, cut_one & ~ends.any(axis=1), cut_one & ends.all(axis=1)
    runs = np.array([lengths[part].sum() for part in parts])
    assert runs.min() > 9
    assert scores[1].erl == pytest.approx(np.sum(runs**2) / lengths.sum())
