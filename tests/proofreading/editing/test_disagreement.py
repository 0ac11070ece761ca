"""Other segmentations of the same volume: where they differ, how much that matters, and `ffn queue --others`."""

import csv

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ffn.cli import queue
from ffn.evaluation.contingency import Contingency
from ffn.evaluation.voi import voi_score
from ffn.inference.storage import save_result
from ffn.proofreading.editing.cut_masks import PartMask, masks_folder, save_mask
from ffn.proofreading.editing.disagreement import agreement, find_mergers, find_splits
from ffn.proofreading.editing.edits import Cut, part_id
from ffn.proofreading.editing.journal import open_journal
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.proofreading.editing.queue import Change
from ffn.proofreading.editing.queue_table import read_queue
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.volumes.volume import open_volume
from tests.proofreading.samples import done, number, split, undo

BIG = 2**63 + 11
SHAPE = (12, 20, 34)
BODIES = (slice(2, 6), slice(8, 12), slice(14, 18))  # along y


def volume(*ids):
    """Three bodies along x, each of two halves with the given ids."""
    labels = np.zeros(SHAPE, np.uint64)
    for body, (left, right) in zip(BODIES, zip(ids[::2], ids[1::2], strict=True), strict=True):
        labels[1:11, body, 2:12], labels[1:11, body, 12:32] = left, right
    return labels


LABELS = volume(1, BIG, 3, 3, 5, 5)
HALF, REST = 10 * 4 * 10, 10 * 4 * 20


def tables(*others):
    found = []
    for other in others:
        table = Contingency.of(other, LABELS)
        found.append(table.rows(table.where('either')))
    return found


def test_what_others_hold_together():
    (one,) = find_splits(tables(volume(7, 7, 3, 3, 5, 5), LABELS), {1: HALF, BIG: REST})
    assert one.ids == (1, BIG)
    assert (one.sizes, one.probability, one.votes, one.others) == ((HALF, REST), 0.5, 1, 2)
    # Where the smaller one meets the other.
    assert one.point.x == 11
    assert LABELS[one.point.zyx] == 1


def test_those_that_do_not_show_an_object_do_not_count():
    (one,) = find_splits(tables(volume(7, 7, 3, 3, 5, 5), volume(1, 0, 3, 3, 5, 5)), {})
    assert (one.probability, one.votes, one.others) == (1, 1, 1)


def test_what_others_have_in_pieces():
    (one,) = find_mergers(tables(volume(1, BIG, 8, 9, 5, 5), volume(1, BIG, 3, 4, 5, 5)))
    assert one.ids == (3,)
    assert (one.sizes, one.probability, one.votes) == ((HALF, REST), 1, 2)
    assert one.point.x == 11


def test_a_part_of_an_object_of_another_one_says_little():
    """What is in one with 1 in the other segmentation is a third of it; the rest of 3 is not."""
    (one,) = find_splits(tables(volume(7, BIG, 7, 3, 5, 5)), {1: HALF, 3: HALF + REST})
    assert one.ids == (1, 3)
    assert one.probability == pytest.approx(1 / 3)


def test_a_speck_of_an_object_is_no_opinion_about_it():
    speck = np.zeros(SHAPE, np.uint64)
    speck[4:8, 3:5, 10:14] = 7  # across the border of 1 and BIG
    voxels = {1: HALF, BIG: REST}
    assert not find_splits(tables(speck), voxels)
    # It does not thin out what one says that shows them.
    (one,) = find_splits(tables(speck, volume(7, 7, 3, 3, 5, 5)), voxels)
    assert (one.probability, one.votes, one.others) == (1, 1, 1)
    speck[4:6, BODIES[1], 4:6], speck[4:6, BODIES[1], 6:8] = 8, 9
    assert not find_mergers(tables(speck))
    assert agreement(tables(speck)) == {}
    # An object that is shown for the greater part; what is not of it counts as well.
    part = volume(7, 7, 3, 3, 5, 5)
    part[1:5, BODIES[1]] = 0
    part[11, BODIES[1], 12:32] = 3
    whole = HALF + REST
    beside, missing = 4 * 20, 4 * 4 * 30
    found = agreement(tables(part))
    assert found[3] == pytest.approx((whole - missing) / (whole + beside))


def test_what_an_object_of_another_one_has_in_objects_that_it_does_not_show_counts():
    part = volume(1, BIG, 8, 9, 8, 0)  # of 5, only the smaller third, as part of 8
    (one,) = find_mergers(tables(part))
    assert (one.ids, one.probability) == ((3,), 0.5)


def test_agreement_is_that_with_the_most_similar_object():
    found = agreement(tables(volume(7, 7, 3, 3, 0, 0), LABELS))
    assert found == pytest.approx({1: (1 / 3 + 1) / 2, BIG: (2 / 3 + 1) / 2, 3: 1, 5: 1})


small = hnp.arrays(np.uint8, (2, 3, 7), elements=st.integers(0, 3))


@settings(deadline=None, max_examples=60)
@given(small, small)
def test_doubts_are_symmetrical_and_none_is_about_nothing(labels, other):
    table = Contingency.of(other, labels)
    table = table.rows(table.where('either'))
    sizes = {i: int(np.count_nonzero(labels == i)) for i in (1, 2, 3)}
    for one in find_splits([table], sizes):
        a, b = one.ids
        assert a < b
        assert 0.05 <= one.probability <= 1
        # Some object of the other segmentation is in both.
        assert np.intersect1d(other[(labels == a) & (other > 0)], other[labels == b]).size
        assert labels[one.point.zyx] in (a, b)
    for one in find_mergers([table]):
        assert labels[one.point.zyx] == one.ids[0]
        assert len(np.unique(other[(labels == one.ids[0]) & (other > 0)])) > 1
    assert not find_splits([Contingency.of(labels, labels)], sizes)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 5))
def test_changes_are_those_of_the_scores(a, b, rest):
    truth = np.array([[[1] * (a + b) + [2] * rest]])
    apart = np.array([[[1] * a + [2] * b + [3] * rest]])
    bits = voi_score(truth, apart).total - voi_score(truth, truth).total
    assert Change('voi', truth.size)(a, b) == pytest.approx(bits)
    length = [np.mean([np.sum(found == i) for i in found.flat]) for found in (truth, apart)]
    assert Change('run_length', truth.size)(a, b) == pytest.approx(length[0] - length[1])
    assert Change('voxels', truth.size)(a, b) == min(a, b)
    assert Change('voi', truth.size)(0, b) == 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A segmentation, and two others, of which one covers a part."""
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'] = LABELS
        file['labels'].attrs['resolution'] = (30.0, 9.0, 8.0)
        file['one'], file['two'] = volume(7, 7, 3, 3, 5, 6), volume(8, 8, 3, 3, 5, 5)
        file['two'][0:6] = 0
    monkeypatch.chdir(tmp_path)
    return tmp_path


CALL = ('--labels', 'v.h5:labels', '--output', 'q.csv', '--quiet', '--orphan_voxels', '0')
OTHERS = (*CALL, '--others', 'v.h5:one,v.h5:two')


def test_the_command(folder, capsys):
    queue.main([*OTHERS, '--objects', 'o.csv', '--disagreement', 'precomputed://doubt'])
    assert '2 places in q.csv (1 split, 1 merger)' in capsys.readouterr().out
    found = {one.item.key: one for one in read_queue('q.csv')}
    assert set(found) == {f'split:1-{BIG}', 'merger:5'}
    assert found[f'split:1-{BIG}'].priority == HALF
    assert found[f'split:1-{BIG}'].reason == 'together in 2 of 2 others, 400 and 800 voxels'
    assert found['merger:5'].priority == HALF / 2
    with open('o.csv', newline='') as file:
        rows = {int(row['id']): row for row in csv.DictReader(file)}
    # Half of each is empty in the second one.
    assert rows[3]['agreement'] == '0.7500'
    assert rows[5]['agreement'] == f'{(2 / 3 + 1 / 2) / 2:.4f}'
    assert rows[1]['voxels'] == str(HALF)
    assert rows[1]['margin'] == ''
    with open_volume('precomputed://doubt') as doubt:
        assert doubt.voxel_size.xyz == (8, 9, 30)
        values = doubt.read(doubt.box)
    # 1 is the smaller half of what others have, and so has none of its own there; two begins at z = 6.
    assert np.unique(values[6:][LABELS[6:] == 1]).tolist() == [100]
    assert np.unique(values[:6][LABELS[:6] == 1]).tolist() == [50]
    assert np.unique(values[:, BODIES[2], 2:12][LABELS[:, BODIES[2], 2:12] == 5]).tolist() == [50]
    assert not values[(LABELS == 3) | (LABELS == BIG) | (LABELS == 0)].any()


def test_joined_objects_are_compared_as_what_they_are(folder):
    (folder / 'm.csv').write_text(
        f'id_a,id_b,distance,x,y,z,accepted,iou\n1,{BIG},0,12,4,9,1,0.99\n3,5,2,9,12,9,1,0.9\n'
    )
    queue.main([*OTHERS, '--merges', 'm.csv', '--min_doubt', '0.3', '--objects', 'o.csv'])
    found = {one.item.key: one for one in read_queue('q.csv')}
    # 3 and 5 were joined, unlike in both of the others.
    assert set(found) == {'merger:3'}
    assert LABELS[found['merger:3'].item.point.zyx] in (3, 5)
    with open('o.csv', newline='') as file:
        rows = {int(row['id']): row for row in csv.DictReader(file)}
    assert set(rows) == {1, 3}
    assert rows[3]['margin'] == '0.8000'


@pytest.mark.parametrize('other', ['other.h5:one', 'results'])
def test_another_segmentation_that_is_made_anew(folder, other):
    """Only a border moves: the largest of what it shares with each object stays the same."""

    def write(labels):
        if other == 'results':
            save_result(other, (0, 0, 0), labels, {}, b'', {}, {})
        else:
            with h5py.File('other.h5', 'w') as file:
                file['one'] = labels

    base, call = volume(1, 9, 3, 3, 5, 5), [*CALL, '--others', other]
    for x in (slice(12, 15), slice(13, 16)):
        labels = base.copy()
        labels[1:11, BODIES[0], x] = 1
        write(labels)
        queue.main([*call, '--disagreement', 'precomputed://doubt'])
        with open_volume('precomputed://doubt') as doubt:
            differs = doubt.read(doubt.box) > 0
        np.testing.assert_array_equal(differs, (labels == 1) & (LABELS == BIG))


def test_parts_that_were_cut_off_are_objects(folder):
    """3 is cut in two where others have it otherwise."""
    mask = np.zeros(SHAPE, bool)
    mask[1:11, BODIES[1], 12:32] = True
    part = part_id(number(1), 0)
    name = save_mask(masks_folder('j.jsonl'), PartMask.of(Box.of_shape(SHAPE), mask))
    with open_journal('j.jsonl', ProofreadVolume('v.h5:labels').base) as journal:
        journal.add(split([3], [part], [Cut(3, part, name)]), number(1))
        journal.add(done(5))
    objects = ('--objects', 'o.csv', '--disagreement', 'precomputed://doubt')
    call = [*CALL, '--edits', 'j.jsonl', '--others', 'v.h5:one', *objects]
    call[call.index('0')] = '500'
    for cut, sizes, agreements in (
        (True, {3: HALF, part: REST}, {3: 1 / 3, part: 2 / 3}),
        (False, {3: HALF + REST}, {3: 1}),
    ):
        if not cut:
            with open_journal('j.jsonl', ProofreadVolume('v.h5:labels').base) as journal:
                journal.add(undo(1))
        queue.main(call)
        with open('o.csv', newline='') as file:
            rows = {int(row['id']): row for row in csv.DictReader(file)}
        assert {i: int(row['voxels']) for i, row in rows.items()} == {
            **sizes,
            1: HALF,
            BIG: REST,
            5: HALF + REST,
        }
        assert {i: float(rows[i]['agreement']) for i in sizes} == pytest.approx(
            agreements, abs=1e-3
        )
        for i in sizes:
            at = [int(rows[i][axis]) for axis in 'zyx']
            assert mask[tuple(at)] == (i == part)
        found = {one.item.key for one in read_queue('q.csv')}
        # What a person has cut is not shown as pieces of one object.
        assert found == {f'split:1-{BIG}', 'orphan:1'} | ({'orphan:3'} if cut else set())
        with open_volume('precomputed://doubt') as doubt:
            differs = doubt.read(doubt.box) > 0
        assert differs[1:11, BODIES[1], 2:12].all() == cut


@pytest.mark.parametrize('rank', ['voi', 'run_length'])
def test_other_orders(folder, rank):
    queue.main([*OTHERS, '--rank_by', rank])
    found = {one.item.kind: one.priority for one in read_queue('q.csv')}
    change = Change(rank, np.count_nonzero(LABELS))
    assert found['split'] == pytest.approx(change(HALF, REST), rel=1e-4)
    assert found['merger'] == pytest.approx(change(HALF, REST) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ([*CALL, '--disagreement', 'd.h5:d'], '--disagreement needs --others'),
        ([*CALL, '--others', 'v.h5:none'], 'none'),
        ([*OTHERS, '--disagreement', 'v.h5:labels'], 'exists and does not belong to this run'),
    ],
)
def test_what_is_refused(folder, arguments, words):
    with pytest.raises(UserError, match=words):
        queue.main(arguments)
