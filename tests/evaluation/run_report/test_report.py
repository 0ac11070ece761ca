"""The command `ffn report`, as a user calls it."""

from __future__ import annotations

import html
import json
import re
import shutil
import sys

import h5py
import markupsafe
import numpy as np
import pytest

from ffn.cli.report import main
from ffn.evaluation.run_report import pictures
from ffn.utils.errors import UserError
from ffn.volumes.provenance import MANIFEST, read_claim, write_claim, write_stamp
from tests.calls import Unread
from tests.evaluation.run_report.test_joins import HEADER
from tests.evaluation.run_report.test_joins import write as write_merges
from tests.evaluation.run_report.whole import SHAPE


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, '_ALL', (150, 120))  # so that tests are quick
    monkeypatch.setattr(pictures, '_ONE', (90, 80))
    return tmp_path


def report(folder, *arguments):
    main([*map(str, arguments), '--output', str(folder / 'page'), '--quiet'])
    page = (folder / 'page' / 'report.html').read_text()
    assert '<script' not in page
    assert re.search(r'src="(?!data:)', page) is None  # it stands alone
    return page, json.loads((folder / 'page' / 'report.json').read_text())


def headings(page):
    return re.findall('<h2>(.*?)</h2>', page)


def test_the_folder_of_a_run(perfect, folder, capsys):
    run, labels = perfect
    with h5py.File(folder / 'v.h5', 'w') as file:
        file['raw'] = np.zeros(SHAPE, np.uint8)
    page, numbers = report(
        folder, run / 'results', '--image', f'{folder}/v.h5:raw', '--min_voxels', 100
    )
    assert headings(page) == [
        'Worth a look',
        'Overview',
        'Sizes',
        'Run length',
        'Fill',
        'Borders between subvolumes',
        'Time',
    ]
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    assert numbers['sizes']['objects'] == len(ids)
    assert numbers['sizes']['voxels'] == counts.sum()
    assert numbers['largest'][0]['voxels'] == counts.max()
    assert numbers['filled_fraction'] == pytest.approx(np.mean(labels > 0))
    assert numbers['voxel_size_xyz'] == [8, 8, 30]  # the written volume says so
    assert numbers['unit'] == numbers['spans']['unit'] == 'nm'
    assert numbers['subvolumes'] == [8, 8]
    assert numbers['borders']['agreement'] == 1
    assert numbers['matching']['conflicts'] == 0
    assert numbers['times']['steps'] == 10 * sum(range(1, 9))
    assert numbers['box'] == {'start_xyz': [0, 0, 0], 'size_xyz': list(SHAPE[::-1])}
    assert not {'facts', 'census', 'tiling'} & set(numbers)
    # Every large object is found where the page says.
    for one in numbers['largest']:
        x, y, z = one['at_xyz']
        at = labels[z, y, x]
        assert counts[ids == at][0] == one['voxels']
        command = (
            f'ffn view --image {folder}/v.h5:raw --labels zarr://{run}/out.zarr '
            f'--position {x},{y},{z}'
        )
        assert f'<code>{command}</code>' in page
    printed = capsys.readouterr().out
    assert '8 of 8 subvolumes have a result' in printed
    assert '100.0% of the labelled voxels of overlaps are one object on both sides' in printed


def test_the_assembly_and_tables_only(perfect, folder):
    run, labels = perfect
    page, numbers = report(folder, run / 'results' / 'assembly', '--tables_only')
    assert 'Overview' not in headings(page)
    assert 'Run length' not in headings(page)
    _, counts = np.unique(labels[labels > 0], return_counts=True)
    assert [one['voxels'] for one in numbers['largest']] == sorted(counts.tolist())[::-1][:10]
    assert numbers['sizes']['objects'] == len(counts)
    assert numbers['largest'][0]['at_xyz'] is None
    assert numbers['borders']['agreement'] == 1


def test_a_volume_alone(perfect, folder):
    run, labels = perfect
    page, numbers = report(folder, f'zarr://{run}/out.zarr')
    assert headings(page) == ['Worth a look', 'Overview', 'Sizes', 'Run length', 'Fill']
    assert numbers['sizes']['voxels'] == np.count_nonzero(labels)
    assert numbers['borders'] is numbers['times'] is numbers['subvolumes'] is None


def test_a_report_that_cannot_be_printed_is_written(perfect, folder, monkeypatch):
    monkeypatch.setattr(sys, 'stdout', Unread())
    run = perfect[0] / 'results'
    with pytest.raises(BrokenPipeError):
        main([str(run), '--tables_only', '--output', str(folder / 'r.html'), '--quiet'])
    assert '<h2>' in (folder / 'r.html').read_text()
    assert json.loads((folder / 'r.json').read_text())['run'] == str(run)


def test_a_run_that_is_not_assembled(perfect, folder):
    results = folder / 'results'
    shutil.copytree(perfect[0] / 'results', results)
    (results / 'assembly' / 'statistics.json').unlink()
    next(results.glob('0/0/seg-0_0_0.npz')).unlink()
    (results / 'unfinished').touch()
    page, numbers = report(folder, results)
    assert headings(page) == ['Worth a look', 'Time']
    assert numbers['subvolumes'] == [8, 7]
    assert numbers['concerns'][0]['text'].startswith('1 subvolumes have no result')
    assert 'not finished' in page


@pytest.mark.parametrize('what', ['missing', 'incomplete'])
def test_a_volume_that_is_not_written_to_its_end_is_left_out_and_told(
    what, perfect, folder, capsys
):
    results, out = folder / 'results', folder / 'out.zarr'
    shutil.copytree(perfect[0] / 'results', results)
    if what == 'incomplete':
        shutil.copytree(perfect[0] / 'out.zarr', out)
        shutil.rmtree(out / '0' / '0')  # chunks that a killed writer has not reached
    claim = read_claim(results / 'assembly' / MANIFEST)
    write_claim(results / 'assembly' / MANIFEST, {**claim, 'output': f'zarr://{out}'})
    if what == 'incomplete':
        write_stamp(f'zarr://{out}', 'a stamp', complete=False)
    page, numbers = report(folder, results)
    _, whole = report(folder / 'tables', results, '--tables_only')
    assert headings(page) == [
        *('Worth a look', 'Sizes', 'Fill', 'Borders between subvolumes', 'Time')
    ]
    told = numbers['concerns'][0]['text']
    assert 'the volume is not read, and numbers of objects are those of the tables: ' in told
    assert f'{out}' in told
    assert capsys.readouterr().out.startswith(f'{told}\n')
    assert (
        page.count(str(markupsafe.escape(told))) == 2
    )  # the row "state", and what is worth a look
    assert 'ffn view --labels' not in page
    assert {**numbers, 'concerns': numbers['concerns'][1:]} == whole
    if what == 'incomplete':
        for named in ([f'zarr://{out}'], [results, '--volume', f'zarr://{out}']):
            with pytest.raises(UserError, match='zarr is not complete'):
                report(folder, *named)


def test_merges_and_links(perfect, folder):
    rows = [f'{i},{i + 1},3,{i},2,3,{int(i > 3)},0.{i}000,' for i in range(1, 8)]
    merges = folder / 'merges'
    merges.mkdir()
    write_merges(merges, *rows, header=HEADER)
    page, numbers = report(folder, merges)
    assert headings(page) == ['Worth a look', 'Merges by agglomeration']
    assert (numbers['joins']['accepted'], numbers['joins']['rejected']) == (4, 3)
    assert '<code>4,2,3</code>' in page
    run, _ = perfect
    page, numbers = report(folder, run / 'results', '--tables_only', '--merges', merges)
    assert numbers['joins']['accepted'] == 4
    assert 'Time' in headings(page)
    assert f'<code>ffn view --labels zarr://{run}/out.zarr --position 4,2,3</code>' in page


def test_the_command_that_shows_it_has_the_voxel_size_that_was_given(folder):
    with h5py.File(folder / 'plain.h5', 'w') as file:
        file['labels'] = np.arange(60, dtype=np.uint32).reshape(3, 4, 5) // 7
    page, _ = report(folder, f'{folder}/plain.h5:labels', '--voxel_size', '4,5,30.5')
    assert f'ffn view --labels {folder}/plain.h5:labels --voxel_size 4,5,30.5' in page


def test_an_empty_volume_is_worth_a_look(folder, capsys, caplog):
    with h5py.File(folder / 'v.h5', 'w') as file:
        file['labels'] = np.full((4, 6, 9), -1, np.int64)
    page, numbers = report(folder, f'{folder}/v.h5:labels')
    assert numbers['filled_fraction'] == 0
    assert numbers['concerns'][0]['text'] == 'no voxel has a label: there is no object'
    assert 'no voxel has a label' in page
    printed = capsys.readouterr().out
    assert '0 objects, 0 voxels, 0.0% of the box' in printed
    assert '1 things are worth a look' in printed
    assert f'{folder}/v.h5:labels: 216 of 216 voxels (100.0 %) are not labelled' in caplog.text


def test_links_to_a_server(folder):
    rows = ['4,5,3,1,2,3,1,0.5,']
    page, _ = report(
        *(folder, write_merges(folder, *rows), '--volume', 'precomputed://gs://bucket/labels'),
        *('--tables_only', '--viewer_url', 'https://viewer.example'),
    )
    links = [html.unescape(url) for url in re.findall('href="([^"]+)"', page)]
    assert len(links) == 1
    assert links[0].startswith('https://viewer.example/#!%7B%22position%22%3A%5B1.5%2C2.5%2C3.5')


def test_what_cannot_be_reported(folder):
    for arguments, message in (
        ([folder / 'nothing.h5:a'], 'nothing.h5'),
        ([folder], 'holds'),
        ([folder, '--merges', folder], 'holds no merges.csv'),
        ([folder, '--min_voxels', 0], '--min_voxels is 0'),
    ):
        with pytest.raises(UserError) as error:
            report(folder, *arguments)
        assert message in str(error.value)
        assert not (folder / 'page').exists()
