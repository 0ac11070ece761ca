"""The command `ffn view`, as a user calls it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from ffn.cli import view
from ffn.proofreading.viewing.browser import why_not
from ffn.utils.errors import UserError

pytest.importorskip('neuroglancer')


@pytest.fixture
def volume(tmp_path):
    """Path of a file with raw and labels."""
    path = tmp_path / 'volume.h5'
    _, y, x = np.mgrid[:20, :30, :40]
    with h5py.File(path, 'w') as file:
        file['raw'] = (100 + x + y).astype(np.uint8)
        file['labels'] = (1 + x // 20).astype(np.int64)
        for dataset in file.values():
            dataset.attrs['resolution'] = (40.0, 4.0, 4.0)
    return path


@pytest.mark.parametrize(
    ('argv', 'why'),
    [
        ([], 'nothing is given to show'),
        (['none.h5:raw'], 'none.h5'),
        (['VOLUME', '--pixels', '30'], '--pixels is .*30.*; expected width and height'),
        (['VOLUME', '--port', '70000'], '--port is 70000'),
        (['VOLUME', '--position', '1,2'], '--position is .1,2.; expected three integers x,y,z'),
        (['VOLUME', '--segments', '1,x'], '--segments is .1,x.; expected ids'),
        (['VOLUME', '--voxel_size', '0,1,1'], '--voxel_size'),
        (['--labels', 'RESULTS'], 'holds no Zarr'),
        (['--skeletons', 'RESULTS'], 'holds no skeletons'),
    ],
)
def test_mistakes(argv, why, volume, tmp_path):
    (tmp_path / 'empty').mkdir()
    words = {'VOLUME': f'{volume}:raw', 'RESULTS': str(tmp_path / 'empty')}
    with pytest.raises(UserError, match=why):
        view.main([words.get(word, word) for word in argv])


def test_without_the_package(monkeypatch, volume):
    monkeypatch.delitem(sys.modules, 'ffn.proofreading.viewing.viewer', raising=False)
    monkeypatch.setitem(sys.modules, 'neuroglancer', None)
    with pytest.raises(UserError, match=r'needs Neuroglancer .*flood-filling-networks\[view\]'):
        view.main([f'{volume}:raw'])


def start(tmp_path, repository, *argv):
    return subprocess.Popen(
        [sys.executable, '-m', 'ffn', 'view', *argv],
        cwd=tmp_path,
        env={'PYTHONPATH': str(repository), 'PATH': '/usr/bin:/bin'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_says_what_to_open_and_saves_the_state(volume, tmp_path, repository):
    argv = ('--image', 'volume.h5:raw', '--labels', 'volume.h5:labels', '--state', 'view.json')
    with start(tmp_path, repository, *argv, '--segments', '2', '--position', '3,4,5') as process:
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    token = line.strip().split('/')[-2]
    assert line == f'open http://127.0.0.1:{line.split(":")[2].split("/")[0]}/v/{token}/\n'
    assert len(token) == 40
    stored = json.loads((tmp_path / 'view.json').read_text())
    assert stored['shown'] == {'image': ['volume.h5:raw'], 'labels': ['volume.h5:labels']}
    assert token not in (tmp_path / 'view.json').read_text()
    layers = stored['state']['layers']
    assert [layer['name'] for layer in layers] == ['image', 'labels']
    assert layers[1]['segments'] == ['2']

    with start(tmp_path, repository, '--state', 'view.json') as process:
        assert process.stdout.readline().startswith('open http://127.0.0.1:')
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert json.loads((tmp_path / 'view.json').read_text()) == stored, said


def test_a_screenshot(volume, tmp_path, capsys):
    if reason := why_not():
        pytest.skip(reason)
    path = tmp_path / 'view.png'
    argv = ['--image', f'{volume}:raw', '--truth', f'{volume}:labels', '--layout', 'xy']
    view.main([*argv, '--screenshot', str(path), '--pixels', '320,240'])
    assert capsys.readouterr().out == f'written to {path}\n'
    picture = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert('RGB')).astype(int)
    assert picture.shape == (240, 320, 3)
    # Two labels, left and right of the middle, over an image that becomes brighter to the right.
    left, right = picture[130, 140], picture[130, 180]
    assert np.abs(left - right).max() > 40
    assert all(np.ptp(color) > 20 for color in (left, right))
