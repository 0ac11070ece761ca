"""The command `ffn evaluate`, as a user calls it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import h5py
import numpy as np
import pytest

from ffn.cli.evaluate import main
from ffn.inference.storage import OriginInfo, save_result
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec
from tests.calls import check_one_line

SHAPE = (8, 12, 20)
KINDS = ('either', 'truth', 'segmentation', 'both')


def bars():
    """Three objects along x, 10 rows high together: 2^40, 7 and 9; the rest is unlabelled."""
    truth = np.zeros(SHAPE, np.int64)
    truth[:, :4], truth[:, 4:8], truth[:, 8:10] = 2**40, 7, 9
    return truth


def errors():
    """2^40 is cut at x = 12; 7 and 9 are one segment; from x = 16 on, 9 is left out."""
    found = np.zeros(SHAPE, np.uint64)
    found[:, :4, :12], found[:, :4, 12:] = 2**63 + 5, 2
    found[:, 4:10] = 4
    found[:, 8:10, 16:] = 0
    return found


@pytest.fixture
def folder(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['truth'], file['seg'] = bars(), errors()
        file['small'], file['soft'] = errors()[1:7, 2:9, 3:], bars().astype(np.float32)
        file['none'] = np.zeros(SHAPE, np.uint8)
    return tmp_path


def run(folder, segmentation, *more, truth='truth'):
    return main(
        [
            '--segmentation',
            f'{folder}/{segmentation}',
            '--groundtruth',
            f'{folder}/v.h5:{truth}',
            '--quiet',
            *map(str, more),
        ]
    )


def test_scores_and_cases(folder):
    found = run(folder, 'v.h5:seg', '--boundary', 0)
    both = found.scores['both']
    counts = np.array([8 * 4 * 12, 8 * 4 * 8, 8 * 4 * 20, 8 * 2 * 16])
    assert both.voxels == counts.sum()
    p = counts / counts.sum()
    cut = -(0.6 * np.log2(0.6) + 0.4 * np.log2(0.4)) * (p[0] + p[1])
    mixed = p[2:] / p[2:].sum()
    joined = -(mixed * np.log2(mixed)).sum() * p[2:].sum()
    assert both.voi_split == pytest.approx(cut)
    assert both.voi_merge == pytest.approx(joined)
    assert found.scores['segmentation'] == both
    assert found.scores['truth'] == found.scores['either']
    assert found.scores['truth'].voxels == 8 * 10 * 20
    assert found.inner_scores is None
    (case,) = found.splits
    assert (case.id, case.number, case.bits) == (2**40, 2, pytest.approx(cut))
    assert [(piece.id, piece.voxels) for piece in case.pieces] == [(2**63 + 5, 384), (2, 256)]
    assert case.at_xyz.x == 12  # where the second piece begins
    assert errors()[case.at_xyz.zyx] == 2
    (case,) = found.mergers
    assert (case.id, [piece.id for piece in case.pieces]) == (4, [7, 9])
    assert bars()[case.at_xyz.zyx] == 9
    (missing,) = found.missing
    assert (missing.id, missing.voxels, missing.missing) == (9, 8 * 2 * 20, 8 * 2 * 4)
    assert (bars()[missing.at_xyz.zyx], errors()[missing.at_xyz.zyx]) == (9, 0)


def test_coverage(folder):
    coverage = run(folder, 'v.h5:seg').coverage
    assert (coverage.voxels, coverage.truth_voxels) == (8 * 12 * 20, 8 * 10 * 20)
    assert coverage.segmentation_voxels == coverage.both_voxels == 8 * 10 * 20 - 8 * 2 * 4
    assert coverage.covered_fraction == pytest.approx(0.96)
    assert (coverage.objects, coverage.segments) == (3, 3)
    assert (coverage.objects_covered, coverage.objects_missing) == (3, 0)


def test_the_boundary_band(folder):
    """With 1 voxel on both sides of a border left out, 9 is gone and 2^40 has three rows."""
    found = run(folder, 'v.h5:seg', '--boundary', 1)
    assert found.inner_scores['both'].voxels == 8 * 20 * (3 + 2)
    assert found.inner_scores['both'].voi_merge == 0
    assert found.scores == run(folder, 'v.h5:seg', '--boundary', 0).scores
    assert found.mergers == ()
    assert found.splits[0].pieces[1].voxels == 8 * 3 * 8
    # A band that covers all.
    inner = run(folder, 'v.h5:seg', '--boundary', 30).inner_scores
    assert inner == dict.fromkeys(KINDS)


def test_perfect(folder):
    found = run(folder, 'v.h5:truth')
    for scores in (found.scores, found.inner_scores):
        for kind in KINDS:
            s = scores[kind]
            assert (s.voi_split, s.voi_merge, s.rand_error) == pytest.approx((0, 0, 0), abs=1e-12)
    assert (found.splits, found.mergers, found.missing) == ((), (), ())


def test_an_empty_segmentation(folder, capsys):
    found = run(
        folder,
        'v.h5:none',
        '--boundary',
        0,
        '--skeletons_from_groundtruth',
        '--skeleton_min_voxels',
        50,
    )
    assert found.scores['segmentation'] is found.scores['both'] is None
    # All is one segment: nothing is split.
    assert found.scores['truth'].voi_split == 0
    assert found.scores['truth'].rand_recall == 1
    assert found.coverage.objects_missing == found.coverage.objects == 3
    assert [m.id for m in found.missing] == [7, 2**40, 9]
    assert found.erl.erl == 0
    assert found.erl.omitted == found.erl.length
    assert 'there is none' in capsys.readouterr().out


def test_json(folder):
    with h5py.File(folder / 'v.h5', 'a') as file:
        file['t'] = np.array([[0, 0], [1, 7], [2, 7], [3, 2**40]])
        file['super'] = np.where(bars() == 7, 1, np.where(bars() > 0, 3, 0))
    main(
        [
            '--segmentation',
            f'{folder}/v.h5:seg',
            '--groundtruth',
            f'{folder}/v.h5:super',
            '--groundtruth_transforms',
            f'{folder}/v.h5:t',
            '--voxel_size',
            '8,8,40',
            '--json',
            f'{folder}/out/a.json',
            '--skeletons_from_groundtruth',
            '--merge_threshold',
            '20',
            '--skeleton_min_voxels',
            '10',
        ]
    )
    found = json.loads((folder / 'out' / 'a.json').read_text())
    assert list(found) == [
        'version',
        'segmentation',
        'groundtruth',
        'split_cc',
        'box',
        'boundary_voxels',
        'scores',
        'inner_scores',
        'coverage',
        'splits',
        'mergers',
        'missing',
        'erl',
    ]
    assert found['box'] == {'start_xyz': [0, 0, 0], 'size_xyz': [20, 12, 8]}
    assert found['boundary_voxels'] == 2
    assert list(found['scores']) == list(found['inner_scores']) == list(KINDS)
    assert found['coverage']['objects'] == 2
    assert found['splits'][0]['id'] == 2**40
    assert 2**63 + 5 in [piece['id'] for piece in found['splits'][0]['pieces']]
    assert len(found['splits'][0]['at_xyz']) == 3
    assert found['erl']['voxel_size_xyz'] == [8, 8, 40]
    assert found['erl']['merge_threshold'] == 20
    assert found['erl']['neurons'] == 2


def swc(folder, name, points):
    lines = [f'{i + 1} 0 {x} {y} {z} 1 {i or -1}' for i, (x, y, z) in enumerate(points)]
    (folder / name).write_text('\n'.join(lines))
    return folder / name


def test_skeletons(folder, capsys):
    """a is cut; b and c are joined, the end of c is left out; in nm, voxels of 10, 10 and 40 nm."""
    files = [
        swc(folder, f'{name}.swc', [(10 * x + 5, 10 * y + 5, 60) for x in range(20)])
        for name, y in (('a', 1), ('b', 5), ('c', 8))
    ]
    skeletons = ('--skeletons', *files, '--voxel_size', '10,10,40')
    erl = run(folder, 'v.h5:seg', *skeletons, '--merge_threshold', 50).erl
    assert (erl.neurons, erl.length) == (3, pytest.approx(570))
    assert (erl.split, erl.omitted) == (pytest.approx(10), pytest.approx(40))
    assert erl.merged == pytest.approx(190 + 150)
    assert erl.erl == pytest.approx((110**2 + 70**2) / 570)
    assert erl.max_erl == pytest.approx(190)
    assert [(m.segment, m.neurons) for m in erl.mergers] == [(4, ('b.swc', 'c.swc'))]
    shown = capsys.readouterr().out
    assert 'voxel size x,y,z 10,10,40, merge threshold 50' in shown
    tolerant = run(folder, 'v.h5:seg', *skeletons, '--merge_threshold', 200).erl
    assert tolerant.erl == pytest.approx((110**2 + 70**2 + 190**2 + 150**2) / 570)


def test_skeletons_in_voxels_and_outside(folder, caplog):
    inside = swc(folder, 'a.swc', [(x, 1, 1) for x in range(-2, 9)])
    with caplog.at_level(logging.WARNING):
        erl = run(
            folder,
            'v.h5:seg',
            '--skeletons',
            inside,
            '--skeleton_unit',
            'voxels',
            '--voxel_size',
            '10,10,40',
        ).erl
    assert '2 of 11 nodes' in caplog.text
    assert (erl.length, erl.erl) == (80, 80)
    with pytest.raises(UserError, match='no edge of the skeletons lies inside box'):
        run(folder, 'v.h5:seg', '--skeletons', swc(folder, 'b.swc', [(50, 0, 0), (60, 0, 0)]))


def test_offset_and_box(folder):
    box = 'start { x: 4 y: 3 z: 2 } size { x: 10 y: 6 z: 3 }'
    small = run(folder, 'v.h5:small', '--offset', '3,2,1', '--bounding_box', box)
    assert small.box.start == (4, 3, 2)
    assert small == run(folder, 'v.h5:seg', '--bounding_box', box)
    whole = run(folder, 'v.h5:small', '--offset', '3,2,1', '--boundary', 0)
    assert whole.box.size == (17, 7, 6)
    assert bars()[whole.splits[0].at_xyz.zyx] == 2**40


def test_results_of_inference_lie_where_they_say(folder):
    save_result(
        folder / 'r',
        (1, 2, 3),
        errors()[1:7, 2:9, 3:] % 97,
        {1: OriginInfo((0, 0, 0), 1, 1.0)},
        b'',
        {},
        {},
    )
    found = run(folder, 'r')
    assert found.box.start == Xyz(3, 2, 1)
    assert found.scores == run(folder, 'v.h5:small', '--offset', '3,2,1').scores


def test_a_volume_that_is_not_complete(folder):
    output = OutputSpec(f'zarr://{folder}/half', Box(Xyz(0, 0, 0), Xyz(9, 9, 9)), Xyz(4, 4, 4))
    output.create('of something')
    arguments = ['--segmentation', output.spec, '--groundtruth', f'{folder}/v.h5:truth', '--quiet']
    with pytest.raises(UserError, match='half is not complete; run the command that writes it'):
        main(arguments)
    output.finish('of something')
    with pytest.raises(UserError, match='choose a --bounding_box, the box that was segmented'):
        main(arguments)


@pytest.mark.parametrize('which', ['segmentation', 'truth'])
def test_missing_chunks_can_be_an_error(folder, which):
    with h5py.File(folder / 'v.h5', 'a') as file:
        sparse = file.create_dataset('sparse', SHAPE, np.uint32, chunks=(8, 6, 10))
        sparse[:, :6, :] = errors()[:, :6, :] % 2**20
    names = {'truth': 'truth', 'segmentation': 'v.h5:seg'}
    names[which] = 'v.h5:sparse' if which == 'segmentation' else 'sparse'
    run(folder, names['segmentation'], truth=names['truth'])
    with pytest.raises(UserError, match=r'v.h5:sparse: 2 of the 4 chunks .*--missing=error'):
        run(folder, names['segmentation'], '--missing', 'error', truth=names['truth'])


def test_split_cc(folder):
    cut = errors()
    cut[:, :4, 8] = 0  # 2^63 + 5 in two parts
    with h5py.File(folder / 'v.h5', 'a') as file:
        file['cut'] = cut
    assert run(folder, 'v.h5:cut').coverage.segments == 3
    assert run(folder, 'v.h5:cut', '--split_cc').coverage.segments == 4


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--worst', '-1'], '--worst is -1'),
        (['--boundary', '-1'], '--boundary is -1'),
        (['--boundary', '1,2'], '--boundary is 1,2; expected 0 or more voxels, X,Y,Z voxels, or'),
        (['--boundary', '20nm'], '--boundary 20nm needs the voxel size: give --voxel_size X,Y,Z'),
        (['--boundary', '20um'], '--boundary is 20um; expected'),
        (['--voxel_size', '4,4'], "--voxel_size is '4,4'; expected three positive numbers"),
        (['--voxel_size', '4,0,4'], "--voxel_size is '4,0,4'"),
        (['--voxel_size', ''], "--voxel_size is ''; expected three positive numbers"),
        (['--merge_threshold', 'nan'], '--merge_threshold is nan'),
        (['--image', 'a.h5:raw'], '--image is for the page; give --html'),
        (['--offset', '1,2'], '--offset'),
        (['--skeletons', 'none.swc'], 'no such file: none.swc'),
        (['--skeletons', 'a.swc', '--skeletons_from_groundtruth'], 'choose one'),
        (
            ['--bounding_box', 'start { x: 0 y: 0 z: 0 } size { x: 21 y: 1 z: 1 }'],
            'not inside of both',
        ),
        (
            ['--bounding_box', 'start { x: 0 y: 10 z: 0 } size { x: 9 y: 1 z: 1 }'],
            'has no label in box',
        ),
        (['--segmentation', 'v.h5:soft'], 'labels must be integers'),
        (['--segmentation', 'v.h5:small'], 'shapes differ'),
        (['--groundtruth', 'v.h5:none'], 'has no label in box'),
        (['--segmentation', 'nothing'], 'no such file or folder: nothing'),
    ],
)
def test_mistakes(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=message):
        main(['--segmentation', 'v.h5:seg', '--groundtruth', 'v.h5:truth', *arguments])


def test_the_command_itself(repository, folder):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, '-m', 'ffn.evaluation.evaluate', *arguments],
            cwd=folder,
            env={'PYTHONPATH': str(repository)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    done = call('--segmentation=v.h5:seg', '--groundtruth=v.h5:truth', '--json=a.json')
    assert (done.returncode, done.stderr) == (0, '')
    assert f'{2**40} at 12,' in done.stdout
    assert json.loads((folder / 'a.json').read_text())['splits'][0]['id'] == 2**40
    done = call('--segmentation=v.h5:small', '--groundtruth=v.h5:truth')
    check_one_line(done.returncode, done.stderr, 'shapes differ', 'x,y,z 20,12,8', 'x,y,z 17,7,6')
    assert done.stdout == ''


def test_the_published_segmentation(data_dir, tmp_path):
    """VOI 0.613 and 0.263, adapted Rand error 0.0557, over voxels with a label in the segmentation."""
    from ffn.volumes.importing.import_labels import import_labels

    import_labels(data_dir / 'fib25/training_sample2/groundtruth.h5.gz', f'{tmp_path}/t.h5:labels')
    main(
        [
            '--segmentation',
            str(data_dir / 'fib25/sample-training2.npz'),
            '--groundtruth',
            f'{tmp_path}/t.h5:labels',
            '--json',
            f'{tmp_path}/a.json',
        ]
    )
    found = json.loads((tmp_path / 'a.json').read_text())
    score = found['scores']['segmentation']
    assert score['voi_split'] == pytest.approx(0.613, abs=1e-3)
    assert score['voi_merge'] == pytest.approx(0.263, abs=1e-3)
    assert score['rand_error'] == pytest.approx(0.0557, abs=1e-3)
    assert found['coverage']['segments'] == 254
    assert found['coverage']['segmentation_voxels'] / 250**3 == pytest.approx(0.887, abs=1e-3)


def test_the_voxel_size_is_that_of_the_volumes(tmp_path, caplog):
    truth = np.ones((12, 20, 22), np.uint8)
    truth[:, 10:] = 2
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        for name in ('truth', 'seg'):
            file[name] = truth
            file[name].attrs['resolution'] = (40.0, 8.0, 8.0)
    (tmp_path / 'a.swc').write_text('1 0 12 20 40 1 -1\n2 0 100 20 40 1 1\n')
    given = ['--segmentation', f'{tmp_path}/v.h5:seg', '--groundtruth', f'{tmp_path}/v.h5:truth']
    given += ['--skeletons', f'{tmp_path}/a.swc', '--html', f'{tmp_path}/page.html', '--quiet']
    found = main([*given, '--boundary', '20nm'])
    assert found.boundary == (2, 2, 0)
    assert found.erl.voxel_size_xyz == (8, 8, 40)
    assert found.erl.erl == pytest.approx(88)
    assert found.inner_scores['both'].voxels == 12 * 16 * 22
    assert 'x,y,z 8,8,40 nm' in (tmp_path / 'page.html').read_text()
    assert not [r for r in caplog.records if 'contradict' in r.getMessage()]
    other = main([*given, '--voxel_size', '8,8,30', '--boundary', '3,1,1'])
    assert other.erl.voxel_size_xyz == (8, 8, 30)
    assert other.boundary == (3, 1, 1)
    lines = [r.getMessage() for r in caplog.records if 'contradict' in r.getMessage()]
    assert len(lines) == 2
    assert 'x,y,z 8,8,30 nm (--voxel_size), but x,y,z 8,8,40 nm' in lines[0]
