import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.inference.core.canvas import Interrupted
from ffn.inference.core.checkpoint import Checkpointer, restore_checkpoint
from ffn.inference.core.movement import FaceMaxMovementPolicy
from ffn.inference.core.restrictor import Restrictor, ShiftMask
from ffn.inference.seeds.grids import PolicyGrid3d
from ffn.inference.seeds.registry import make_policy
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from tests.inference.oracle import OracleNetwork, oracle_canvas

POLICY = (
    'SequentialPolicies',
    {
        'policies': [
            ('PolicyGrid3d', {'step': 9}),
            ('ReverseCoords', {'policy_to_reverse': 'PolicyGrid2d', 'step': 11}),
        ]
    },
)


def labels():
    """Slabs of three objects, some of them in two parts."""
    image = np.zeros((18, 26, 34), dtype=np.int32)
    image[1:-1, 1:12, 1:-1] = 1
    image[1:-1, 13:-1, 1:15] = 2
    image[1:-1, 13:-1, 17:-1] = 3
    return image


def new_canvas(movement='', image=None, restrictor=None):
    canvas = oracle_canvas(
        labels() if image is None else image,
        OracleNetwork(),
        min_segment_size=50,
        keep_history=True,
        movement_policy=(movement, ''),
        restrictor=restrictor,
    )
    canvas.seed_policy = make_policy(canvas.view, *POLICY)
    return canvas


def run_with_stops(path, steps_between_stops, movement):
    """Runs to the end, stopped and begun afresh after each of the given numbers of pauses."""
    stops = iter(steps_between_stops)
    while True:
        canvas = new_canvas(movement)
        if path.exists():
            restore_checkpoint(canvas, path)
        stop = threading.Event()
        save = Checkpointer(path, 0, stop)
        left = next(stops, None)

        def pause(canvas):
            nonlocal left
            if left is not None:
                left -= 1
                if left <= 0:
                    stop.set()
            save(canvas)

        canvas.observers.append(pause)
        try:
            canvas.segment_all(canvas.seed_policy)
        except Interrupted:
            continue
        return canvas


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 60), max_size=12),
    st.sampled_from(['FaceMaxMovementPolicy', 'CoarseToFineMovementPolicy']),
)
def test_stopped_and_resumed_is_as_never_stopped(tmp_path_factory, pauses, movement):
    uncut = new_canvas(movement)
    uncut.segment_all(uncut.seed_policy)
    assert len(uncut.origins) >= 3
    path = tmp_path_factory.mktemp('cpoint') / 'seg-0_0_0.cpoint'
    cut = run_with_stops(path, pauses, movement)
    assert np.array_equal(cut.segmentation, uncut.segmentation)
    assert np.array_equal(cut.seg_prob, uncut.seg_prob)
    assert {i: o[:2] for i, o in cut.origins.items()} == {
        i: o[:2] for i, o in uncut.origins.items()
    }
    assert all(np.array_equal(cut.overlaps[i], uncut.overlaps[i]) for i in uncut.overlaps)
    for name in ('predict-calls', 'seeds', 'rejected-close', 'rejected-small', 'voxels-segmented'):
        assert cut.counters[name] == uncut.counters[name]
    assert cut.history == uncut.history


def test_checkpoints_are_written_at_their_interval(tmp_path):
    canvas = new_canvas()
    path = tmp_path / 'a' / 'seg.cpoint'
    canvas.observers.append(Checkpointer(path, 0.005, threading.Event()))
    canvas.segment_all(canvas.seed_policy)
    assert path.exists()
    path.unlink()
    canvas = new_canvas()
    canvas.observers.append(Checkpointer(path, 0, threading.Event()))
    canvas.segment_all(canvas.seed_policy)
    assert not path.exists()


def interrupted(path, **canvas_arguments):
    """Saves a canvas in mid-object, made by a network called A."""
    canvas, stop = new_canvas(**canvas_arguments), threading.Event()
    stop.set()
    canvas.observers.append(Checkpointer(path, 0, stop, b'', {'network': 'A'}))
    with pytest.raises(Interrupted):
        canvas.segment_all(canvas.seed_policy)


def restrictor(**places):
    """Masks that forbid one voxel, if any."""
    masks = {name: np.zeros((18, 26, 34), bool) for name in places}
    for name, place in places.items():
        masks[name][place] = True
    shifted = masks.pop('shift_mask', None)
    if shifted is not None:
        around = Box(Xyz(0, 0, 0), Xyz(1, 1, 1))
        masks['shift_mask'] = ShiftMask(shifted, Xyz(0, 0, 0), Xyz(0, 0, 0), 1, around)
    return Restrictor(**masks)


@pytest.mark.parametrize(
    ('name', 'what'), [('mask', 'mask'), ('seed_mask', 'seed mask'), ('shift_mask', 'shift mask')]
)
def test_a_checkpoint_of_other_masks_is_refused(tmp_path, name, what):
    path, place = tmp_path / 'seg.cpoint', (17, 25, 33)
    interrupted(path, restrictor=restrictor(**{name: place}))
    restore_checkpoint(
        new_canvas(restrictor=restrictor(**{name: place})), path, b'', {'network': 'A'}
    )
    for masks in ({name: (17, 25, 32)}, {}):
        with pytest.raises(UserError, match=f'was made with another {what}$'):
            restore_checkpoint(
                new_canvas(restrictor=restrictor(**masks)), path, b'', {'network': 'A'}
            )


def test_a_checkpoint_of_another_image_and_network_is_refused(tmp_path):
    path, other = tmp_path / 'seg.cpoint', labels()
    interrupted(path)
    restore_checkpoint(new_canvas(), path, b'', {'network': 'A'})
    with pytest.raises(UserError, match=r'was made with another network$'):
        restore_checkpoint(new_canvas(), path, b'', {'network': 'B'})
    restore_checkpoint(new_canvas(), path)  # a network that was not read from a file
    other[17, 25, 33] = 1
    with pytest.raises(UserError, match=r'was made with another network and another image$'):
        restore_checkpoint(new_canvas(image=other), path, b'', {'network': 'B'})


def test_a_checkpoint_of_an_earlier_version_does_not_say_what_it_was_made_from(tmp_path):
    path = tmp_path / 'seg.cpoint'
    interrupted(path)
    change_state(path, 'made_from', value=None)
    restore_checkpoint(new_canvas(), path, b'', {'network': 'B'})


class NumpySeeds(PolicyGrid3d):
    """As a user may write it."""

    def __next__(self):
        return tuple(np.array(super().__next__()))


class NumpyMoves(FaceMaxMovementPolicy):
    """As a user may write it."""

    def __next__(self):
        return tuple(np.array(super().__next__()))

    def get_state(self):
        return super().get_state() | {'queue': list(map(np.array, self._queue))}


def test_policies_of_a_user_may_yield_integers_of_numpy(tmp_path):
    def canvas():
        made = new_canvas()
        made.movement_policy = NumpyMoves(made.view, (1, 2, 3), made.options.move_threshold)
        made.seed_policy = NumpySeeds(made.view, 9)
        return made

    path, uncut, cut = tmp_path / 'seg.cpoint', canvas(), canvas()
    uncut.segment_all(uncut.seed_policy)
    stop = threading.Event()
    save = Checkpointer(path, 0, stop)

    def pause(canvas):
        if len(canvas.origins) == 2 and canvas.growing is not None and canvas.growing.iters == 3:
            stop.set()
        save(canvas)

    cut.observers.append(pause)
    with pytest.raises(Interrupted):
        cut.segment_all(cut.seed_policy)
    resumed = canvas()
    restore_checkpoint(resumed, path)
    resumed.segment_all(resumed.seed_policy)
    assert len(uncut.origins) > 2
    np.testing.assert_array_equal(resumed.segmentation, uncut.segmentation)


def test_a_foreign_or_truncated_checkpoint_is_refused_and_changes_nothing(tmp_path):
    canvas = new_canvas()
    stop = threading.Event()
    stop.set()
    path = tmp_path / 'seg.cpoint'
    canvas.observers.append(Checkpointer(path, 0, stop))
    with pytest.raises(Interrupted):
        canvas.segment_all(canvas.seed_policy)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    fresh = new_canvas()
    with pytest.raises(UserError, match='not a whole npz'):
        restore_checkpoint(fresh, path)
    path.write_bytes(whole)
    other = oracle_canvas(np.zeros((18, 26, 35)))
    other.seed_policy = make_policy(other.view, *POLICY)
    with pytest.raises(UserError, match=r'\(18, 26, 34\), not \(18, 26, 35\)'):
        restore_checkpoint(other, path)
    np.savez(tmp_path / 'x.npz', segmentation=np.zeros(3))
    with pytest.raises(UserError, match='no usable checkpoint'):
        restore_checkpoint(fresh, tmp_path / 'x.npz')
    assert fresh.growing is None
    assert not fresh.segmentation.any()


def change_state(path, *keys, value):
    """Changes a value in the JSON of a checkpoint, whose checksums are made anew."""
    with np.load(path, allow_pickle=True) as file:
        members = dict(file)
    state = at = json.loads(bytes(members['state'].item()))
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    with open(path, 'wb') as file:
        np.savez(file, **{**members, 'state': json.dumps(state).encode()})


@pytest.mark.parametrize(
    ('keys', 'value'),
    [
        (('growing', 'start'), [3, 4]),
        (('growing', 'start'), [3, 4, 99]),
        (('growing', 'iters'), 'x'),
        (('movement', 'queue'), [[1, 2]]),
        (('movement', 'done'), [[1, 2, 0.5]]),
        (('visited',), [[0, 0, 0], [18, 26, 34]]),
        (('counters',), {'predict-calls': None}),
        (('seed_index',), None),
    ],
)
def test_a_state_that_means_nothing(tmp_path, keys, value):
    """It is refused before the canvas has taken anything over that the rest would stumble over."""
    path, stop, canvas = tmp_path / 'seg.cpoint', threading.Event(), new_canvas()
    stop.set()
    canvas.observers.append(Checkpointer(path, 0, stop))
    with pytest.raises(Interrupted):
        canvas.segment_all(canvas.seed_policy)
    restore_checkpoint(new_canvas(), path)
    change_state(path, *keys, value=value)
    with pytest.raises(UserError, match=f'^{path} is no usable checkpoint: '):
        restore_checkpoint(new_canvas(), path)
