"""Segmenting pairs again, with a network that fills what is bright and connected."""

import hashlib
import json

import h5py
import numpy as np
import pytest

from ffn.agglomeration import resegmentation
from ffn.agglomeration.config import Resegmentation, make_config
from ffn.agglomeration.evidence import (
    Thresholds,
    evaluate_endpoint,
    evaluate_pair,
    load_result,
)
from ffn.inference import inference_pb2, resegmentation_pb2
from ffn.inference.request import read_request
from ffn.inference.runner import Runner
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.utils.protos import parse_text
from ffn.volumes.volume import open_volume
from tests.inference import flood

# The bar along x is cut at x = 20 into segments 10 and 2**40; 30 is separate from both.
CUT, OTHER = (10, 2**40), 30
POINT = Xyz(20, 6, 9)


@pytest.fixture
def folder(flood_folder):
    labels = np.zeros((20, 26, 38), np.uint64)
    labels[2:18, 2:10, 2:20] = CUT[0]
    labels[2:18, 2:10, 20:36] = CUT[1]
    labels[3:9, 13:24, 4:33] = OTHER
    with h5py.File(flood_folder / 'labels.h5', 'w') as file:
        file['split'] = labels
    return flood_folder


def request(folder, extra=''):
    text = f"""
      output_directory: "{folder}/again" radius {{ x: 16 y: 8 z: 10 }}
      analysis_radius {{ x: 10 y: 6 z: 8 }} init_exclusion_radius {{ x: 2 y: 2 z: 2 }}
      exclusion_radius {{ x: 3 y: 3 z: 3 }} segment_recovery_fraction: 0.6 {extra}
      inference {{ init_segmentation {{ hdf5: "{folder}/labels.h5:split" }} }}
    """
    made = parse_text(text, inference_pb2.ResegmentationRequest(), 'request')
    made.inference.MergeFrom(read_request(flood.write_request(folder)))
    return make_config(made)


def point(id_a, id_b=0, at=POINT):
    return Resegmentation(id_a, id_b, at)


def process(asked, *points):
    with Runner(asked.inference) as runner:
        return [resegmentation.process_point(asked, runner, one) for one in points]


def evaluated(folder, path):
    with open_volume(f'{folder}/labels.h5:split') as labels:
        return evaluate_pair(path, labels)


def test_two_parts_of_one_body_are_one(folder):
    (path,) = process(request(folder), point(*CUT))
    assert path == folder / 'again' / f'10-{2**40}_at_20_6_9.npz'
    result = evaluated(folder, path)
    assert (result.id_a, result.id_b) == CUT
    scores = result.eval
    assert scores.iou == 1
    for side in (scores.from_a, scores.from_b):
        # The network moves diagonally, which leaves one corner of the box out.
        assert side.segment_a_consistency > 0.9
        assert side.segment_b_consistency > 0.6
        assert side.deleted_voxels == 0
    # Inside ±10,6,8 of x,y,z 20,6,9: z 1..17, y 0..12, x 10..30, of which 2..17, 2..9, 10..19.
    assert (scores.num_voxels_a, scores.num_voxels_b) == (16 * 8 * 10, 16 * 8 * 11)
    assert scores.max_edt_a == pytest.approx(4)
    assert scores.from_a.origin.x < 18 < 22 < scores.from_b.origin.x
    assert Thresholds().accept(scores)


def test_two_bodies_are_two(folder):
    (path,) = process(request(folder), point(OTHER, CUT[0], Xyz(12, 11, 6)))
    scores = evaluated(folder, path).eval
    assert scores.iou == 0
    assert scores.from_a.segment_a_consistency > 0.9
    assert scores.from_a.segment_b_consistency == 0
    assert not Thresholds().accept(scores)


def test_what_is_stored(folder):
    asked = request(folder, 'subdir_digits: 2')
    (path,) = process(asked, point(*CUT))
    digest = hashlib.md5(f'10{2**40}'.encode()).hexdigest()
    assert path.parent.name == digest[:2]
    data, stored = load_result(path)
    assert [one.id_b for one in stored.points] == [CUT[1]]
    np.testing.assert_array_equal(data['corner_zyx'], [0, 0, 4])
    assert data['probs'].shape == (2, 20, 15, 33)
    assert data['probs'].dtype == np.uint8
    with np.load(path, allow_pickle=True) as file:
        assert [len(h) for h in file['histories']] == [len(d) for d in file['deletes']]
        assert min(len(h) for h in file['histories']) > 10
        counters = json.loads(file['counters'].item())
    assert counters['recovered'] == 2
    for starts, half in zip(data['start_points'], (slice(0, 14), slice(18, 33)), strict=True):
        (start,) = starts
        assert half.start <= start[2] < half.stop


def test_a_result_that_exists_stays(folder):
    asked = request(folder)
    (path,) = process(asked, point(*CUT))
    before = path.stat().st_mtime_ns
    process(asked, point(*CUT))
    assert path.stat().st_mtime_ns == before


def test_a_segmentation_smaller_than_the_image(folder):
    with h5py.File(folder / 'labels.h5', 'r+') as file:
        labels = file['split'][:19, :14, :35]
        del file['split']
        file['split'] = labels
    (path,) = process(request(folder), point(*CUT))
    data, _ = load_result(path)
    assert data['probs'].shape == (2, 19, 14, 31)
    assert evaluated(folder, path).eval.iou > 0.99


def dark(folder, where):
    with h5py.File(folder / 'volume.h5', 'r+') as file:
        file['raw'][where] = 1


def test_a_failed_seed_is_tried_elsewhere(folder):
    """The middle of a segment is dark: the first seed, farthest inside, finds nothing."""
    dark(folder, np.s_[3:8, 3:8, 5:11])
    once, thrice = (
        load_result(process(request(folder, f'max_retry_iters: {n} {extra}'), point(*CUT))[0])[0]
        for n, extra in ((1, ''), (3, f'output_directory: "{folder}/more"'))
    )
    assert len(once['start_points'][0]) == 1
    tried = once['start_points'][0], thrice['start_points'][0]
    assert tried[1][0] == tried[0][0]
    assert len(tried[1]) > 1
    first, second = tried[1][:2]
    assert max(abs(a - b) for a, b in zip(first, second, strict=True)) > 3


def test_terminate_early(folder):
    dark(folder, np.s_[:, :, :20])
    (path,) = process(request(folder, 'terminate_early: true'), point(*CUT))
    data, _ = load_result(path)
    assert len(data['probs']) == 1
    scores = evaluated(folder, path).eval
    assert scores.from_b.num_voxels == 0
    assert not Thresholds().accept(scores)


def test_one_segment_alone_grows_into_others(folder):
    (path,) = process(request(folder), point(CUT[0]))
    assert path.name == '10-0_at_20_6_9.npz'
    with open_volume(f'{folder}/labels.h5:split') as labels:
        result = evaluate_endpoint(path, labels)
    assert set(result.overlaps) == {CUT[1]}
    assert result.source.num_overlapping > 0.9 * result.source.num_original > 0
    assert result.overlaps[CUT[1]].num_overlapping > 0.5 * result.overlaps[CUT[1]].num_original
    with pytest.raises(UserError, match='not to a pair'):
        evaluated(folder, path)


@pytest.mark.parametrize(
    ('change', 'accepted'),
    [
        ({}, True),
        ({'iou': 0.79}, False),
        ({'a': (0.9, 0.5)}, False),
        ({'b': (0.5, 0.9)}, False),
        ({'deleted': (5, 0)}, True),
        ({'deleted': (5, 5)}, False),
        ({'voxels': 0}, False),
    ],
)
def test_thresholds(change, accepted):
    scores = resegmentation_pb2.EvalResult(iou=change.get('iou', 0.9))
    for name, side, deleted in zip(
        'ab', (scores.from_a, scores.from_b), change.get('deleted', (0, 0)), strict=True
    ):
        side.num_voxels = change.get('voxels', 100)
        side.deleted_voxels = deleted
        side.segment_a_consistency, side.segment_b_consistency = change.get(name, (0.9, 0.9))
    assert Thresholds().accept(scores) is accepted


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        ('radius { x: 0 }', 'radius .*0,8,10'),
        ('max_retry_iters: 0', 'max_retry_iters is 0'),
        ('segment_recovery_fraction: 2', 'expected 0 to 1'),
        ('subdir_digits: 33', 'subdir_digits'),
    ],
)
def test_bad_requests(folder, extra, message):
    with pytest.raises(UserError, match=message):
        request(folder, extra)
    with pytest.raises(UserError, match='output_directory'):
        make_config(inference_pb2.ResegmentationRequest())


def test_bad_points(folder):
    asked = request(folder)
    for one, message in (
        (point(10, 99), 'segment 99 is not in'),
        (point(0, 10), 'segment 0'),
        (point(*CUT, Xyz(99, 6, 9)), 'outside the image and its segmentation'),
    ):
        with pytest.raises(UserError, match=message):
            process(asked, one)
    (folder / 'bad.npz').write_bytes(b'PK')
    with pytest.raises(UserError, match='not a whole npz'):
        load_result(folder / 'bad.npz')
    np.savez(folder / 'other.npz', probs=np.zeros(3))
    with pytest.raises(UserError, match='lacks deletes'):
        load_result(folder / 'other.npz')
