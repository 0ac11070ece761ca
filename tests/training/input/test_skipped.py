"""What is told of coordinates that are skipped, volume by volume."""

from __future__ import annotations

import logging

import pytest

from ffn.training.input.skipped import SkippedCoordinates
from ffn.utils.geometry import Box, Xyz, Zyx
from tests.training import sample
from tests.training.input.records import record, write_records
from tests.training.input.test_examples import put, source, take

INSIDE, AT_A_FACE, ELSEWHERE, UNLABELLED = (17, 14, 12), (3, 14, 12), (1000, 14, 12), (17, 14, 20)


def told(folder, caplog, coordinates, count=40, **config):
    """What is logged while examples are taken, of volumes 'a' and 'b' that hold the same."""
    labels = sample.labels()
    labels[20] = -1
    path = f'{folder}/volume.h5'
    volumes = {
        'data_volumes': dict.fromkeys('ab', f'{path}:raw'),
        'label_volumes': {name: put(folder, name, labels)['v'] for name in 'ab'},
    }
    write_records(
        folder / 'coordinates.tfrecord',
        [record(center, name) for name, centers in coordinates.items() for center in centers],
    )
    with source(folder, Zyx(5, 7, 9), **volumes, **config) as examples:
        caplog.clear()
        take(examples, count)
        counts = examples.counts()
    return counts, [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.fixture
def folder(tmp_path):
    sample.write_sample(tmp_path)
    return tmp_path


@pytest.mark.parametrize('weights', [{}, {'a': 1, 'b': 1}])
@pytest.mark.parametrize(
    ('center', 'advice', 'reason'),
    [
        (AT_A_FACE, "of 'b' leaves the volume", 'out of bounds'),
        (ELSEWHERE, "of 'b' has its centre outside the labels, start x,y,z 0,0,0", 'outside the labels'),
        (UNLABELLED, "of 'b' has no label in its centre", 'not labelled'),
    ],
)  # fmt: skip
def test_a_volume_of_which_nothing_can_be_used(folder, caplog, weights, center, advice, reason):
    coordinates = {'a': [INSIDE] * 6, 'b': [center] * 5}
    counts, lines = told(folder, caplog, coordinates, volume_weights=weights)
    assert counts == {'a': 40, 'b': 0}
    first, none = lines
    assert advice in first
    assert none.startswith(f"none of the first 5 coordinates of 'b' can be used (5 {reason}), so")


def test_each_volume_is_told_of_by_itself(folder, caplog):
    coordinates = {'a': [INSIDE, AT_A_FACE], 'b': [INSIDE, AT_A_FACE, ELSEWHERE, UNLABELLED] * 2}
    _, lines = told(folder, caplog, coordinates, volume_weights={'a': 3, 'b': 1})
    assert sorted(line[line.index("'") :][:10] for line in lines if line.startswith('the')) == [
        "'a' leaves",
        "'b' has it",
        "'b' has no",
        "'b' leaves",
    ]
    shares = [line for line in lines if 'first' in line]
    assert len(shares) == 2
    assert (
        "1 of the first 2 coordinates of 'a' were skipped (1 out of bounds); its share"
        in ''.join(shares)
    )
    assert "6 of the first 8 coordinates of 'b' were skipped (" in ''.join(shares)


def test_nothing_is_told_where_all_can_be_used(folder, caplog):
    coordinates = {'a': [INSIDE] * 3, 'b': [INSIDE] * 2}
    counts, lines = told(folder, caplog, coordinates)
    assert sum(counts.values()) == 40
    assert lines == []


@pytest.mark.parametrize(
    ('count', 'processes', 'told_after'),
    [(1, 1, 1), (7, 1, 7), (7, 8, 100), (900, 8, 113), (90_000, 8, 2000)],
)
def test_a_share_of_few_coordinates_says_nothing_of_a_volume(caplog, count, processes, told_after):
    box = Box(Xyz(0, 0, 0), Xyz(30, 20, 10))
    skips = SkippedCoordinates({'a': box, 'b': box}, {'b': count}, Zyx(5, 7, 9), False, processes)
    skips.use('a')
    for number in range(1, told_after + 1):
        assert 'learns nothing' not in caplog.text
        skips.skip(Xyz(1, 1, 1), 'b', True, number)
    assert f"none of the first {told_after} coordinates of 'b' can be used" in caplog.text
