"""Growing one object under observation, with a network that knows the answer."""

from types import SimpleNamespace

import numpy as np
import pytest

from ffn.inference.core.restrictor import Restrictor
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.visualization.flood import FloodView
from ffn.visualization.recorder import Recorder, grow, start_in
from tests.inference.oracle import (
    OracleNetwork,
    model_info,
    object_mask,
    oracle_canvas,
    two_blocks,
)

START_ZYX = (8, 10, 6)


def record(steps, **options):
    """Lets a recorder see so many steps; returns it and the steps that it has drawn."""
    drawn = []

    def moment(step, position_zyx):
        assert position_zyx == (step, 0, 0)
        drawn.append(step)
        return np.full((4, 5, 3), step % 256, np.uint8)

    recorder = Recorder(SimpleNamespace(moment=moment), **options)
    for step in range(1, steps + 1):
        recorder(SimpleNamespace(growing=SimpleNamespace(iters=step)), (step, 0, 0))
    recorder.finish()
    return recorder, drawn


@pytest.mark.parametrize(
    ('steps', 'every', 'expected'),
    [
        (7, 1, [1, 2, 3, 4, 5, 6, 7]),
        (7, 3, [1, 4, 7]),
        (9, 3, [1, 4, 7, 9]),
        (2, 5, [1, 2]),
        (1, 5, [1]),
        (0, 1, []),
    ],
)
def test_every_so_many_steps_and_the_last_are_shown(steps, every, expected):
    shown = []
    recorder, drawn = record(steps, every=every, show=lambda p: shown.append(int(p[0, 0, 0])))
    assert drawn == shown == expected
    assert recorder.frames == []


@pytest.mark.parametrize('max_frames', [2, 3, 7, 40])
@pytest.mark.parametrize('every', [1, 3])
def test_frames_are_thinned_evenly(max_frames, every):
    for steps in (1, 2, 10, 39, 40, 41, 127, 500):
        recorder, drawn = record(steps, every=every, max_frames=max_frames)
        kept = [frame.step for frame in recorder.frames]
        assert len(kept) <= max_frames
        assert kept[0] == 1
        assert kept[-1] == steps
        assert set(kept) <= set(drawn)
        spacing = np.diff(kept)
        assert len(set(spacing[:-1].tolist())) <= 1
        assert (spacing[-1:] <= recorder.every).all()
        possible = len(range(1, steps + 1, every))
        assert len(kept) >= min(possible, max_frames // 2)
        # What is dropped at once is not drawn.
        assert len(drawn) <= max_frames * (np.log2(steps) + 1)


def test_a_frame_shows_its_step():
    recorder, _ = record(30, max_frames=5)
    for step, image in recorder.frames:
        assert abs(int(np.asarray(image.convert('L'))[0, 0]) - step) <= 5


@pytest.mark.parametrize('options', [{'every': 0}, {'max_frames': 1}, {'max_frames': -1}])
def test_impossible_numbers(options):
    with pytest.raises(UserError, match='expected 1 or more, and 0 or 2 or more'):
        Recorder(None, **options)


def test_an_object_is_grown_and_shown():
    canvas = oracle_canvas(two_blocks(), min_segment_size=10)
    view = FloodView(canvas, model_info().input_image_size, START_ZYX)
    pictures, positions = [], []
    recorder = Recorder(view, show=pictures.append)
    grown = grow(canvas, START_ZYX, lambda c, p: (positions.append(p), recorder(c, p)))
    assert grown.steps == len(positions) == len(pictures) > 5
    assert positions[0] == START_ZYX
    np.testing.assert_array_equal(object_mask(canvas), two_blocks() == 1)
    assert grown.voxels == np.count_nonzero(two_blocks() == 1)
    assert grown.complete
    assert grown.start_is_strong
    orange = [np.count_nonzero((p[..., 0].astype(int) - p[..., 2]) > 60) for p in pictures]
    assert orange[-1] > orange[0]
    assert str(grown) == (
        f'{grown.steps} steps, {grown.voxels} voxels; the start stayed above the move threshold '
        '(0.982, threshold 0.900)'
    )


def test_it_stops_after_so_many_steps():
    canvas = oracle_canvas(two_blocks())
    grown = grow(canvas, START_ZYX, max_steps=3)
    assert grown.steps == 3
    assert not grown.complete
    assert 'stopped before its end' in str(grown)
    assert 0 < grown.voxels < np.count_nonzero(two_blocks() == 1)
    # Nothing goes on with it later.
    canvas.segment_all(lambda view: iter(()))
    assert not canvas.segmentation.any()
    assert grow(canvas, START_ZYX).complete


def test_a_weak_start_and_a_small_object_are_told():
    canvas = oracle_canvas(two_blocks(), OracleNetwork(high=1))
    grown = grow(canvas, START_ZYX)
    assert grown.steps == 1
    assert not grown.start_is_strong
    assert 'fell below the move threshold (0.731, threshold 0.900)' in str(grown)
    assert 'rejects the object as weak' in str(grown)
    canvas = oracle_canvas(two_blocks(), min_segment_size=10**5)
    assert 'min_segment_size is 100000' in str(grow(canvas, START_ZYX))


def test_a_start_is_converted():
    canvas = oracle_canvas(two_blocks(), corner_zyx=(100, 200, 300))
    assert start_in(canvas, Xyz(306, 210, 108)) == START_ZYX


@pytest.mark.parametrize(
    ('start', 'fits'),
    [
        (Xyz(304, 203, 102), True),
        (Xyz(325, 220, 117), True),
        (Xyz(303, 203, 102), False),
        (Xyz(304, 202, 102), False),
        (Xyz(304, 203, 101), False),
        (Xyz(326, 220, 117), False),
        (Xyz(325, 221, 117), False),
        (Xyz(325, 220, 118), False),
        (Xyz(6, 10, 8), False),
    ],
)
def test_the_field_of_view_must_fit_around_the_start(start, fits):
    canvas = oracle_canvas(two_blocks(), corner_zyx=(100, 200, 300))
    if fits:
        position = start_in(canvas, start)
        assert canvas.view.is_valid_pos(position, ignore_move_threshold=True)
    else:
        with pytest.raises(UserError) as caught:
            start_in(canvas, start, 'START')
        x, y, z = start
        assert str(caught.value) == (
            f'START is x,y,z {x},{y},{z} (z,y,x {z},{y},{x}), where the field of view does not fit '
            'into the box; expected x,y,z 304,203,102 (z,y,x 102,203,304) to x,y,z 325,220,117 '
            '(z,y,x 117,220,325)'
        )


def test_a_start_that_is_taken_or_masked():
    mask = np.zeros(two_blocks().shape, bool)
    mask[9] = True
    canvas = oracle_canvas(two_blocks(), restrictor=Restrictor(mask=mask))
    canvas.prefill(np.where(two_blocks() == 2, 5, 0))
    assert start_in(canvas, Xyz(6, 10, 8)) == START_ZYX
    with pytest.raises(UserError, match='init_segmentation'):
        start_in(canvas, Xyz(20, 10, 8))
    with pytest.raises(UserError, match='mask of the request'):
        start_in(canvas, Xyz(6, 10, 9))
