"""Outputs that cannot be written are refused before anything is read: here, no input exists."""

from __future__ import annotations

import importlib
import json
import sys

import h5py
import numpy as np
import pytest

from ffn.cli import compare, comparison_flags, evaluate
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.locks import exclusive_directory
from ffn.volumes.outputs import OutputSpec
from tests.calls import Unread

OF_TWO = ['--segmentation', 'none.h5:a', '--groundtruth', 'none.h5:b']
PROOFREAD = ['--labels', 'none.h5:a', '--edits', 'none.jsonl']
HELD_OUT = ['--inference_request', 'image { hdf5: "none.h5:a" }', '--labels', 'none.h5:b']
BOX = ['--bounding_box', 'start { x:0 y:0 z:0 } size { x:9 y:8 z:7 }']


@pytest.mark.parametrize(
    ('command', 'arguments', 'flag', 'output'),
    [
        ('evaluate', OF_TWO, '--json', 'file/scores.json'),
        ('evaluate', OF_TWO, '--html', 'file/a/scores.html'),
        ('compare', ['none.h5:a', 'none.h5:b'], '--json', 'file/scores.json'),
        ('compare', ['none.h5:a', 'none.h5:b'], '--html', 'file/scores.html'),
        ('held_out', [*HELD_OUT, *BOX], '--json', 'file/scores.json'),
        ('report', ['none.h5:a'], '--output', 'file/report.html'),
        ('queue', ['--labels', 'none.h5:a'], '--output', 'file/queue.csv'),
        ('queue', ['--labels', 'none.h5:a', '--output', 'q.csv'], '--objects', 'file/o.csv'),
        ('apply_edits', PROOFREAD, '--equivalences', 'file/e.csv'),
        ('apply_edits', PROOFREAD, '--examples', 'file/e.csv'),
        ('apply_edits', PROOFREAD, '--notes', 'file/n.csv'),
        ('import_labels', ['--input', 'none.h5'], '--output', 'file/l.h5:labels'),
        ('animate', ['--request', '', *BOX, '--start', '1,2,3'], '--output', 'file/f.gif'),
    ],
)
def test_told_at_once(tmp_path, monkeypatch, command, arguments, flag, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').touch()
    main = importlib.import_module(f'ffn.cli.{command}').main
    with pytest.raises(
        UserError, match=f'^{flag} .*file/.* cannot be written: .*file is not a folder'
    ):
        main([*arguments, flag, output])
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_sample_is_not_generated_for_nothing(tmp_path, monkeypatch):
    from ffn import synthetic
    from ffn.cli.synthetic import main

    monkeypatch.setattr(synthetic, 'generate', None)
    with pytest.raises(UserError, match=r'--output .* is a folder; expected a file'):
        main(['--size', '16,17,18', '--output', str(tmp_path)])


@pytest.mark.parametrize('url', ['gs://bucket/a.json', 's3://bucket/a.json'])
def test_a_url_is_named_as_it_is_typed(url):
    with pytest.raises(UserError, match=f'^--json {url} is a URL; expected a file of this machine'):
        evaluate.main([*OF_TWO, '--json', url])


def test_folders_and_volumes_below_a_file(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'file/out cannot be made: .*/file is not a folder'):
        with exclusive_directory(tmp_path / 'file' / 'out'):
            pytest.fail('entered')
    output = OutputSpec(
        f'zarr://{tmp_path}/file/out', Box(Xyz(0, 0, 0), Xyz(9, 8, 7)), Xyz(4, 4, 4)
    )
    with pytest.raises(UserError, match=r'file/out cannot be made: .*/file is not a folder'):
        output.check('--output_volume')


def of_one(folder, command):
    """Arguments that compare a volume with itself."""
    with h5py.File(folder / 'v.h5', 'w') as file:
        file['a'] = np.ones((4, 6, 9), np.uint8)
    spec = f'{folder}/v.h5:a'
    given = ['--segmentation', spec, '--groundtruth', spec] if command is evaluate else [spec, spec]
    return [*given, '--json', str(folder / 's.json'), '--quiet']


@pytest.mark.parametrize('command', [evaluate, compare])
def test_scores_are_printed_before_they_are_written(tmp_path, monkeypatch, capsys, command):
    """A disk may fill up meanwhile."""

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(comparison_flags, 'write_json', fail)
    with pytest.raises(OSError, match=r'No space left'):
        command.main(of_one(tmp_path, command))
    assert 'VOI' in capsys.readouterr().out


@pytest.mark.parametrize('command', [evaluate, compare])
def test_scores_that_cannot_be_printed_are_written(tmp_path, monkeypatch, command):
    pages = []
    monkeypatch.setattr(command, '_write_page', lambda *_: pages.append(1))
    monkeypatch.setattr(sys, 'stdout', Unread())
    with pytest.raises(BrokenPipeError):
        command.main([*of_one(tmp_path, command), '--html', str(tmp_path / 's.html')])
    assert json.loads((tmp_path / 's.json').read_text())['version']
    assert pages
