"""What tables and counters say of subvolumes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from ffn.distributed.local_pools import InProcess
from ffn.evaluation.run_report.concerns import find_concerns
from ffn.evaluation.run_report.object_summaries import LargeObject
from ffn.evaluation.run_report.run_files import find_run
from ffn.evaluation.run_report.subvolume_facts import count_border, read_facts
from ffn.evaluation.run_report.subvolume_summaries import (
    place_of,
    summarize_borders,
    summarize_times,
)
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.npz import write_compressed
from ffn.volumes.masks import CoordinateMask, Mask
from tests.evaluation.run_report.whole import SHAPE, TILING, make_run

BIG = 2**63


def read(folder):
    files = find_run(str(folder / 'results'))
    return read_facts(
        files.subvolumes, files.tiling, files.assembly, files.min_shared, InProcess(), quiet=True
    )


def table(*rows):
    return np.array(rows, np.uint64)


def test_what_two_sides_make_of_an_overlap():
    """Object 1 is on both sides, 2 ends at nothing, 3 at object 1; of 4 there are too few voxels."""
    own = table(1, 2, 3, BIG), np.array([1, 2, 3, 4])
    other = table(8, 9), np.array([1, 5])
    shared = table((1, 8, 50), (2, 0, 20), (3, 8, 30), (BIG, 0, 3), (0, 9, 10))
    assert count_border(shared, own, other, 5) == {
        'agree': 50,
        'differ': 30,
        'one_sided': 20 + 3 + 10,
        'continued': 2,  # 1, and 8 of the other side
        'ended': 2,  # 2, and 9
        'blocked': 1,  # 3
    }


def test_a_perfect_run_has_no_border_effects(perfect):
    folder, labels = perfect
    facts = read(folder)
    assert facts['present'].all()
    assert facts['core'].sum() == labels.size
    assert facts['filled'].sum() == np.count_nonzero(labels)
    borders = summarize_borders(facts, TILING)
    assert (borders.agreement, borders.continued) == (1, 1)
    assert (borders.ended, borders.blocked, borders.worst) == (0, 0, ())
    assert borders.overlaps == 3 * 4  # along x, y and z


def test_neighbours_without_labels_are_counted(tmp_path):
    one = np.zeros(SHAPE, np.uint32)
    one[1:20, 2:5, 3:6] = 1
    make_run(tmp_path, labels=one)
    borders = summarize_borders(read(tmp_path), TILING)
    assert borders.overlaps == 3 * 4
    assert borders.agreement == 1


def test_a_masked_subvolume_that_has_a_result(tmp_path):
    """As where a run without masks is assembled with one."""
    place = Xyz(1, 0, 1)
    box, index = TILING.subvolume(place), TILING.index(place)
    inside = CoordinateMask(f'(x >= {box.start.x}) & (y < {box.end.y}) & (z >= {box.start.z})')
    make_run(tmp_path, masks=(Mask(inside),))
    facts = read(tmp_path)
    assert facts['present'].all()
    assert facts['counted'].all()
    without = np.delete(facts, index)
    assert (facts['core'][index], facts['filled'][index], facts['ids'][index]) == (0, 0, 0)
    assert without['core'].all()
    assert summarize_borders(facts, TILING).overlaps == 3 * 4 - 3


def test_an_object_that_one_subvolume_lacks(tmp_path):
    def change(number, labels):
        return labels * 0 if number == 3 else labels

    make_run(tmp_path, change)
    facts = read(tmp_path)
    assert facts['filled'][3] == 0
    borders = summarize_borders(facts, TILING)
    assert borders.agreement < 1
    assert borders.one_sided == pytest.approx(1 - borders.agreement)
    assert borders.ended > 0
    empty = TILING.subvolume(Xyz(1, 1, 0))
    assert len(borders.worst) == 3
    assert all(empty.contains(Box(border.at_xyz, Xyz(1, 1, 1))) for border in borders.worst)
    found = find_concerns(facts, TILING, [], None, {})
    assert f'{empty.start} is filled to 0.0%' in found[0].text


def test_ids_that_are_joined_in_a_detour(tmp_path):
    """Two bars along x that meet far from the first subvolume, where they are two."""
    labels = np.zeros(SHAPE, np.uint32)
    labels[2:12, 2:5] = labels[2:12, 8:11] = labels[2:12, 5:8, 35:] = 1

    def change(number, stored):
        if number == 0:
            stored[2:12, 2:5], stored[2:12, 8:11] = 5, 6
        return stored

    make_run(tmp_path, change, labels, conflicts='join')
    facts = read(tmp_path)
    assert facts['most_joined'].tolist()[:2] == [2, 1]
    assert facts['most_joined_object'][0] == facts['most_joined_object'][1]
    # Of more ids, such an object is worth a look.
    facts['most_joined'][0] = 6
    number = int(facts['most_joined_object'][0])
    (found, *_) = find_concerns(facts, TILING, [], None, {number: Xyz(1, 2, 3)})
    assert (found.object, found.at_xyz) == (number, (1, 2, 3))
    assert '6 ids of the subvolume at x,y,z 0,0,0 are one object' in found.text


def test_huge_objects_are_told():
    largest = [LargeObject(i, n, None, None) for i, n in ((5, 900), (2, 40), (3, 30), (4, 20))]
    (found,) = find_concerns(None, None, largest, 1000, {})
    assert found.object == 5
    assert '90.0%' in found.text
    assert not find_concerns(None, None, largest[1:], 1000, {})


def test_times(perfect):
    times = summarize_times(read(perfect[0]), TILING)
    units = sum(range(1, 9))
    assert (times.subvolumes, times.steps, times.step_ms) == (8, 10 * units, 20)
    assert times.seconds == pytest.approx(0.5 * units)
    assert times.kept_seconds == pytest.approx(0.25 * units)
    assert times.weak_seconds == pytest.approx(0.1 * units)
    assert times.small_seconds == pytest.approx(0.05 * units)
    assert times.other_seconds == pytest.approx(0.1 * units)
    assert times.rejected == {'weak': 24, 'small': 16, 'close': 8}
    slowest = times.slowest[0]
    assert slowest.corner_xyz == TILING.subvolume(Xyz(1, 1, 1)).start
    assert (slowest.seconds, slowest.steps) == (4, 80)
    assert place_of(TILING, 6) == (0, 1, 1)


@pytest.mark.parametrize('stored', [b'[1]', b'{"seeds": "x"}', b'{', np.zeros(3)])
def test_counters_of_another_kind_are_refused(perfect, tmp_path, stored):
    shutil.copytree(perfect[0] / 'results', tmp_path / 'results')
    path = next((tmp_path / 'results').glob('0/0/seg-0_0_0.npz'))
    members = dict(np.load(path, allow_pickle=True))
    write_compressed(path, **{**members, 'counters': stored})
    with pytest.raises(UserError, match=r'seg-0_0_0.npz is damaged: '):
        read(tmp_path)
