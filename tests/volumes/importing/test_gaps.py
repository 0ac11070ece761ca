"""Sections that are missing in a stack."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ffn.cli import import_labels, import_stack
from ffn.volumes.importing.gaps import missing_numbers


def names(form: str, numbers) -> list[Path]:
    return [Path(form.format(n)) for n in numbers]


def several(form: str, *columns) -> list[Path]:
    return [Path(form.format(*row)) for row in zip(*columns, strict=True)]


KEPT = [0, 1, 2, 3, 6, 8, 9, 10]


@pytest.mark.parametrize(
    ('paths', 'expected'),
    [
        (names('a/section_{:04d}.tif', [0, 1, 2, 5, 6]), ['0003', '0004']),
        (names('z{}.png', [8, 9, 11, 12]), ['10']),
        (names('raw2/z{}.png', [0, 10, 20, 40]), ['30']),
        (names('{:02d}.png', [1, 2, 4]), ['03']),
        (names('z{}.png', [0, 1, 2]), []),
        (names('z{}.png', [0, 1, 2, 2**60]), []),  # hardly a stack with so many missing
        (names('z{}.png', [3, 9]), []),
        (names('z{}.png', [3, 9, 13, 44]), []),  # no common step
        (names('z{}.png', [1, 5, 10, 11]), []),  # nothing that most files follow
        ([Path('z1.png'), Path('z01.png'), Path('z3.png')], []),
        (several('{:d}/z{}.png', [1, 1, 2, 2], [1, 3, 4, 5]), ['2']),
        (several('{:d}/z{}.png', [1, 1, 2, 2], [1, 3, 1, 2]), []),  # each folder counts by itself
        (several('s{:04d}_t{:04d}.png', [1, 2, 3, 5], [931, 945, 1003, 1044]), ['0004']),
        (several('t{:04d}_s{}.png', [931, 945, 1003, 1044], [2, 4, 6, 10]), ['8']),
        (several('s{:03d}_z={:.4f}um.tif', KEPT, [n * 0.008 for n in KEPT]), ['004', '005', '007']),
        (several('s{}_t{:06d}.tif', KEPT, [120000 + 37 * n for n in KEPT]), ['4', '5', '7']),
        (several('s{:d}_t{}.tif', [1, 2, 3, 4], [1201, 1202, 1203, 1205]), []),  # a pause
        (several('{1}_s{0}.tif', [1, 2, 4], ['Jan-30', 'Jan-31', 'Feb-01']), ['3']),
        (several('s{}_r{}.tif', [1, 1, 2, 2, 4, 4], [1, 2, 1, 2, 1, 2]), []),  # tiles
        ([Path('a.png'), Path('b.png'), Path('d.png')], []),
        ([Path('a.png'), Path('a1.png'), Path('a3.png')], []),
        ([Path('a.png')], []),
        ([Path('a1.png')], []),
    ],
)
def test_numbers_that_are_left_out(paths, expected):
    assert missing_numbers(paths, [1] * len(paths)) == expected


@pytest.mark.parametrize(
    ('step', 'lost'),
    [
        (1, range(100, 400)),  # three quarters of a stack
        (1, range(5, 20)),
        (1, range(60, 100)),
        (1, range(160, 200)),
        (10, range(960, 1000, 10)),
        (20, (960, 980)),
        (50, (950,)),
        (30, (60, 90)),
    ],
)
@pytest.mark.parametrize('digits', [0, 4, 6])
def test_lost_sections_are_told_wherever_they_were(step, lost, digits):
    last = lost[-1] + step * len(range(0, lost[0], step))
    kept = [n for n in range(0, last + 1, step) if n not in lost]
    form = f's_{{:0{digits}d}}.png'
    found = missing_numbers(names(form, kept), [1] * len(kept))
    assert [Path(f's_{text}.png') for text in found] == names(form, lost)


FIRST, COUNTS = [0, 4, 8, 16, 20], [4, 4, 8, 4, 4]


@pytest.mark.parametrize(
    ('paths', 'counts'),
    [
        (several('s{:03d}-{:03d}.tif', FIRST, [3, 7, 15, 19, 23]), COUNTS),
        (several('z{}_n{}.tif', FIRST, COUNTS), COUNTS),
        (names('to{}.tif', [4, 8, 16, 20, 24]), COUNTS),
        (names('s{:03d}.tif', FIRST), [4, 4, 4, 8, 4]),  # in doubt
    ],
)
def test_files_of_different_numbers_of_sections(paths, counts):
    assert missing_numbers(paths, counts) == []


def test_files_of_different_numbers_of_sections_may_be_numbered_themselves():
    assert missing_numbers(names('part{}.tif', [1, 2, 4, 5, 6]), COUNTS) == ['3']


TIMES = [100 * hour + minute for hour in (9, 10, 11) for minute in range(0, 60, 10)]


@pytest.mark.parametrize(
    'paths',
    [
        several('2024_{:04d}00_v{}.tif', TIMES, [n * n for n in range(18)]),
        names('{:04d}.tif', TIMES),
        names('{:04d}.tif', [time for time in TIMES if time != 1020]),
        names('{:06d}.tif', [95958, 95959, 100000, 100001]),
        names('{}.tif', [20240100 + n for n in (29, 30, 31, 101, 102, 103)]),
        names('{}.tif', [20240100 + n for n in (*range(2, 32), *range(101, 130))]),
        names('{:06d}.tif', [90000 + 100 * minute + s for minute in range(60) for s in (0, 30)]),
        names('{:06d}.tif', [95900 + s for s in (*range(60), *range(4100, 4160))]),
        names(
            '{}.tif', [202401312200 + n for n in (*range(60), *range(100, 160), *range(7800, 7860))]
        ),
    ],
)
def test_times_do_not_count_files(paths):
    assert missing_numbers(paths, [1] * len(paths)) == []


def test_a_missing_section_is_told(tmp_path, caplog):
    for z in (0, 1, 2, 4, 5):
        section = np.full((6, 9), z + 1, np.uint8)
        Image.fromarray(section).save(tmp_path / f'section_{z:04d}.png')
    for main, flag in ((import_stack.main, '--images'), (import_labels.main, '--input')):
        caplog.clear()
        main(
            [flag, f'{tmp_path}/*.png', '--voxel_size=8,8,40', '--output', f'{tmp_path}/v.h5:{flag[2:]}']
        )  # fmt: skip
        (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert line.startswith(f'{tmp_path}/section_0000.png … section_0005.png: the numbers of')
        assert 'leave out 0003; what follows moves up by 1 section in the end.' in line


def test_many_missing_files_of_several_sections(tmp_path, caplog):
    for z in (0, 4, 8, 12, 40, 44, 60):
        tifffile.imwrite(
            tmp_path / f's{z}.tif', np.zeros((4, 5, 7), np.uint8), photometric='minisblack'
        )
    import_stack.main(
        ['--images', f'{tmp_path}/*.tif', '--voxel_size=8,8,40', '--output', f'{tmp_path}/v.h5:raw']
    )
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert (
        'leave out 16, 20, 24, 28, 32, … (9 in all); what follows moves up by 36 sections' in line
    )
