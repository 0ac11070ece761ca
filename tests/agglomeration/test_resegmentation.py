"""Segmenting pairs again, with a network that fills what is bright and connected."""

import hashlib
import json
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from ffn.agglomeration import resegmentation
from ffn.agglomeration.config import Resegmentation, make_config, to_message
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
from ffn.utils.geometry import Xyz, Zyx
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


ANALYSIS = 'analysis_radius { x: 10 y: 6 z: 8 }'


def request(folder, extra='', analysis=ANALYSIS):
    text = f"""
      output_directory: "{folder}/again" radius {{ x: 16 y: 8 z: 10 }}
      {analysis} init_exclusion_radius {{ x: 2 y: 2 z: 2 }}
      exclusion_radius {{ x: 3 y: 3 z: 3 }}
      inference {{ init_segmentation {{ hdf5: "{folder}/labels.h5:split" }} }}
    """
    made = inference_pb2.ResegmentationRequest(segment_recovery_fraction=0.6)
    parse_text(text, made, 'request')
    parse_text(extra, made, 'extra')
    made.inference.MergeFrom(read_request(flood.write_request(folder, flood.THOROUGH)))
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
        assert half.start <= start[0] < half.stop  # x, y, z, of a box with 33, 15, 20
        assert (start[1], start[2]) == (5, 5)


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
    first, second = (np.array(start) for start in tried[1][:2])
    assert np.abs(first - second).max() > 3


def test_without_analysis_radius_the_whole_box_counts(folder):
    asked = request(folder, 'segment_recovery_fraction: 0.5', analysis='')
    (path,) = process(asked, point(*CUT))
    scores = evaluated(folder, path).eval
    # x, y, z 20,6,9 ± 16,8,10, clipped: x 4..36, y 0..14, z 0..19; the halves have x 4..19 and 20..35.
    assert (scores.num_voxels_a, scores.num_voxels_b) == (16 * 8 * 16, 16 * 8 * 16)
    assert (scores.radius.x, scores.radius.y, scores.radius.z) == (16, 8, 10)
    assert scores.iou == 1
    # The network does not follow the second half to its end; within ±10,6,8 it would be above 0.6.
    assert 0.5 < scores.from_b.segment_b_consistency < 0.6
    assert load_result(path)[0]['recovered'].tolist() == [True, True]


def rewrite(path, **members):
    """Replaces members of a result."""
    with np.load(path, allow_pickle=True) as file:
        found = {name: file[name] for name in file.files}
    np.savez(path, **{**found, **members})


def objects(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_deleted_voxels_count_where_the_step_was_within_the_radius(folder):
    (path,) = process(request(folder), point(*CUT))
    # The box begins at z,y,x 0,0,4, so the point is at 9,6,16 in it, and what counts ±8,6,10 around.
    edge = [(17, 12, 26), (1, 0, 6)]
    beyond = [(18, 6, 16), (0, 6, 16), (9, 13, 16), (9, 6, 27), (9, 6, 5)]
    rewrite(
        path,
        histories=objects(np.array(edge + beyond), np.array(beyond)),
        deletes=objects(np.array([1, 2, 10, 20, 40, 80, 160]), np.array([1, 2, 4, 8, 16])),
    )
    scores = evaluated(folder, path).eval
    assert (scores.from_a.deleted_voxels, scores.from_b.deleted_voxels) == (3, 0)
    rewrite(path, deletes=objects(np.array([1]), np.array([2])))
    with pytest.raises(UserError, match='deletes and histories differ in length'):
        load_result(path)


def first_seeds(folder, extra):
    (path,) = process(request(folder, extra), point(*CUT))
    return [start[0] for start in load_result(path)[0]['start_points']]


@pytest.mark.parametrize('kind', ['masks', 'seed_masks'])
def test_a_mask_over_the_deepest_voxel_takes_the_next(folder, kind):
    # Both halves are deepest in the section y = 5 of the box; masked there, they are deepest in y = 6.
    hidden = f'inference {{ {kind} {{ coordinate_expression {{ expression: "y == 5" }} }} }}'
    free = first_seeds(folder, '')
    masked = first_seeds(folder, f'output_directory: "{folder}/masked" {hidden}')
    assert [y for _, y, _ in free] == [5, 5]
    assert [y for _, y, _ in masked] == [6, 6]


def test_a_request_that_ends_in_a_zero_byte_is_read_back(folder):
    asked = request(folder, analysis='analysis_radius { x: 10 y: 6 z: 0 }')
    (path,) = process(asked, point(*CUT))
    stored = to_message(asked, [point(*CUT)])
    data = stored.SerializeToString()
    assert data.endswith(b'\0')
    with np.load(path) as file:
        assert file['request'].item() == data
    assert load_result(path)[1] == stored
    rewrite(path, request=data)  # as NumPy bytes, which lack the zero when read as such
    assert load_result(path)[1] == stored
    # z 9 alone, y 0..12, x 10..30
    assert evaluated(folder, path).eval.num_voxels_a == 8 * 10


def test_seeds_of_earlier_versions_were_in_z_y_x(folder):
    (path,) = process(request(folder), point(*CUT))
    data, stored = load_result(path)
    origin = evaluated(folder, path).eval.from_a.origin
    (start,) = data['start_points'][0]
    assert (origin.x, origin.y, origin.z) == (start[0] + 4, start[1], start[2])
    text = stored.SerializeToString()
    turned = objects(*([s[::-1] for s in starts] for starts in data['start_points']))
    rewrite(path, start_points=turned, request=text)
    assert evaluated(folder, path).eval.from_a.origin == origin
    # Other installations write NumPy bytes too, but x, y, z, and no `recovered`.
    kept = {n: v for n, v in data.items() if n != 'recovered'}
    np.savez(path, **{**kept, 'request': text})
    assert evaluated(folder, path).eval.from_a.origin == origin


def test_without_a_fraction_voxels_of_the_original_near_the_point_count():
    original = np.zeros((5, 6, 7), bool)
    original[1:4, 1:5, 1:6] = True
    found = np.zeros_like(original)
    found[:, :, :3] = True
    nearby = resegmentation.around(Zyx(2, 2, 1), Xyz(1, 2, 1))
    # Of found, z 1..3, y 1..4, x 1..2 are the original's: 24 of 90; all are within z 1..3, y 0..4, x 0..2.
    for least, expected in ((24, True), (25, False)):
        options = SimpleNamespace(options=SimpleNamespace(min_segment_size=least))
        assert resegmentation.is_recovered(found, original, nearby, options, 0) is expected
    elsewhere = resegmentation.around(Zyx(2, 2, 6), Xyz(2, 2, 1))
    options.options.min_segment_size = 1
    assert not resegmentation.is_recovered(found, original, elsewhere, options, 0)


@pytest.mark.parametrize('percent', [10, 30, 40, 55, 60, 70, 80, 90])
def test_exactly_the_fraction_is_enough(folder, percent):
    fraction = request(folder, f'segment_recovery_fraction: 0.{percent}').segment_recovery_fraction
    original, found = np.ones((1, 2, 100), bool), np.zeros((1, 2, 100), bool)
    found[..., :percent] = True
    everywhere = (slice(None),) * 3
    assert resegmentation.is_recovered(found, original, everywhere, None, fraction)
    found[0, 0, 0] = False
    assert not resegmentation.is_recovered(found, original, everywhere, None, fraction)


def test_an_object_that_fills_its_box_has_a_finite_depth(folder):
    full = np.ones((3, 5, 7), bool)
    # From the middle: two sections of 40, three rows of 8, four columns of 4.
    assert resegmentation.depth_inside(full, (40, 8, 4)).max() == 16
    full[1, 2, 0] = False
    assert resegmentation.depth_inside(full, (40, 8, 4))[1, 2].tolist() == [0, 4, 8, 12, 16, 20, 24]
    with h5py.File(folder / 'labels.h5', 'r+') as file:
        file['split'][:] = 7
    (path,) = process(request(folder), point(7))
    ((start,),) = load_result(path)[0]['start_points']
    assert start == (7, 7, 7)  # of x,y,z 33,15,20 voxels: the first that is 8 from the edge in y


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
    # What is not labelled is no segment.
    with h5py.File(folder / 'labels.h5', 'r+') as file:
        labels = file['split'][:]
        file['split'][:] = np.where(labels == CUT[1], np.uint64(2**64 - 1), labels)
    with open_volume(f'{folder}/labels.h5:split') as labels:
        result = evaluate_endpoint(path, labels)
    assert not result.overlaps
    assert result.source.num_overlapping > 0


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


@pytest.mark.parametrize('threshold', [0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9])
def test_what_equals_a_threshold_is_not_above_it(threshold):
    for equal in ('iou', 'a', 'b'):
        scores = resegmentation_pb2.EvalResult(iou=threshold if equal == 'iou' else 1)
        for name, side in (('a', scores.from_a), ('b', scores.from_b)):
            side.num_voxels, side.segment_a_consistency, side.segment_b_consistency = 100, 1, 1
            if name == equal:
                side.segment_b_consistency = threshold
        assert not Thresholds(threshold, threshold).accept(scores), equal
        assert Thresholds(threshold - 1e-6, threshold - 1e-6).accept(scores), equal


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        ('radius { x: 0 }', 'radius .*0,8,10'),
        ('max_retry_iters: 0', 'max_retry_iters is 0'),
        (
            'inference { inference_options { prefilled_gap: 1 } }',
            'prefilled_gap is set: it is about',
        ),
        ('segment_recovery_fraction: 2', 'expected 0 to 1'),
        ('subdir_digits: 33', 'subdir_digits'),
        (
            'output_directory: "s3://bucket/again"',
            'output_directory is s3://bucket/again; expected',
        ),
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
