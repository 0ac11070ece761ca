"""The command `ffn held-out`, as a user calls it."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest

from ffn.cli.held_out import main
from ffn.evaluation.held_out_score import HEADER
from ffn.utils.errors import UserError
from tests.calls import Unread, check_one_line, run_python
from tests.inference import flood
from tests.loaded import run_loaded

BOX_TEXT = 'start { x: 2 y: 0 z: 1 } size { x: 36 y: 26 z: 19 }'


@pytest.fixture
def folder(trained_folder):
    return trained_folder


def step(folder: Path, number: int) -> str:
    return str(folder / 'flood' / f'model.ckpt-{number}')


def arguments(folder, *more):
    flood.write_request(folder)
    return [
        '--inference_request',
        str(folder / 'request.pbtxt'),
        '--bounding_box',
        BOX_TEXT,
        '--labels',
        f'{folder}/volume.h5:labels',
        *more,
    ]


def test_the_command_line_scores_several(folder, capsys):
    (folder / 'flood' / 'model.ckpt-3.input-00000-of-00001').touch()
    found = sorted(map(str, (folder / 'flood').glob('model.ckpt-*')))
    scores = main(arguments(folder, '--json', f'{folder}/scores.json', '--checkpoint', *found))
    assert list(scores) == [step(folder, n) for n in (1, 2, 3)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [*HEADER.split(), 'checkpoint']
    assert [line.split()[-1] for line in lines[1:4]] == list(scores)
    assert lines[4:] == [f'least Rand error: {step(folder, 1)}']
    report = json.loads((folder / 'scores.json').read_text())
    assert report['box'] == {'start_xyz': [2, 0, 1], 'size_xyz': [36, 26, 19]}
    assert report['scores'] == [
        {'checkpoint': name, **dataclasses.asdict(score)} for name, score in scores.items()
    ]


def test_the_command_line_takes_the_checkpoint_of_the_request(folder, capsys):
    ((name, score),) = main(
        arguments(folder, '--inference_options', 'segment_threshold: 0.5', '--max_steps=5')
    ).items()
    assert name == str(folder / 'flood')  # its last one
    assert (score.steps, score.complete) == (5, False)
    assert 'stopped at a limit' in capsys.readouterr().out
    text = (folder / 'request.pbtxt').read_text()
    lines = [line for line in text.splitlines() if 'checkpoint_path' not in line]
    given = arguments(folder)
    (folder / 'request.pbtxt').write_text('\n'.join(lines))
    with pytest.raises(UserError, match='give --checkpoint, or model_checkpoint_path'):
        main(given)


def test_a_score_that_cannot_be_printed_is_written(folder, monkeypatch):
    given = ['--max_steps=5', '--json', f'{folder}/scores.json']
    monkeypatch.setattr(sys, 'stdout', Unread())
    with pytest.raises(BrokenPipeError):
        main(arguments(folder, *given))
    (score,) = json.loads((folder / 'scores.json').read_text())['scores']
    assert score['steps'] == 5


def test_the_command_itself(repository, folder):
    # Set where this process has loaded TensorFlow, it would show messages.
    env = {name: v for name, v in os.environ.items() if name != 'TF_CPP_MIN_LOG_LEVEL'}

    def run(by, *more):
        words = '-m', 'ffn.evaluation.held_out', *arguments(folder, *more)
        return by(folder, *words, env={**env, 'PYTHONPATH': str(repository)})

    done = run(run_python, '--checkpoint', step(folder, 1))
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()  # background is -1
    assert line.endswith(
        'labels: 9460 of 17784 voxels (53.2 %) are not labelled; they are background'
    )
    assert done.stdout.splitlines()[1].endswith(step(folder, 1))
    done = run(run_loaded, '--checkpoint', step(folder, 8))
    check_one_line(done.returncode, done.stderr, 'model.ckpt-8')
