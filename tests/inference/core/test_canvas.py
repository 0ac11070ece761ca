import dataclasses
import gc
import weakref

import numpy as np
import pytest
from absl import logging

from ffn.inference.core.restrictor import Restrictor
from ffn.inference.core.step import DELETED_FROM
from ffn.inference.seeds.policy import SeedPolicy
from ffn.inference.storage import OriginInfo
from ffn.utils.geometry import Xyz
from ffn.utils.logits import logit
from tests.inference.oracle import OracleNetwork, model_info, oracle_canvas, two_blocks


class Points(SeedPolicy):
    """Given points."""

    def __init__(self, view, points):
        super().__init__(view)
        self._given = points

    def points(self):
        return np.array(self._given)


def segment(canvas, points):
    canvas.segment_all(lambda view: Points(view, points))
    return canvas


def test_segments_every_object_it_is_seeded_in():
    labels = two_blocks()
    canvas = segment(oracle_canvas(labels), [(8, 10, 6), (9, 12, 22), (9, 12, 23)])
    assert np.array_equal(canvas.segmentation, labels)
    assert set(canvas.origins) == {1, 2}
    assert canvas.origins[1].start_zyx == (8, 10, 6)
    assert canvas.origins[2].start_zyx == (9, 12, 22)
    assert canvas.origins[1].iters + canvas.origins[2].iters == canvas.counters['predict-calls']
    assert np.all((canvas.seg_prob > 0) == (labels > 0))
    assert np.all(canvas.seg_prob[labels > 0] >= 0.6 * 255)
    assert canvas.counters['voxels-segmented'] == np.count_nonzero(labels)


def test_fields_of_view_stay_inside_and_go_where_the_object_goes():
    canvas = oracle_canvas(two_blocks())
    seen = []
    steps = canvas.segment_at((8, 10, 6), callback=lambda c, pos: seen.append(pos))
    assert steps == len(seen) == canvas.counters['predict-calls']
    assert seen[0] == (8, 10, 6)
    assert all(m <= p < n - m for pos in seen for p, m, n in zip(pos, (2, 3, 4), (20, 24, 30)))
    assert all(canvas.image[pos] == 1 for pos in seen)
    assert len(set(seen)) == len(seen)
    # Nothing has been made a segment of; the object is in the seed.
    assert not canvas.segmentation.any()
    assert np.array_equal(canvas.seed >= logit(0.6), two_blocks() == 1)


def test_coarse_moves_fill_the_same_object_in_fewer_steps():
    labels = two_blocks()
    info = dataclasses.replace(model_info(), deltas=Xyz(2, 1, 1))  # large moves of 3, 2 and 1
    steps = {}
    for name in ('FaceMaxMovementPolicy', 'CoarseToFineMovementPolicy'):
        canvas = oracle_canvas(labels, info=info, movement_policy=(name, ''))
        segment(canvas, [(8, 10, 6), (9, 12, 22)])
        assert np.array_equal(canvas.segmentation, labels)
        steps[name] = canvas.counters['predict-calls']
    assert steps['CoarseToFineMovementPolicy'] < 0.6 * steps['FaceMaxMovementPolicy']


def test_the_share_that_no_step_has_predicted():
    canvas = oracle_canvas(two_blocks())
    canvas.init_seed((8, 10, 6))
    assert canvas.view.unvisited_share((8, 10, 6)) == 1 - 1 / (5 * 7 * 9)
    canvas.update_at((8, 10, 6))
    assert canvas.view.unvisited_share((8, 10, 6)) == 0
    assert canvas.view.unvisited_share((9, 10, 6)) == 1 / 5
    assert canvas.view.unvisited_share((9, 11, 9)) == pytest.approx(1 - 4 / 5 * 6 / 7 * 6 / 9)


def test_the_seed_is_cleared_between_objects():
    canvas = oracle_canvas(two_blocks())
    canvas.segment_at((8, 10, 6))
    canvas.init_seed((9, 12, 22))
    assert np.count_nonzero(~np.isnan(canvas.seed)) == 1
    assert canvas.seed[9, 12, 22] == np.float32(logit(0.95))


def test_unvisited_voxels_are_shown_as_the_pad_value():
    seeds = []

    class Spy(OracleNetwork):
        def predict(self, image, seed):
            seeds.append(seed.copy())
            return super().predict(image, seed)

    canvas = oracle_canvas(two_blocks(), Spy())
    canvas.segment_at((8, 10, 6))
    first = seeds[0]
    assert first.shape == (5, 7, 9)
    assert first[2, 3, 4] == np.float32(logit(0.95))
    assert np.count_nonzero(first == np.float32(logit(0.05))) == first.size - 1


def test_an_object_that_fades_is_rejected_as_weak_and_leaves_no_mark():
    canvas = segment(oracle_canvas(two_blocks(), OracleNetwork(high=0.5)), [(8, 10, 6)])
    assert not canvas.origins
    assert not canvas.segmentation.any()
    assert canvas.counters['rejected-weak'] == 1


def test_a_seed_that_got_too_weak_stops_its_object():
    canvas = oracle_canvas(two_blocks())

    def fade(canvas):
        if canvas.growing and canvas.growing.iters == 3:
            canvas.seed[8, 10, 6] = -4

    canvas.observers.append(fade)
    segment(canvas, [(8, 10, 6)])
    assert canvas.counters['rejected-weak'] == 1
    assert canvas.counters['predict-calls'] == 3
    assert canvas.counters['seed_got_too_weak'] == 1


def test_small_objects_are_rejected():
    labels = two_blocks()
    size = np.count_nonzero(labels == 1)
    assert segment(oracle_canvas(labels, min_segment_size=size), [(8, 10, 6)]).origins
    canvas = segment(oracle_canvas(labels, min_segment_size=size + 1), [(8, 10, 6)])
    assert not canvas.origins
    assert canvas.counters['rejected-small'] == 1


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_min_boundary_dist_is_x_y_z_and_inclusive(axis):
    labels = np.zeros((20, 24, 30), dtype=np.int32)
    distance = Xyz(4, 3, 2)
    center = np.array([9, 11, 14])
    reach = distance.zyx[axis]
    for gap, allowed in ((reach, False), (reach + 1, True)):
        canvas = oracle_canvas(labels, min_boundary_dist=distance)
        neighbour = center.copy()
        neighbour[axis] += gap
        canvas.segmentation[tuple(neighbour)] = 7
        assert canvas._may_start(tuple(center.tolist())) is allowed
        assert canvas.segmentation[tuple(center)] == (0 if allowed else -1)


def test_an_overlap_keeps_the_earlier_segment_and_is_recorded():
    class Everything(OracleNetwork):
        def predict(self, image, seed):
            return super().predict(np.ones_like(image), seed)

    canvas = oracle_canvas(two_blocks(), Everything())
    canvas.segmentation[:, :, 20:] = 5
    canvas.prefilled = 5
    canvas.segment_all(lambda view: Points(view, [(8, 10, 6)]))
    assert set(canvas.origins) == {6}
    assert np.all(canvas.segmentation[:, :, 20:] == 5)
    assert np.all(canvas.segmentation[3:-3, 3:-3, 3:20] == 6)
    ids, counts = canvas.overlaps[6]
    assert ids.tolist() == [5]
    assert counts[0] == canvas.counters['voxels-overlapping'] > 0


@pytest.mark.parametrize(('threshold', 'biased'), [(-1, False), (0, True), (1, False)])
def test_disconnected_seed_bias_keeps_background_background(threshold, biased):
    class Rising(OracleNetwork):
        def predict(self, image, seed):
            self.steps += 1
            value = -3 if self.steps == 1 else 3
            logits = np.full(image.shape, value, np.float32)
            logits[:, :, 4:] = 3
            return logits

    canvas = oracle_canvas(two_blocks(), Rising(), disco_seed_threshold=threshold)
    canvas.init_seed((8, 10, 10))
    canvas.reset_state((8, 10, 10))
    canvas.update_at((8, 10, 10))
    second = canvas.update_at((8, 10, 10))
    if biased:
        assert np.all(second[:, :, :4] == -3)
    else:
        assert np.all(second[:, :, :4] == 3)
    assert np.array_equal(canvas.seed[6:11, 7:14, 6:15], second)


def test_movement_sees_what_is_kept_of_the_logits_and_where():
    class Rising(OracleNetwork):
        def predict(self, image, seed):
            self.steps += 1
            logits = np.full(image.shape, -3 if self.steps == 1 else 3, np.float32)
            logits[:, :, 4:] = 3
            return logits

    canvas = oracle_canvas(two_blocks(), Rising(), disco_seed_threshold=0)
    seen = []

    class Twice:
        def __iter__(self):
            return iter([(8, 10, 10)] * 2)

        def reset_state(self, start):
            seen.append(start)

        def update(self, logits, position):
            seen.append((position, float(logits[0, 0, 0]), float(logits[0, 0, 4])))

    canvas.movement_policy = Twice()
    assert canvas.segment_at((8, 10, 10)) == 2
    assert seen == [(8, 10, 10), ((8, 10, 10), -3, 3), ((8, 10, 10), -3, 3)]


@pytest.mark.parametrize(
    ('pos', 'segment', 'valid', 'valid_start'),
    [
        ((2, 3, 4), 0, True, True),  # the least centre of a field of view of 5, 7, 9
        ((17, 20, 25), 0, True, True),
        ((18, 20, 25), 0, False, False),
        ((17, 20, 26), 0, False, False),
        ((2, 2, 4), 0, False, False),
        ((8, 10, 10), 4, False, False),
        ((8, 10, 10), -1, True, True),
        ((9, 10, 10), 0, False, True),  # below the threshold
        ((9, 10, 11), 0, False, True),  # not visited
    ],
)
def test_valid_positions(pos, segment, valid, valid_start):
    canvas = oracle_canvas(two_blocks())
    canvas.seed[:] = canvas.options.move_threshold
    canvas.seed[9, 10, 10] -= 0.01
    canvas.seed[9, 10, 11] = np.nan
    canvas.segmentation[8, 10, 10] = segment
    assert canvas.view.is_valid_pos(pos) is valid
    assert canvas.view.is_valid_pos(pos, ignore_move_threshold=True) is valid_start


def test_rejected_seeds_are_marked_until_the_end():
    canvas = oracle_canvas(two_blocks(), min_segment_size=10**6, min_boundary_dist=Xyz(2, 0, 0))
    canvas.segmentation[15, 5, 5] = 3
    marked = []
    canvas.observers.append(
        lambda c: marked.append(sorted(map(tuple, np.argwhere(c.segmentation < 0))))
    )
    segment(canvas, [(15, 5, 7), (15, 5, 8), (15, 5, 5)])
    assert marked[0] == [(15, 5, 7)]  # close
    assert marked[-1] == [(15, 5, 7), (15, 5, 8)]  # small; where there is a segment, nothing
    assert canvas.counters['rejected-close'] == canvas.counters['rejected-small'] == 1
    assert np.unique(canvas.segmentation).tolist() == [0, 3]


def test_counters_have_the_names_that_results_have():
    canvas = segment(
        oracle_canvas(two_blocks(), min_segment_size=100), [(8, 10, 6), (2, 10, 6), (9, 12, 22)]
    )
    assert not canvas.view.is_valid_pos((17, 20, 25))  # background
    names = set(canvas.counters.as_dict())
    assert names >= {
        'predict-calls',
        'skip_threshold',
        'skip_invalid_pos',
        'voxels-segmented',
        'voxels-overlapping',
        'valid-time-ms',
        'invalid-weak-time-ms',
        'segment_all-time-ms',
        'seed-policy-time-ms',
    }


def test_history_counts_deleted_voxels():
    class Deleting(OracleNetwork):
        def predict(self, image, seed):
            logits = np.full(image.shape, 4, np.float32)
            if self.steps:
                logits[0] = -1
            self.steps += 1
            return logits

    canvas = oracle_canvas(two_blocks(), Deleting(), keep_history=True)
    canvas.init_seed((8, 10, 10))
    canvas.reset_state((8, 10, 10))
    canvas.update_at((8, 10, 10))
    canvas.update_at((8, 10, 10))
    assert canvas.history == [((8, 10, 10), 0), ((8, 10, 10), 7 * 9)]
    assert pytest.approx(np.log(4)) == DELETED_FROM


def test_a_mask_keeps_the_field_of_view_out():
    labels = two_blocks()
    mask = np.zeros(labels.shape, dtype=bool)
    mask[:, 14:] = True
    canvas = oracle_canvas(labels, restrictor=Restrictor(mask=mask), info=model_info())
    seen = []
    canvas.segment_at((8, 10, 6), callback=lambda c, pos: seen.append(pos))
    assert max(y for _, y, _ in seen) < 14
    assert canvas.counters['skip_restricted_pos'] > 0


def test_a_smaller_output_updates_the_centre_only():
    info = dataclasses.replace(model_info(), pred_mask_size=Xyz(5, 5, 3))
    canvas = oracle_canvas(two_blocks(), info=info)
    canvas.init_seed((8, 10, 10))
    canvas.reset_state((8, 10, 10))
    logits = canvas.update_at((8, 10, 10))
    assert logits.shape == (3, 5, 5)
    visited = np.argwhere(~np.isnan(canvas.seed))
    assert visited.min(axis=0).tolist() == [7, 8, 8]
    assert visited.max(axis=0).tolist() == [9, 12, 12]


def test_prefilled_ids_are_contiguous_and_mapped_both_ways():
    labels = two_blocks()
    given = np.zeros(labels.shape, dtype=np.uint64)
    given[labels == 2] = 2**40
    canvas = oracle_canvas(labels)
    canvas.prefill(given)
    assert canvas.to_given_id == {0: 0, 1: 2**40}
    assert canvas.to_canvas_id[2**40] == 1
    segment(canvas, [(9, 12, 22), (8, 10, 6)])
    assert set(canvas.origins) == {2}
    assert np.all(canvas.segmentation[labels == 2] == 1)
    assert np.all(canvas.segmentation[labels == 1] == 2)


def test_policies_cannot_write_to_the_canvas():
    masks = np.zeros((2, *two_blocks().shape), bool)
    masks[0, :4] = masks[1, :, 20:] = True
    view = oracle_canvas(two_blocks(), restrictor=Restrictor(*masks)).view
    np.testing.assert_array_equal([view.mask, view.seed_mask], masks)
    for array in (view.image, view.segmentation, view.mask, view.seed_mask):
        with pytest.raises(ValueError, match='read-only'):
            array[0, 0, 0] = 1


def test_seeds_whose_field_of_view_leaves_the_subvolume_are_dropped(caplog):
    logging.set_verbosity(logging.INFO)
    policy = Points(
        oracle_canvas(two_blocks()).view,
        [(2, 3, 4), (1, 3, 4), (2, 2, 4), (2, 3, 3), (17, 20, 25), (18, 20, 25)],
    )
    assert list(policy) == [(2, 3, 4), (17, 20, 25)]


def test_a_second_list_of_seeds_goes_on_with_what_is_free():
    canvas = oracle_canvas(two_blocks())
    segment(canvas, [(8, 10, 6)])
    assert set(canvas.origins) == {1}
    segment(canvas, [(9, 12, 22)])
    assert set(canvas.origins) == {1, 2}
    assert np.array_equal(canvas.segmentation, two_blocks())


def test_ids_go_on_after_the_greatest_that_a_user_has_put_there():
    canvas = oracle_canvas(two_blocks())
    canvas.origins.update({5: OriginInfo((0, 0, 0), 1, 0.1), 3: OriginInfo((0, 0, 1), 1, 0.1)})
    segment(canvas, [(8, 10, 6), (9, 12, 22)])
    assert set(canvas.origins) == {3, 5, 6, 7}


def test_filling_again_forgets_the_objects_before():
    labels = two_blocks()
    canvas = segment(oracle_canvas(labels), [(8, 10, 6)])
    given = np.where(labels == 2, np.arange(labels.shape[0])[:, None, None] + 1, 0)
    canvas.prefill(given)
    count = len(np.unique(given)) - 1
    assert not canvas.origins
    assert not canvas.overlaps
    np.testing.assert_array_equal(canvas.seg_prob, np.where(given > 0, 255, 0))
    segment(canvas, [(8, 10, 6)])
    assert set(canvas.origins) == {count + 1}
    assert np.array_equal(canvas.segmentation == count + 1, labels == 1)


def test_a_canvas_is_gone_with_its_last_reference():
    """Its arrays are large, and the garbage collector may not come by for hours."""
    canvas = segment(oracle_canvas(two_blocks()), [(8, 10, 6), (9, 12, 22)])
    gone = weakref.ref(canvas)
    gc.disable()
    try:
        del canvas
        assert gone() is None
    finally:
        gc.enable()
