"""Walks over examples: the moves of every policy, batches, and states that can be resumed."""

import dataclasses
import gc
import itertools
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffn.models.info import ModelInfo
from ffn.training.config import WalkConfig
from ffn.training.input.example import Example
from ffn.training.walks.movement import neighbors, shell_window
from ffn.training.walks.walk import BatchWalker, Walk
from ffn.utils.geometry import Xyz
from ffn.utils.logits import logit

FOV, DELTAS = Xyz(11, 9, 7), Xyz(4, 3, 2)
INFO = ModelInfo(DELTAS, FOV, FOV, FOV)
HIGH, LOW = logit(0.97), logit(0.03)


def example(config: WalkConfig, inside=None, volume='v', seed=0) -> Example:
    """A patch of the size that is needed; everything is inside the object unless said otherwise."""
    shape = config.patch_size(INFO)
    inside = np.ones(shape, bool) if inside is None else inside(np.indices(shape))
    soft = np.where(inside, np.float32(0.95), np.float32(0.05))
    image = np.arange(soft.size, dtype=np.float32).reshape(shape)
    return Example(image, soft, np.ones(shape, np.float32), Xyz(1, 2, 3), volume, walk_seed=(seed,))


def walk(config: WalkConfig, seed: int = 0, **kwargs) -> Walk:
    return Walk(example(config, seed=seed, **kwargs), INFO, config)


def offsets(path: Walk, answer=lambda path: HIGH) -> list:
    """Where the walk goes when the network answers so."""
    seen = [path.position]
    while path.advance(np.full(FOV.zyx, answer(path), np.float32)):
        seen.append(path.position)
    return seen


def test_the_canvas_begins_with_the_seed_alone():
    config = WalkConfig(seed_pad=0.1)
    canvas = walk(config).canvas
    assert canvas.dtype == np.float32
    assert canvas.shape == (7 + 4, 9 + 6, 11 + 8)
    assert canvas[5, 7, 9] == np.float32(logit(0.95))
    canvas[5, 7, 9] = logit(0.1)
    assert (canvas == np.float32(logit(0.1))).all()


def test_fixed_goes_to_the_centre_and_then_to_all_26_neighbours():
    steps = offsets(walk(WalkConfig()))
    assert steps[0] == (0, 0, 0)
    assert sorted(steps) == sorted(itertools.product((-2, 0, 2), (-3, 0, 3), (-4, 0, 4)))


def test_order_is_shuffled_if_wanted_and_depends_on_the_generator():
    shuffled = [offsets(walk(WalkConfig(), seed)) for seed in (0, 0, 1)]
    assert shuffled[0] == shuffled[1] != shuffled[2]
    plain = [offsets(walk(WalkConfig(shuffle_moves=False), seed)) for seed in (0, 1)]
    assert plain[0] == plain[1] == [(0, 0, 0), *neighbors(DELTAS.zyx)]


def test_axes_with_delta_0_have_no_neighbours():
    assert sorted(neighbors((0, 3, 0))) == [(0, -3, 0), (0, 3, 0)]


def test_fixed_skips_where_the_canvas_is_low_when_its_turn_comes():
    assert offsets(walk(WalkConfig()), lambda path: LOW) == [(0, 0, 0)]
    threshold = logit(0.9)
    assert offsets(walk(WalkConfig()), lambda path: threshold - 0.01) == [(0, 0, 0)]
    assert len(offsets(walk(WalkConfig()), lambda path: np.float32(threshold + 0.01))) == 27
    # The second step wipes out what was there, and all that it reaches is skipped.
    first = iter([HIGH])
    wiped = offsets(walk(WalkConfig(shuffle_moves=False)), lambda path: next(first, LOW))
    assert wiped[:2] == [(0, 0, 0), (-2, -3, -4)]
    assert len(wiped) < 27
    assert (0, 0, 4) not in wiped
    assert (2, 3, 4) in wiped


def test_fixed_goes_where_it_is_not_wanted():
    """What the network must learn not to say is walked to in training."""
    nowhere = walk(WalkConfig(), inside=lambda where: where[0] < 0)
    assert len(offsets(nowhere)) == 27


def test_each_step_sees_what_the_last_ones_wrote():
    path = walk(WalkConfig(shuffle_moves=False))
    path.advance(np.full(FOV.zyx, 5.0, np.float32))
    assert path.position == (-2, -3, -4)
    seen = path.canvas[path.field_of_view()]
    assert seen.shape == FOV.zyx
    assert (seen[2:, 3:, 4:] == 5).all()
    outside = seen.copy()
    outside[2:, 3:, 4:] = np.float32(logit(0.05))
    assert (outside == np.float32(logit(0.05))).all()


def test_no_step_makes_one_step():
    config = WalkConfig('no_step', fov_moves=0)
    assert walk(config).canvas.shape == FOV.zyx
    assert offsets(walk(config)) == [(0, 0, 0)]


def test_max_pred_moves_visits_every_cell_in_reach_once():
    config = WalkConfig('max_pred_moves')
    path = walk(config)
    assert path.canvas.shape == (7 + 8, 9 + 12, 11 + 16)
    answers = itertools.count()
    steps = []
    while True:
        steps.append(path.position)
        # A gradient towards the corners of the faces, so that moves differ from ±delta.
        tilt = np.random.default_rng(next(answers)).normal(HIGH, 0.2, FOV.zyx)
        if not path.advance(tilt.astype(np.float32)):
            break
    assert steps[0] == (0, 0, 0)
    for offset in steps:
        assert all(abs(o) <= reach for o, reach in zip(offset, (4, 6, 8)))
    cells = [tuple((o + d // 2) // d for o, d in zip(s, DELTAS.zyx)) for s in steps]
    assert len(set(cells)) == len(cells) > 27


def test_max_pred_moves_go_to_face_maxima_greatest_first():
    path = walk(WalkConfig('max_pred_moves'))
    logits = np.full(FOV.zyx, LOW, np.float32)
    logits[3 - 2, 4 + 1, 5 - 1] = HIGH  # on the face z−
    logits[3 + 1, 4 + 3, 5 + 2] = HIGH + 1  # on the face y+
    logits[3, 4, 5 + 3] = HIGH + 2  # on no face
    path.advance(logits)
    assert path.position == (1, 3, 2)
    path.advance(np.full(FOV.zyx, HIGH, np.float32))
    assert path.position == (-2, 1, -1)


def test_max_pred_moves_stay_where_the_object_is():
    def upper_half(where):
        return where[0] <= 15 // 2

    steps = offsets(walk(WalkConfig('max_pred_moves'), inside=upper_half))
    assert len(steps) > 9
    assert max(z for z, _, _ in steps) == 0
    nothing = walk(WalkConfig('max_pred_moves'), inside=lambda where: where[0] < 0)
    assert offsets(nothing) == [(0, 0, 0)]


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_moves_reach_objects_whose_label_is_the_threshold(dtype):
    """In float64 as well, in which NumPy 1 compares a scalar with a number of Python."""
    whole = walk(WalkConfig(fov_policy='max_pred_moves', threshold=0.95, fov_moves=1))
    labels = whole.example.labels.astype(dtype)
    whole.example = dataclasses.replace(whole.example, labels=labels)
    whole.canvas = whole.canvas.astype(dtype)
    steps = offsets(whole, lambda path: np.float32(logit(0.95)))
    assert len(steps) == len(offsets(walk(WalkConfig(fov_policy='max_pred_moves')))) > 1


def test_batch_elements_walk_at_their_own_pace():
    config = WalkConfig()
    names = (f'v{i}' for i in itertools.count())
    source = (example(config, volume=name) for name in names)
    walker = BatchWalker(source, INFO, config, 3)
    walker.batch()
    assert walker.volumes() == ['v0', 'v1', 'v2']
    ended = []
    for _ in range(27):
        batch = walker.batch()
        assert all(array.shape == (3, *FOV.zyx, 1) for array in batch)
        assert all(array.dtype == np.float32 for array in batch)
        # The second element never gets beyond its seed.
        answer = np.where(np.arange(3) == 1, LOW, HIGH).astype(np.float32)
        ended.append(
            walker.advance(np.broadcast_to(answer[:, None, None, None, None], batch.seeds.shape))
        )
    assert [len(walks) for walks in ended] == [1] * 26 + [3]
    assert [path.example.volume for path in ended[0]] == ['v1']
    assert [path.example.volume for path in ended[-1]] == ['v0', 'v28', 'v2']


@pytest.mark.parametrize('policy', ['fixed', 'window', 'max_pred_moves', 'no_step'])
def test_image_labels_and_seed_are_cut_at_the_same_place(policy):
    config = WalkConfig(policy)
    walker = BatchWalker(itertools.repeat(example(config)), INFO, config, 1)
    image = example(config).image
    for _ in range(8):
        batch = walker.batch()
        path = walker._walks[0]
        center = [n // 2 + o for n, o in zip(image.shape, path.position)]
        assert batch.images[0, 3, 4, 5, 0] == image[tuple(center)]
        assert batch.seeds[0, 3, 4, 5, 0] == path.canvas[tuple(center)]
        walker.advance(np.full_like(batch.seeds, HIGH))


def test_window_moves_where_one_voxel_of_the_shell_nearby_is_high():
    """On the face z+, beside its middle: enough for the window, not for the neighbour itself."""
    logits = np.full(FOV.zyx, LOW, np.float32)
    logits[3 + 2, 4 + 1, 5 + 1] = HIGH
    assert offsets(walk(WalkConfig()), lambda path: logits) == [(0, 0, 0)]
    path = walk(WalkConfig('window', window_radius=1))
    path.advance(logits)
    assert path.position == (2, 0, 0)
    assert offsets(walk(WalkConfig('window', window_radius=0)), lambda path: logits) == [(0, 0, 0)]
    # Inside of the shell, as near: not enough.
    inside = np.full(FOV.zyx, LOW, np.float32)
    inside[3 + 1, 4, 5] = HIGH
    assert offsets(walk(WalkConfig('window')), lambda path: inside) == [(0, 0, 0)]


@given(st.integers(0, 3), st.sampled_from(neighbors(DELTAS.zyx)))
def test_a_window_is_the_part_of_the_shell_that_is_near(radius, offset):
    window = {tuple(voxel) for voxel in shell_window(offset, DELTAS.zyx, radius).tolist()}
    for voxel in itertools.product(*(range(-d - 1, d + 2) for d in DELTAS.zyx)):
        on_shell = all(abs(v) <= d for v, d in zip(voxel, DELTAS.zyx)) and any(
            abs(v) == d for v, d in zip(voxel, DELTAS.zyx)
        )
        near = all(abs(v - o) <= radius for v, o in zip(voxel, offset))
        assert (voxel in window) == (on_shell and near)


def answers(batch):
    """What some network would say: depends on image and seed, and makes moves."""
    wave = np.sin(batch.images * 0.7 + batch.seeds)
    return (wave * 1.5 + 2).astype(np.float32)


class Source:
    """Examples that differ by their number."""

    def __init__(self, config, position=0):
        self.config, self.position = config, position

    def __next__(self):
        self.position += 1
        return self.load(self.position - 1, Xyz(1, 2, 3), 'v')

    def load(self, number, center, volume):
        made = example(self.config, lambda where: where[0] > number % 5, volume, number)
        return dataclasses.replace(made, number=number, image=made.image + number)


@pytest.mark.parametrize('policy', ['fixed', 'window', 'max_pred_moves', 'no_step'])
@pytest.mark.parametrize('cut', [0, 1, 7, 23])
def test_walks_that_are_cut_in_two_go_on_as_if_they_were_not(policy, cut):
    config = WalkConfig(policy)

    def steps(walker, count):
        seen = []
        for _ in range(count):
            batch = walker.batch()
            seen.append(batch)
            walker.advance(answers(batch))
        return seen

    whole = steps(BatchWalker(Source(config), INFO, config, 3), 40)
    first = Source(config)
    walker = BatchWalker(first, INFO, config, 3)
    parts = steps(walker, cut)
    # As a file has it: copies.
    state = {name: np.array(array) for name, array in walker.get_state().items()}
    again = BatchWalker(Source(config, first.position), INFO, config, 3)
    if cut:
        again.set_state(state)
    parts += steps(again, 40 - cut)
    for one, other in zip(whole, parts, strict=True):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)


def test_walks_of_another_batch_size_or_policy_are_not_taken_up():
    config = WalkConfig('fixed')
    walker = BatchWalker(Source(config), INFO, config, 3)
    walker.advance(answers(walker.batch()))
    state = walker.get_state()
    with pytest.raises(ValueError, match='3 examples, not 2'):
        BatchWalker(Source(config), INFO, config, 2).set_state(state)
    other = WalkConfig('max_pred_moves')
    with pytest.raises((KeyError, ValueError)):
        BatchWalker(Source(other), INFO, other, 3).set_state(state)


@pytest.mark.parametrize('policy', ['fixed', 'window', 'max_pred_moves', 'no_step'])
def test_a_finished_walk_is_freed_at_once(policy):
    """Patches are large, and the garbage collector counts objects, not bytes."""
    path = walk(WalkConfig(policy))
    offsets(path)
    gone = weakref.ref(path)
    gc.disable()
    try:
        del path
        assert gone() is None
    finally:
        gc.enable()
