"""What grows beside segments that a canvas was filled with beforehand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ffn.inference import inference_pb2, report
from ffn.inference.core.checkpoint import restore_checkpoint, save_checkpoint
from ffn.inference.core.prefilled import find_gaps, most_covered
from ffn.inference.serialization import canvas_options
from tests.inference.core.test_canvas import segment
from tests.inference.oracle import oracle_canvas, two_blocks


def test_an_object_joins_the_segment_of_which_it_covers_most():
    segments = np.zeros((2, 3, 12), np.int32)
    segments[..., :4], segments[..., 6:8], segments[..., 10:] = 1, 2, 3
    logits = np.zeros(segments.shape, np.float32)
    logits[..., 11:] = np.nan
    mask = np.zeros(segments.shape, bool)
    mask[..., 1:8] = True
    # 3/4 of segment 1, in 18 voxels, and all of segment 2, in 12.
    assert most_covered(segments, logits, mask, 3, 0.75) == 1
    assert most_covered(segments, logits, mask, 3, 0.8) == 2
    # Segment 3 was seen in half.
    mask[..., 1:8], mask[..., 8:11] = False, True
    assert most_covered(segments, logits, mask, 3, 1.0) == 3
    assert most_covered(segments, logits, mask, 2, 0.1) == 0
    assert most_covered(segments, logits, mask, 3, 0) == 0
    assert most_covered(segments, logits, ~mask & (segments == 0), 3, 0.1) == 0


@pytest.mark.parametrize('percent', [10, 30, 55, 60, 70, 90])
def test_an_object_joins_what_it_covers_exactly_enough_of(percent):
    asked = inference_pb2.InferenceOptions(
        init_activation=0.95, pad_value=0.05, move_threshold=0.9, segment_threshold=0.6
    )
    asked.prefilled_join_fraction = percent / 100
    fraction = canvas_options(asked).join_fraction
    segments, mask = np.ones((2, 5, 10), np.int32), np.zeros((2, 5, 10), bool)
    mask.flat[:percent] = True
    assert most_covered(segments, segments.astype(np.float32), mask, 1, fraction) == 1
    mask.flat[0] = False
    assert most_covered(segments, segments.astype(np.float32), mask, 1, fraction) == 0


@pytest.mark.parametrize('fraction', [0, 0.5])
def test_what_continues_a_prefilled_segment_becomes_part_of_it(fraction, tmp_path):
    labels = two_blocks()
    given = np.where(labels == 1, 7, 0)
    given[:, :, 10:] = 0  # of block 1, an end
    assert given.any()
    assert (labels[given == 0] == 1).any()
    canvas = oracle_canvas(labels)
    canvas.options = dataclasses.replace(canvas.options, join_fraction=fraction)
    canvas.prefill(given)
    end = [p for p in np.argwhere((labels == 1) & (given == 0)).tolist() if p[2] == 11]
    segment(canvas, [end[len(end) // 2], (9, 12, 22)])
    rest = (labels == 1) & (given == 0)
    assert (canvas.segmentation[given > 0] == 1).all()
    if fraction:
        assert (canvas.segmentation[rest] == 1).all()
        assert set(canvas.origins) == {2}
        assert canvas.counters['joined'] == 1
        assert canvas.joined_seeds == [(*end[len(end) // 2], 1, 1)]
        _check_restored(canvas, tmp_path)
    else:
        assert (canvas.segmentation[rest] == 2).all()
        assert set(canvas.origins) == {2, 3}
        assert set(canvas.about_prefilled()) == {'given_ids'}
    assert len(np.unique(canvas.segmentation[labels == 2])) == 1
    assert not set(np.unique(canvas.segmentation[labels == 2])) & {0, 1}


@pytest.mark.parametrize('shape', [(24, 30), (1, 24, 30), (20, 24, 1), (20, 24, 31), ()])
def test_labels_of_another_shape_are_refused(shape):
    canvas = oracle_canvas(two_blocks())
    canvas.prefill(two_blocks())
    with pytest.raises(ValueError, match=r'labels have shape .*; expected \(20, 24, 30\)'):
        canvas.prefill(np.ones(shape, np.int32))
    np.testing.assert_array_equal(canvas.segmentation, two_blocks())


def test_what_joined_is_in_the_report():
    labels = two_blocks()
    given = np.where(labels == 1, 7, 0)
    given[:, :, 9:] = 0
    canvas = oracle_canvas(labels, join_fraction=0.1, max_object_steps=4)
    canvas.prefill(given)
    end = np.argwhere((labels == 1) & (given == 0) & (np.indices(labels.shape)[2] == 11))
    segment(canvas, [tuple(end[len(end) // 2].tolist()), (9, 12, 22)])
    told = report.BoxReport.of_canvas(canvas)
    assert (told.objects, told.joined) == (1, 1)
    assert told.stopped_at_limit == {1: 'max_object_steps', 2: 'max_object_steps'}
    text = report.summary([told], 2.0)
    assert '1 objects kept' in text
    assert '1 more objects became part of one of init_segmentation' in text
    assert '2 objects stopped growing' in text


def _check_restored(canvas, folder):
    """What joined is in checkpoints as well."""
    save_checkpoint(canvas, folder / 'seg.cpoint')
    again = oracle_canvas(two_blocks())
    again.prefill(np.where(canvas.seg_prob == 255, 7, 0))
    again.prefilled_crc, again.seed_policy = canvas.prefilled_crc, canvas.seed_policy
    restore_checkpoint(again, folder / 'seg.cpoint')
    assert again.joined_seeds == canvas.joined_seeds
    assert again.about_prefilled()['joined_seeds'].shape == (1, 5)


def test_gaps_are_where_no_ball_fits():
    labels = np.zeros((20, 24, 40), np.int32)
    labels[:, :, :10], labels[:, :, 13:20], labels[:, :, 29:] = 1, 2, 3
    gaps = find_gaps(labels, 2, (8, 8, 8))
    assert gaps[:, :, :20].all()
    assert gaps[:, :, 29:].all()
    # 9 voxels from one segment to the next: all of it is reached by balls of radius 2.
    assert not gaps[:, :, 20:29].any()
    assert find_gaps(labels, 5, (8, 8, 8)).all()


def test_a_ball_that_only_just_touches_both_sides_does_not_fit():
    labels = np.ones((19, 5, 6), np.int32)
    labels[1:-1] = 0  # the middle is 9 · 4/3 = 12 from both, and a little more in 32 bits
    assert find_gaps(labels, 12, (4, 3, 3)).all()


def test_gaps_are_measured_in_the_shortest_edge_of_a_voxel():
    labels = np.zeros((20, 24, 40), np.int32)
    labels[:8], labels[11:] = 1, 2
    assert find_gaps(labels, 2, (30, 10, 10))[9].sum() == 0
    assert find_gaps(labels, 2, (10, 10, 10)).all()
    assert not find_gaps(np.zeros((4, 5, 6), np.int32), 2, (1, 1, 1)).any()
