"""The command `ffn compare`, as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from ffn.cli.compare import main
from ffn.utils.errors import UserError
from tests.calls import check_one_line

SHAPE = (6, 16, 24)


def first():
    a = np.zeros(SHAPE, np.int32)
    a[:, :4], a[:, 4:8], a[:, 8:10], a[:, 12:] = 1, 2, 3, 4
    return a


def second():
    """1 is the same under another name; 2 is cut at x = 10; 3 is gone; 4 takes what was empty."""
    b = np.zeros(SHAPE, np.uint64)
    b[:, :4], b[:, 4:8, :10], b[:, 4:8, 10:], b[:, 10:] = 2**63, 20, 21, 40
    return b


@pytest.fixture
def folder(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['a'], file['b'], file['none'] = first(), second(), np.zeros(SHAPE, np.uint8)
        file['small'] = second()[:5, 1:]
        file['raw'] = np.full(SHAPE, 90, np.uint8)
    return tmp_path


def run(folder, *more, a='a', b='b'):
    return main([f'{folder}/v.h5:{a}', f'{folder}/v.h5:{b}', '--quiet', *map(str, more)])


def test_what_differs(folder):
    found = run(folder)
    assert (found.objects_a, found.objects_b, found.identical) == (4, 4, 1)
    (cut,) = found.cut_in_b
    assert (cut.id, [p.id for p in cut.pieces]) == (2, [21, 20])
    assert cut.at_xyz.x == 9  # where the smaller piece ends
    assert found.joined_in_b == ()
    (missing,) = found.missing_in_b
    assert (missing.id, missing.voxels, missing.missing) == (3, 6 * 2 * 24, 6 * 2 * 24)
    (grown,) = found.missing_in_a
    assert (grown.id, grown.missing) == (40, 6 * 2 * 24)
    assert (first()[grown.at_xyz.zyx], second()[grown.at_xyz.zyx]) == (0, 40)


def test_distances(folder):
    both = run(folder).scores['both']
    assert both.voxels == 6 * 12 * 24
    parts = np.array([10, 14]) / 24
    assert both.voi_b_given_a == pytest.approx(-(parts * np.log2(parts)).sum() / 3)
    assert both.voi_a_given_b == pytest.approx(0)
    # The other way round, what was cut is joined, and what was missing is too much.
    forth, back = run(folder), run(folder, a='b', b='a')
    for name in ('either', 'both'):
        one, two = forth.scores[name], back.scores[name]
        assert one.voi_b_given_a == pytest.approx(two.voi_a_given_b)
        assert one.voi_a_given_b == pytest.approx(two.voi_b_given_a)
        assert one.rand_error == pytest.approx(two.rand_error)
    assert [c.id for c in back.joined_in_b] == [c.id for c in forth.cut_in_b]
    assert [m.id for m in back.missing_in_a] == [3]


def test_the_same(folder):
    found = run(folder, b='a')
    assert found.identical == 4
    assert found.scores['either'].rand_error == pytest.approx(0)
    assert (found.cut_in_b, found.joined_in_b, found.missing_in_b) == ((), (), ())


def test_an_empty_one(folder, capsys):
    found = run(folder, b='none')
    assert found.scores['both'] is None
    assert (found.objects_b, len(found.missing_in_b)) == (0, 4)
    assert 'there is none' in capsys.readouterr().out
    with pytest.raises(UserError, match='neither A nor B has a label'):
        run(folder, a='none', b='none')


def test_json_and_page(folder):
    run(
        folder,
        '--json',
        folder / 'c.json',
        '--html',
        folder / 'c.html',
        '--image',
        f'{folder}/v.h5:raw',
        '--worst',
        3,
    )
    found = json.loads((folder / 'c.json').read_text())
    assert list(found) == [
        'version',
        'a',
        'b',
        'split_cc',
        'box',
        'scores',
        'objects_a',
        'objects_b',
        'identical',
        'cut_in_b',
        'joined_in_b',
        'missing_in_b',
        'missing_in_a',
    ]
    assert found['box'] == {'start_xyz': [0, 0, 0], 'size_xyz': [24, 16, 6]}
    assert found['cut_in_b'][0]['pieces'][0]['id'] == 21
    page = (folder / 'c.html').read_text()
    assert page.count('data:image/png') == 3 + 2 * 3
    for title in (
        'that are split in B',
        'that merge several',
        'missing in B',
        'missing in A',
        'H(B | A)',
    ):
        assert title in page
    for number in (2, 3, 40):
        assert f'</span> {number}:' in page


def test_offset(folder):
    found = run(folder, '--offset', '0,1,0', b='small')
    assert found.box.size == (24, 15, 5)
    assert found.cut_in_b[0].id == 2
    with pytest.raises(UserError, match=r'A has z,y,x 6,16,24 .* B has z,y,x 5,15,24'):
        run(folder, b='small')


def test_the_command_itself(repository, folder):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, '-m', 'ffn.evaluation.compare', *arguments],
            cwd=folder,
            env={'PYTHONPATH': str(repository)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    done = call('v.h5:a', 'v.h5:b')
    assert (done.returncode, done.stderr) == (0, '')
    assert '4 objects in A, 4 in B; 1 are identical' in done.stdout
    done = call('v.h5:a', 'v.h5:c')
    check_one_line(done.returncode, done.stderr, "no dataset 'c'")
