"""Pairs that a person has judged: tables of them, and what contradicts what."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.agglomeration.examples import Example, read_examples, resolve_examples, write_examples
from ffn.proofreading.editing.merge_table import read_merge_table
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz

BIG = 2**63 + 11


def test_what_is_written_is_read(tmp_path):
    examples = [Example(3, BIG, Xyz(5, -2, 9), 1, 'merge'), Example(3, 7, Xyz(0, 0, 0), 0, 'split')]
    write_examples(tmp_path / 'x.csv', examples, 'abc')
    assert read_examples(tmp_path / 'x.csv', 'abc') == [((3, BIG), True), ((3, 7), False)]
    # A copy without a stamp cannot be told from another.
    assert len(read_examples(tmp_path / 'x.csv', '')) == 2
    with pytest.raises(
        UserError, match=r'about another segmentation \(made from abc, .* from abd\)'
    ):
        read_examples(tmp_path / 'x.csv', 'abd')


def test_a_table_by_hand_needs_three_columns(tmp_path):
    (tmp_path / 'x.csv').write_text('label,id_b,note,id_a\n0,2,touching only,9\n')
    assert read_examples(tmp_path / 'x.csv', 'abc') == [((2, 9), False)]
    # As spreadsheets save it.
    (tmp_path / 'x.csv').write_text('id_a,id_b,label\n2,9,1\n', encoding='utf-8-sig')
    assert read_examples(tmp_path / 'x.csv', 'abc') == [((2, 9), True)]
    (tmp_path / 'e.csv').write_text('id,joined_id\n2,2\n9,2\n', encoding='utf-8-sig')
    assert read_merge_table(tmp_path / 'e.csv').joined == [(9, 2)]


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (
            'id,joined_id\n1,1\n',
            r"has the columns 'id,joined_id'; expected a table of ffn apply-edits",
        ),
        ('', 'has the columns'),
        ('id_a,id_b,label\n1,2,yes\n', r"line 2: its label is 'yes'; expected 0 or 1"),
        ('id_a,id_b,label\n1,2,1\n1,1,1\n', 'line 3: 1 and 1 are no two ids'),
        ('id_a,id_b,label\n-1,2,1\n', 'line 2: -1 and 2 are no two ids'),
        ('id_a,id_b,label\n1,2\n', 'line 2: its label is None'),
        ('id_a,id_b,label\n1,b,1\n', 'line 2: invalid literal'),
    ],
)
def test_other_tables(tmp_path, text, words):
    (tmp_path / 'x.csv').write_text(text)
    with pytest.raises(UserError, match=words):
        read_examples(tmp_path / 'x.csv', '')


def resolve(examples, owners=None):
    """Pairs that are left → whether they are one object; and those that are left out."""
    found = resolve_examples(examples, owners)
    return {pair: a == b for pair, (a, b) in found.objects.items()}, found.contradictory


def test_two_people_contradict_each_other():
    kept, contradictory = resolve([((1, 2), True), ((1, 2), False), ((2, 3), True)])
    assert kept == {(2, 3): True}
    assert contradictory == [(1, 2)]


def test_apart_and_yet_one_through_others():
    kept, contradictory = resolve([((1, 2), True), ((2, 3), True), ((1, 3), False)])
    assert kept == {(1, 2): True, (2, 3): True}
    assert contradictory == [(1, 3)]


def test_the_ground_truth_is_right():
    owners = {1: 7, 2: 7, 3: 8}
    kept, contradictory = resolve(
        [((1, 2), False), ((1, 3), True), ((1, 4), True), ((3, 4), True), ((3, 5), True)], owners
    )
    # 4 belongs to no object of the truth; 1 comes first.
    assert kept == {(1, 4): True, (3, 5): True}
    assert contradictory == [(1, 2), (1, 3), (3, 4)]
    found = resolve_examples([((1, 4), True), ((3, 6), False)], owners)
    assert found.objects[1, 4] == (7, 7)
    assert found.objects[3, 6][0] == 8
    assert found.objects[3, 6][1] not in (7, 8)


ids = st.integers(1, 7)
said = st.lists(
    st.tuples(st.tuples(ids, ids).filter(lambda pair: pair[0] < pair[1]), st.booleans()),
    max_size=14,
)


@settings(deadline=None, max_examples=60)
@given(said, st.dictionaries(ids, st.sampled_from([1, 2, 2**64 - 1])))
def test_what_is_left_is_consistent(examples, owners):
    found = resolve_examples(examples, owners)
    labels = dict(examples)
    assert set(found.objects) | set(found.contradictory) == set(labels)
    assert not set(found.objects) & set(found.contradictory)
    object_of = {}
    for pair, objects in found.objects.items():
        assert (objects[0] == objects[1]) == labels[pair]
        for segment, one in zip(pair, objects, strict=True):
            assert object_of.setdefault(segment, one) == one
            assert owners.get(segment, one) == one
