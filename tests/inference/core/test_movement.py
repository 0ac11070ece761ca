import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.inference.core.movement import (
    CoarseToFineMovementPolicy,
    FaceMaxMovementPolicy,
    describe_deltas,
    json_args,
    make_policy,
)
from ffn.utils import trust
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from ffn.utils.logits import logit
from tests.inference.oracle import oracle_canvas


class View:
    """Everything is allowed but what is listed; nothing has been visited but what is."""

    reach_zyx = Zyx(3, 4, 6)

    def __init__(self, forbidden=(), visited=()):
        self.forbidden, self.visited = set(forbidden), set(visited)

    def unvisited_share(self, pos_zyx):
        return 0.04 if tuple(pos_zyx) in self.visited else 1.0

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


@pytest.mark.parametrize('kind', [FaceMaxMovementPolicy, CoarseToFineMovementPolicy])
def test_state_goes_through_json(kind):
    import json

    policy = kind(View(), (1, 2, 3), 0)
    policy.reset_state((1, 2, 3))
    next(policy)
    policy.update(np.random.default_rng(0).normal(size=(5, 7, 9)).astype(np.float32), (1, 2, 3))
    other = kind(View(), (1, 2, 3), 0)
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


def test_large_moves_first_then_small_ones_where_much_is_new():
    view = View(visited=[(0, 0, -2)])
    policy = CoarseToFineMovementPolicy(view, (1, 2, 2), 2.0, coarse=2)
    policy.reset_state((0, 0, 0))
    assert next(policy) == (0, 0, 0)
    # Faces at ±2, ±3 (not 4, the edge of what the network predicts) and ±4; and at ±1, ±2 and ±2.
    peaks = {(0, 0, 4): 3.0, (0, 3, 1): 4.0, (0, 0, 2): 9.0, (0, 0, -2): 8.0, (0, -2, 1): 7.0}
    policy.update(logits_with(peaks), (0, 0, 0))
    assert next(policy) == (0, 3, 1)
    policy.update(logits_with({(-2, 0, 0): 5.0, (-1, 0, 0): 5.0}), (0, 3, 1))
    assert next(policy) == (0, 0, 4)
    policy.update(logits_with({}), (0, 0, 4))
    assert next(policy) == (-2, 3, 1)
    policy.update(logits_with({}), (-2, 3, 1))
    # No large move is left. (0, 0, -2) would see too little that is new.
    assert next(policy) == (0, 0, 2)
    policy.update(logits_with({(0, -3, 0): 6.0}), (0, 0, 2))
    assert list(policy)[:2] == [(0, -3, 2), (0, -2, 1)]


def test_how_near_to_the_edge_large_moves_go():
    peaks = logits_with({(0, 0, 4): 3.0, (0, 0, 3): 3.0}, (7, 9, 13))
    for within, farthest in ((1, (0, 0, 4)), (0.5, (0, 0, 3))):
        policy = CoarseToFineMovementPolicy(View(), (1, 1, 2), 2.0, 2, within=within)
        policy.reset_state((0, 0, 0))
        next(policy)
        policy.update(peaks, (0, 0, 0))
        assert next(policy) == farthest


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_with_equal_moves_it_is_the_other_policy(seed):
    """Large moves as long as the small ones leave the small ones nothing to do."""

    def positions(policy):
        random = np.random.default_rng(seed)
        policy.reset_state((0, 0, 0))
        visited = []
        for position in policy:
            visited.append(position)
            policy.update(random.normal(size=(5, 7, 9)).astype(np.float32), position)
            if len(visited) == 40:
                break
        return visited

    plain = FaceMaxMovementPolicy(View(), (1, 2, 3), 1.0)
    assert positions(CoarseToFineMovementPolicy(View(), (1, 2, 3), 1.0, 1, 0)) == positions(plain)


def test_what_comes_next_is_told_without_a_look_at_what_is_done():
    """Small moves that are as large as large ones are all done by these."""
    policy = CoarseToFineMovementPolicy(View(), (1, 2, 2), 2.0, coarse=1)
    policy.reset_state((0, 0, 0))
    logits = np.full((5, 7, 9), -1, np.float32)
    logits[2, 3] = 3  # a neurite along x, in both directions
    for steps, position in enumerate(policy):
        if steps == 200:
            break
        policy.update(logits, position)
        assert list(policy.pending())[-1][:2] == (0, 0)
    state = policy.get_state()
    assert max(len(state[kind]['queue']) for kind in ('large', 'small')) < 10


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (
            '{"coarse": 0.5}',
            'coarse is 0.5, min_unvisited 0.05 and within 0.833.*; expected 1 or more',
        ),
        ('{"within": 2}', 'within 2; expected'),
        ('{"min_unvisited": 5}', 'min_unvisited 5 and'),
        ('{"coarse": 1e999}', 'movement_policy_args holds 1e999, which is no finite number'),
        (
            {'coarse': np.inf},
            'do not fit CoarseToFineMovementPolicy: cannot convert float infinity',
        ),
        ('{"coarse": "big"}', 'do not fit CoarseToFineMovementPolicy'),
    ],
)
def test_arguments_of_the_coarse_moves(args, message):
    make_policy(View(), 'CoarseToFineMovementPolicy', '{"coarse": 2}', (1, 1, 1), 0, (2, 3, 4))
    with pytest.raises(UserError, match=message):
        make_policy(View(), 'CoarseToFineMovementPolicy', args, (1, 1, 1), 0, (2, 3, 4))


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
        (
            '',
            '{"score_threshold": NaN}',
            'movement_policy_args holds NaN, which is no finite number',
        ),
        ('', '{"score_threshold": "nan"}', 'score_threshold is nan; expected a logit'),
        ('', '{"score_threshold": Infinity}', 'score_threshold is inf; expected a logit'),
        ('', f'{{"score_threshold": 1{"0" * 400}}}', 'do not fit FaceMaxMovementPolicy'),
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


class ConstantNetwork:
    """Answers with one logit everywhere."""

    def __init__(self, answer):
        self._answer = np.float32(answer)

    def predict(self, image, seed):
        return np.full(image.shape, self._answer)


@pytest.mark.parametrize('probability', [0.6, 0.7, 0.8, 0.9, 0.95])
def test_the_field_of_view_moves_to_voxels_at_the_threshold(probability):
    """Whatever compares them, in float32 or float64; the seed itself is one."""
    at = logit(probability)
    canvas = oracle_canvas(
        np.ones((9, 13, 17)), ConstantNetwork(at), init_activation=at, move_threshold=at
    )
    assert canvas.segment_at((4, 6, 8)) > 1
