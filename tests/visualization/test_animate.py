"""The command `ffn animate`, as a user calls it."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ffn.cli import animate
from ffn.utils import errors
from ffn.visualization import animation
from tests.calls import check_one_line
from tests.inference import flood

BOX = 'start { x: 1 y: 2 z: 0 } size { x: 36 y: 24 z: 20 }'
START = '10,18,5'  # in body 2


@pytest.fixture
def folder(flood_folder, monkeypatch):
    """Where everything is called from."""
    monkeypatch.chdir(flood_folder)
    return flood_folder


def arguments(*more, box=BOX, start=START, output='flood.gif'):
    return [
        '--request=request.pbtxt',
        f'--bounding_box={box}',
        f'--start={start}',
        f'--output={output}',
        *more,
    ]


def call(capsys, *more, **options):
    """Calls the tool in this process; returns the only line that it prints."""
    animate.main(arguments(*more, **options))
    (line,) = capsys.readouterr().out.splitlines()
    return line


def frames(path):
    """All frames as int [rows, columns, 3], and for how long each is shown."""
    pictures, milliseconds = [], []
    with Image.open(path) as gif:
        assert gif.format == 'GIF'
        assert gif.info['loop'] == 0
        for i in range(gif.n_frames):
            gif.seek(i)
            pictures.append(np.asarray(gif.convert('RGB')).astype(int))
            milliseconds.append(gif.info['duration'])
    return pictures, milliseconds


def orange(picture):
    return np.count_nonzero(picture[..., 0] > picture[..., 2] + 60)


def test_as_a_user_calls_it(folder):
    flood.write_request(folder, flood.THOROUGH)
    done = subprocess.run(
        [
            sys.executable,
            '-W',
            'error:::ffn',
            '-m',
            'ffn.visualization.animate',
            *arguments('--every=10', '--quiet'),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        # Other tests, of this process, may have set it: then nothing is hidden.
        env={name: value for name, value in os.environ.items() if name != 'TF_CPP_MIN_LOG_LEVEL'},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    truth = flood.write_volume(folder)
    match = re.fullmatch(
        r'flood\.gif, (\d+) frames: (\d+) steps, (\d+) voxels; the start stayed above the move '
        r'threshold \(\d\.\d+, threshold 0\.900\)\n',
        done.stdout,
    )
    shown, steps, voxels = map(int, match.groups())
    # What body 2 has in the box, but for corners that the network does not reach.
    assert 0.9 < voxels / np.count_nonzero(truth[:20, 2:26, 1:37] == 2) <= 1
    assert steps > 100
    assert shown == len({*range(1, steps + 1, 10), steps})
    pictures, milliseconds = frames(folder / 'flood.gif')
    assert len(pictures) == shown
    assert len({picture.shape for picture in pictures}) == 1
    assert orange(pictures[-1]) > 2 * orange(pictures[0]) > 0
    assert set(milliseconds[:-1]) == {100}
    assert milliseconds[-1] == 2000
    assert not list(folder.glob('.flood*'))
    assert not (folder / 'results').exists()


def test_long_floods_have_fewer_frames(folder, capsys):
    line = call(capsys, '--max_frames=8', '--scale=2', '--follow')
    few, _ = frames('flood.gif')
    assert 4 <= len(few) <= 8
    assert f'{len(few)} frames' in line
    line = call(capsys, '--max_steps=7', '--every=3', '--scale=5', output='made/by/it.GIF')
    pictures, _ = frames('made/by/it.GIF')
    assert '3 frames: 7 steps' in line
    assert 'stopped before its end' in line
    assert len(pictures) == 3
    height = [5 * 24, 2 * 24]
    assert pictures[0].shape[0] - few[0].shape[0] == height[0] - height[1]


def test_a_start_in_the_dark_is_told(folder, capsys):
    line = call(capsys, start='14,11,11')
    assert re.search(r'1 frames: 1 steps, \d+ voxels; the start fell below', line)
    assert 'weak' in line


MISTAKES = [
    ({'start': '10,18'}, (), ['--start', "'10,18'", 'x,y,z']),
    ({'start': 'middle'}, (), ['--start', "'middle'"]),
    (
        {'start': '10,18,1'},
        (),
        [
            'x,y,z 10,18,1',
            'z,y,x 1,18,10',
            'x,y,z 4,4,2',
            'z,y,x 2,4,4',
            'x,y,z 33,23,17',
            'z,y,x 17,23,33',
        ],
    ),
    ({'start': '5,18,300'}, (), ['z,y,x 300,18,5', 'x,y,z 33,23,17']),
    ({'output': 'flood.png'}, (), ['flood.png', '.gif']),
    ({'output': 'volume.h5/flood.gif'}, (), ['volume.h5']),
    ({'box': 'start { x: 0 }'}, (), ['start and size']),
    ({'box': 'start { x: 0 y: 0 z: 0 } size { x: 38 y: 26 z: 4 }'}, (), ['38,26,4']),
    ({'box': 'start { x: 50 y: 0 z: 0 } size { x: 38 y: 26 z: 4 }'}, (), ['x,y,z 50,0,0']),
    ({}, ('--request=none.pbtxt',), ['none.pbtxt']),
    ({}, ('--request=weak.pbtxt',), ['init_activation']),
    ({}, ('--every=0',), ['--every is 0']),
    ({}, ('--max_frames=1',), ['--max_frames is 1', '2 or more']),
    ({}, ('--max_steps=0',), ['--max_steps is 0']),
    ({}, ('--scale=-1',), ['--scale is -1']),
]


def test_mistakes_get_one_line(folder, capsys):
    (folder / 'flood.gif').write_bytes(b'an earlier one')
    text = (folder / 'request.pbtxt').read_text()
    weak = text.replace('init_activation: 0.95', 'init_activation: 0.8')
    (folder / 'weak.pbtxt').write_text(weak)
    for options, more, words in MISTAKES:
        status = errors.exit_status(lambda: animate.main(arguments(*more, **options)))
        shown = capsys.readouterr()
        check_one_line(status, shown.err, *words, what=(options, more))
        assert shown.out == ''
    assert (folder / 'flood.gif').read_bytes() == b'an earlier one'
    assert not list(folder.glob('.*'))


def test_a_failure_leaves_what_was_there(folder, monkeypatch):
    (folder / 'flood.gif').write_bytes(b'an earlier one')

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(animation, 'write_gif', interrupted)
    assert errors.exit_status(lambda: animate.main(arguments('--max_steps=1'))) == 130
    assert (folder / 'flood.gif').read_bytes() == b'an earlier one'
    assert not list(folder.glob('.*'))


def test_the_progress_bar_is_for_a_terminal_only(folder, capsys, monkeypatch):
    call(capsys, '--max_steps=1')
    assert capsys.readouterr().err == ''
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    animate.main(arguments('--max_steps=2'))
    assert 'growing' in capsys.readouterr().err
    animate.main(arguments('--max_steps=2', '--quiet'))
    assert 'growing' not in capsys.readouterr().err
