import numpy as np
import pytest

from ffn.inference.core.movement import (
    FaceMaxMovementPolicy,
    describe_deltas,
    json_args,
    make_policy,
)
from ffn.utils import trust
from ffn.utils.errors import UserError


class View:
    """Everything is allowed but what is listed."""

    def __init__(self, forbidden=()):
        self.forbidden = set(forbidden)

    def is_valid_pos(self, pos_zyx, ignore_move_threshold=False):
        return tuple(pos_zyx) not in self.forbidden


def logits_with(peaks, shape=(5, 7, 9)):
    logits = np.full(shape, -5, np.float32)
    center = [n // 2 for n in shape]
    for offset, value in peaks.items():
        logits[tuple(c + o for c, o in zip(center, offset))] = value
    return logits


def test_the_best_voxel_of_each_face_is_queued_greatest_first():
    policy = FaceMaxMovementPolicy(View(), (1, 2, 3), 2.0)
    policy.reset_state((10, 20, 30))
    assert next(policy) == (10, 20, 30)
    peaks = {(1, 0, 1): 4.0, (-1, 2, 0): 5.0, (0, -2, -2): 3.0, (0, 1, 3): 1.9, (0, 0, -3): 2.0}
    policy.update(logits_with(peaks), (10, 20, 30))
    assert list(policy) == [(9, 22, 30), (11, 20, 31), (10, 18, 28), (10, 20, 27)]


def test_a_cell_is_visited_once_but_other_cells_wait_in_order():
    policy = FaceMaxMovementPolicy(View(forbidden=[(1, 0, 0)]), (1, 2, 3), 0)
    policy.reset_state((0, 0, 0))
    next(policy)
    # The cell of the start reaches to ±delta/2: x offset 1 is in it, x offset 3 is not.
    policy.update(logits_with({(0, -2, 1): 6, (1, 0, 0): 5, (0, 0, 3): 4}), (0, 0, 0))
    assert next(policy) == (0, -2, 1)
    policy.update(logits_with({}), (0, -2, 1))
    policy.update(logits_with({(0, 2, 0): 6}), (0, -2, 0))
    assert list(policy) == [(0, 0, 3)]


def test_axes_without_delta_are_not_moved_along():
    policy = FaceMaxMovementPolicy(View(), (0, 2, 3), 0)
    policy.reset_state((0, 0, 0))
    next(policy)
    policy.update(np.full((5, 7, 9), 3, np.float32), (0, 0, 0))
    assert {z for z, _, _ in policy} == {0}


def test_state_goes_through_json():
    import json

    policy = FaceMaxMovementPolicy(View(), (1, 2, 3), 0)
    policy.reset_state((1, 2, 3))
    next(policy)
    policy.update(np.random.default_rng(0).normal(size=(5, 7, 9)).astype(np.float32), (1, 2, 3))
    other = FaceMaxMovementPolicy(View(), (1, 2, 3), 0)
    other.set_state(json.loads(json.dumps(policy.get_state())))
    assert list(other) == list(policy) != []


def test_arguments_override_deltas_in_z_y_x_and_threshold():
    args = '{"deltas": [1, 2, 3], "score_threshold": 7}'
    policy = make_policy(View(), '', args, (4, 4, 4), 0, (1, 2, 3))
    policy.reset_state((10, 20, 30))
    assert next(policy) == (10, 20, 30)
    # Greatest on the faces at z + 1, y + 2 and x + 3; the last but one is not great enough.
    peaks = {(1, 0, 1): 9.0, (0, 2, -1): 8.0, (1, -2, 0): 6.9, (0, -1, 3): 7.0}
    policy.update(logits_with(peaks), (10, 20, 30))
    assert list(policy) == [(11, 20, 31), (10, 22, 29), (10, 19, 33)]


@pytest.mark.parametrize(
    ('args', 'described'),
    [
        ('{"deltas": [1, 2, 3]}', 'read as z,y,x 1,2,3 (x,y,z 3,2,1)'),
        ('{"deltas": [1, 3, 1]}', ''),
        ('{"score_threshold": 2}', ''),
        ('', ''),
    ],
)
def test_deltas_whose_order_matters_are_described_with_their_axes(args, described):
    expected = f'deltas of movement_policy_args are {described}' if described else ''
    assert describe_deltas(args, (1, 3, 4)) == expected


class UserPolicy(FaceMaxMovementPolicy):
    """Named by a request below."""


def test_a_class_of_the_user():
    with trust.only(trust.Trust(frozenset({__name__}))):
        policy = make_policy(View(), f'{__name__}.UserPolicy', '', (1, 1, 1), 0, (2, 3, 4))
    assert isinstance(policy, UserPolicy)


@pytest.mark.parametrize(
    ('name', 'args', 'message'),
    [
        ('Nowhere', '', 'known are FaceMaxMovementPolicy'),
        ('no.such.module.Class', '', '--allow_module=no'),
        ('ffn.such.module.Class', '', 'does not exist'),
        ('', '{"speed": 3}', 'do not fit'),
        ('', '[1]', 'must be a JSON object'),
        ('', '{', 'is not JSON'),
        ('', '{"deltas": [1, 1, 1], "deltas": [2, 1, 1]}', "has the key 'deltas' twice"),
        ('', '{"deltas": [8, 8]}', 'three integers z,y,x'),
        ('', '{"deltas": [4, 3, 2]}', r'z,y,x 4,3,2 .*; expected .* z,y,x 2,3,4 \(x,y,z 4,3,2\)'),
        ('', '{"deltas": [2, -1, 2]}', 'z,y,x 2,-1,2'),
    ],
)
def test_errors(name, args, message):
    with pytest.raises(UserError, match=message):
        make_policy(View(), name, args, (1, 1, 1), 0, (2, 3, 4))


def test_no_arguments():
    assert json_args(' ', 'x') == {}
