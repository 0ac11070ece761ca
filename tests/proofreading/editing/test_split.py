"""Splits: the parts are a partition, each point is on its side, and a merge restores the object."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.proofreading.editing import cut_masks
from ffn.proofreading.editing.cut_masks import CutLabels, PartMask, load_mask, save_mask
from ffn.proofreading.editing.cut_segment import cut_segment
from ffn.proofreading.editing.edits import Cut
from ffn.proofreading.editing.merge_table import ScoredPair
from ffn.proofreading.editing.objects import neighbours_of, replay
from ffn.proofreading.editing.split import SplitInput, split_object
from ffn.proofreading.editing.supervoxel_cut import divide_segments
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import Volume
from tests.proofreading.samples import edit, merge, number

SHAPE = (24, 30, 70)


def dumbbell():
    """Two balls of different size along x, joined by a thin neck at x = 25 to 40."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    first = (z - 11) ** 2 + (y - 14) ** 2 + (x - 15) ** 2 <= 100
    second = (z - 11) ** 2 + (y - 14) ** 2 + (x - 50) ** 2 <= 121
    neck = ((z - 11) ** 2 + (y - 14) ** 2 <= 4) & (x >= 15) & (x <= 50)
    return first | second | neck


def test_a_cut_goes_through_the_neck_wherever_the_points_are():
    segment = dumbbell()
    middle, left, right = (11, 14, 15), (2, 14, 15), (11, 14, 60)  # in the middle, at surfaces
    for first, second in ((middle, right), (left, right), (left, (1, 14, 50))):
        sides = cut_segment(segment, ([first], [second]))
        assert (sides[:, :, :24][segment[:, :, :24]] == 1).all()
        assert (sides[:, :, 42:][segment[:, :, 42:]] == 2).all()


def test_without_a_narrow_place_voxels_go_to_the_nearest_point():
    segment = np.ones((9, 11, 40), bool)
    sides = cut_segment(segment, ([(4, 5, 5)], [(4, 5, 34)]))
    assert (sides[4, 5, :19] == 1).all()
    assert (sides[4, 5, 21:] == 2).all()


def test_what_lies_far_away_goes_with_what_it_is_connected_to():
    segment = np.zeros((5, 9, 400), bool)
    segment[2, 4] = True
    segment[2, 2, 330:] = segment[2, 3, 399] = True  # goes back beside itself
    segment[4, 8, 0] = True  # apart
    sides = cut_segment(segment, ([(2, 4, 190)], [(2, 4, 210)]))
    assert (sides[2, 4, :199] == 1).all()
    assert (sides[2, 4, 202:] == 2).all()
    assert (sides[2, 2, 330:] == 2).all()
    assert sides[4, 8, 0] == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3))
def test_cuts_are_partitions_with_the_points_on_their_sides(seed, first, second):
    rng = np.random.default_rng(seed)
    segment = rng.random((7, 11, 13)) < rng.uniform(0.2, 1)
    segment[3, 4, 2:9] = True
    places = np.argwhere(segment)
    chosen = [tuple(p) for p in rng.permutation(places)[: first + second].tolist()]
    sides = cut_segment(segment, (chosen[:first], chosen[first:]), (30, 8, 9))
    assert ((sides > 0) == segment).all()
    assert sides.max() <= 2
    assert all(sides[p] == 1 for p in chosen[:first])
    assert all(sides[p] == 2 for p in chosen[first:])


@pytest.mark.parametrize(
    ('points', 'words'),
    [
        (([(0, 0, 0)], [(1, 1, 1)]), 'not in the segment'),
        (([(1, 1, 1)], [(9, 1, 1)]), 'outside of the box'),
        (([(1, 1, 1)], [(1, 1, 1)]), 'both'),
        (([(1, 1, 1)], []), 'both sides'),
    ],
)
def test_points_that_cannot_be(points, words):
    segment = np.ones((3, 4, 5), bool)
    segment[0, 0, 0] = False
    with pytest.raises(UserError, match=words):
        cut_segment(segment, points)


# Supervoxels.


def test_the_weakest_edges_are_cut():
    edges = {(1, 2): 0.9, (2, 3): 0.2, (3, 4): 0.8, (2, 4): 0.1, (9, 1): 1.0}
    assert divide_segments([1, 2, 3, 4], edges, ([1], [4])) == ((1, 2), (3, 4))
    assert divide_segments([1, 2, 3, 4], {**edges, (2, 4): 0.7}, ([1], [4])) == ((1,), (2, 3, 4))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_divisions_are_the_least_of_all(data):
    ids = data.draw(st.lists(st.integers(1, 2**64 - 2), min_size=2, max_size=7, unique=True))
    strengths = st.sampled_from([0.01, 0.2, 0.5, 0.9, 1.0])
    edges = {}
    for i in range(1, len(ids)):  # a tree, and some more
        edges[tuple(sorted((ids[i], ids[data.draw(st.integers(0, i - 1))])))] = data.draw(strengths)
    for _ in range(data.draw(st.integers(0, 6))):
        pair = tuple(sorted(data.draw(st.permutations(ids))[:2]))
        edges[pair] = data.draw(strengths)
    first, second = divide_segments(ids, edges, ([ids[0]], [ids[-1]]))
    assert sorted(first + second) == sorted(ids)
    assert ids[0] in first
    assert ids[-1] in second

    def cost(part):
        return sum(round(1e4 * s) for (a, b), s in edges.items() if (a in part) != (b in part))

    others = [i for i in ids if i not in (ids[0], ids[-1])]
    least = min(
        cost({ids[0], *(o for k, o in enumerate(others) if which >> k & 1)})
        for which in range(2 ** len(others))
    )
    assert cost(set(first)) == least


# Objects in a volume.


class Sample:
    """Three segments in a row, 10 a dumbbell, 20 and 30 to its right, all one object; and 40 elsewhere."""

    def __init__(self, folder, strengths=(0.9, 0.3)):
        self.labels = np.zeros((*SHAPE[:2], 120), np.uint64)
        self.labels[:, :, : SHAPE[2]][dumbbell()] = 10
        self.labels[10:13, 13:16, 62:90] = 20
        self.labels[10:13, 13:16, 90:118] = 30
        self.labels[0, 0, 100] = 40
        self.folder = folder
        self.evidence = {
            (10, 20): ScoredPair(10, 20, 0.0, Xyz(61, 14, 11), True, strengths[0]),
            (20, 30): ScoredPair(20, 30, 0.0, Xyz(89, 14, 11), True, strengths[1]),
        }
        self.edits = []

    @property
    def objects(self):
        return replay(neighbours_of(self.evidence), self.edits)

    def split(self, first, second, **more):
        given = SplitInput(
            Volume('labels', self.labels, {}), self.folder, self.objects, self.evidence, **more
        )
        n = len(self.edits) + 1
        found = split_object(given, (first, second), number(n))
        self.edits.append(edit(n, found))
        return found

    def now(self):
        """The labels of objects, as they are after the edits."""
        volume = Volume('labels', self.labels, {})
        labels = CutLabels(self.folder, tuple(self.objects.cuts)).read(volume, volume.box)
        for segment in np.unique(labels[labels > 0]).tolist():
            labels[labels == segment] = self.objects.object_of(segment)
        return labels


LEFT, RIGHT = Xyz(12, 14, 11), Xyz(50, 14, 11)
IN_20, IN_30 = Xyz(70, 14, 11), Xyz(110, 14, 11)


def test_between_segments_the_graph_decides(tmp_path):
    sample = Sample(tmp_path)
    found = sample.split([LEFT], [IN_30])
    assert found.parts == ((10, 20), (30,))
    assert found.method == 'segments'
    assert not found.cuts
    assert Sample(tmp_path, (0.2, 0.3)).split([LEFT], [IN_30]).parts == ((10,), (20, 30))


def test_within_a_segment_voxels_are_cut_and_neighbours_go_to_the_nearer_part(tmp_path):
    sample = Sample(tmp_path)
    found = sample.split([LEFT], [RIGHT])
    (cut,) = found.cuts
    assert found.parts == ((10,), (20, 30, cut.new))
    assert found.method == 'segments and voxels'
    now = sample.now()
    assert (now[11, 14, [12, 20]] == 10).all()
    assert len(set(now[11, 14, [50, 70, 110]].tolist())) == 1
    assert now[11, 14, 70] != 10
    assert ((now > 0) == (sample.labels > 0)).all()
    # The part can be cut again, and all of it can be restored.
    again = sample.split([RIGHT], [Xyz(60, 14, 11)])
    assert again.cuts[0].of == cut.new
    assert (sample.now() > 0).sum() == (sample.labels > 0).sum()
    for part in (cut.new, again.cuts[0].new):
        sample.edits.append(edit(len(sample.edits) + 1, merge(10, part)))
    expected = np.where(np.isin(sample.labels, [10, 20, 30]), 10, sample.labels)
    np.testing.assert_array_equal(sample.now(), expected)


def test_a_segment_is_found_wherever_it_extends(tmp_path):
    sample = Sample(tmp_path)
    sample.labels = np.zeros((5, 7, 700), np.uint64)
    sample.labels[2, 3] = 10
    sample.evidence = {}
    sample.split([Xyz(340, 3, 2)], [Xyz(350, 3, 2)])
    now = sample.now()[2, 3]
    assert (now[:344] == 10).all()
    assert len(set(now[347:].tolist())) == 1
    assert now[699] != 10
    with pytest.raises(UserError, match=r'too large to cut: its box has more than 5,000 voxels'):
        Sample.split(sample, [Xyz(5, 3, 2)], [Xyz(40, 3, 2)], max_voxels=5000)


@pytest.mark.parametrize(
    ('first', 'second', 'words'),
    [
        ([LEFT], [], 'a point on either side'),
        ([LEFT], [Xyz(0, 0, 0)], 'no segment at x,y,z 0,0,0'),
        ([LEFT], [Xyz(100, 0, 0)], r'different objects: .* is in 10, .* in 40'),
        ([LEFT], [Xyz(500, 0, 0)], 'outside of labels'),
    ],
)
def test_points_that_split_nothing(tmp_path, first, second, words):
    with pytest.raises(UserError, match=words):
        Sample(tmp_path).split(first, second)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_splits_of_random_objects(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    sample = Sample(tmp_path_factory.mktemp('random'), rng.random(2).tolist())
    inside = np.argwhere(np.isin(sample.labels, [10, 20, 30]))
    points = [Xyz(*p[::-1].tolist()) for p in rng.permutation(inside)[:4]]
    found = sample.split(points[:2], points[2:])
    assert not sample.objects.problems
    now = sample.now()
    of = [{int(now[p.zyx]) for p in side} for side in (points[:2], points[2:])]
    assert [len(side) for side in of] == [1, 1]
    assert of[0] != of[1]
    changed = np.isin(sample.labels, [10, 20, 30])
    assert set(np.unique(now[changed]).tolist()) == of[0] | of[1]
    assert (now[~changed] == sample.labels[~changed]).all()
    sample.edits.append(edit(2, merge(found.parts[0][0], found.parts[1][0])))
    assert set(np.unique(sample.now()[changed]).tolist()) == {10}


# Masks.


def test_masks_are_checked_when_they_are_read(tmp_path):
    rng = np.random.default_rng(1)
    mask = PartMask.of(Box(Xyz(3, -4, 5), Xyz(5, 6, 7)), rng.random((7, 6, 5)) < 0.5)
    name = save_mask(tmp_path, mask)
    found = load_mask(tmp_path / name)
    assert found.box == mask.box
    np.testing.assert_array_equal(found.voxels, mask.voxels)
    other = tmp_path / ('0' * 32 + '.npz')
    other.write_bytes((tmp_path / name).read_bytes())
    with pytest.raises(UserError, match='does not fit its name'):
        load_mask(other)
    with pytest.raises(UserError, match='no such file'):
        load_mask(tmp_path / 'none.npz')


def test_parts_of_masks_are_read_from_bits():
    """Whatever part of a byte a section begins with."""
    rng = np.random.default_rng(3)
    for size in (Xyz(5, 3, 7), Xyz(8, 2, 4), Xyz(1, 1, 9), Xyz(13, 11, 1)):
        voxels, start = rng.random(size.zyx) < 0.5, Xyz(-3, 40, 7)
        mask = PartMask.of(Box(start, size), voxels)
        assert mask.bytes() == -(-voxels.size // 8)
        for _ in range(20):
            begin = Xyz(*(int(rng.integers(n)) for n in size))
            part = Box(begin, Xyz(*(int(rng.integers(n - a)) + 1 for n, a in zip(size, begin))))
            found = mask.within(Box(Xyz(*map(sum, zip(start, begin))), part.size))
            np.testing.assert_array_equal(found, voxels[part.slices_zyx])


def test_cuts_apply_to_their_segment_only(tmp_path):
    labels = np.ones((4, 5, 6), np.int64)
    labels[:, :, 3:] = 2
    labels[0, 0, 0] = -1
    name = save_mask(
        tmp_path, PartMask.of(Box(Xyz(1, 1, 1), Xyz(4, 4, 3)), np.ones((3, 4, 4), bool))
    )
    cuts = CutLabels(tmp_path, (Cut(2, 50, name), Cut(50, 60, name)))
    volume = Volume('labels', labels, {}).require_labels()
    expected = np.where(labels < 0, 0, labels).astype(np.uint64)
    expected[1:, 1:, 3:5] = 60
    np.testing.assert_array_equal(cuts.read(volume, volume.box), expected)
    part = Box(Xyz(4, 2, 0), Xyz(2, 2, 3))
    np.testing.assert_array_equal(cuts.read(volume, part), expected[part.slices_zyx])
    assert cuts.at(volume, Xyz(4, 1, 1)) == 60
    whole = cuts.applied_to(volume)
    assert (whole.box, whole.dtype) == (volume.box, np.uint64)
    np.testing.assert_array_equal(whole.read(part), expected[part.slices_zyx])


def test_cuts_elsewhere_are_not_read_again(tmp_path, monkeypatch):
    """However many there are; they are not all kept in memory."""
    labels = np.full((4, 5, 700), 2)
    names = [
        save_mask(
            tmp_path, PartMask.of(Box(Xyz(2 * n, 1, 1), Xyz(1, 2, 3)), np.ones((3, 2, 1), bool))
        )
        for n in range(300)
    ]
    cuts = CutLabels(tmp_path, tuple(Cut(2, 50 + n, name) for n, name in enumerate(names)))
    volume = Volume('labels', labels, {'ffn_made_from': 'x'})
    assert cuts.at(volume, Xyz(598, 1, 1)) == 349
    monkeypatch.setattr(cut_masks, 'read_npz', None)
    assert cuts.at(volume, Xyz(598, 2, 1)) == 349
    assert cuts.at(volume, Xyz(650, 1, 1)) == 2
    again = CutLabels(tmp_path, cuts.cuts)
    found = again.read(volume, Box(Xyz(590, 0, 0), Xyz(20, 5, 4)))
    assert np.unique(found).tolist() == [2, 345, 346, 347, 348, 349]
