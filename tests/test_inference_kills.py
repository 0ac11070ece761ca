"""Inference killed with SIGKILL at any moment and started again ends as if it never had been."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.calls import run_python
from tests.inference.results import check_same, whole_result

MOMENTS = [
    f'{when}:{ending}'
    for ending in ('cpoint', 'prob', 'npz')
    for when in ('half', 'before', 'after')
]


def killed(repository: Path, folder: Path, kills: int, moments: list[str], *boxes: str) -> dict:
    """Runs tests.inference.killed; returns what the kills met."""
    folder.mkdir()
    done = run_python(
        repository, '-m', 'tests.inference.killed', str(folder), str(kills), '7', *moments, *boxes
    )
    log = folder / 'log'
    assert done.returncode == 0, (done.stderr, log.exists() and log.read_text())
    met = json.loads(done.stdout)
    assert met['frameworks'] == []
    assert met['random killed'] == kills if kills else 'random killed' not in met
    assert all(met[f'{moment} killed'] == 1 for moment in moments)
    assert met['end 0'] == 1
    assert not list(folder.rglob('*.aside'))
    # Once there is a checkpoint, there always is one, or the result.
    assert met.get('lost', 0) == 0
    return met


@pytest.fixture(scope='module')
def left_alone(repository, tmp_path_factory):
    """The folder of a run that nobody kills, of one box and of two."""
    folder = tmp_path_factory.mktemp('alone') / 'run'
    killed(repository, folder, 0, [], BOX, *BOXES)
    return folder / 'results'


BOX = '0,0,0,54,38,26'
BOXES = ('1,0,0,30,38,26', '25,3,2,29,35,24')


def test_killed_at_random_and_while_files_are_written(repository, tmp_path, left_alone):
    met = killed(repository, tmp_path / 'run', 25, MOMENTS, BOX)
    assert met['before a checkpoint'] >= 1
    assert met['in mid-object'] >= 10
    assert met['resumed'] >= 15
    check_same(whole_result(tmp_path / 'run' / 'results'), whole_result(left_alone))
    expected = whole_result(left_alone)
    assert any(ids for ids, _ in expected['overlaps'].values())
    assert len(np.unique(expected['qprob'])) > 4


def test_killed_with_two_boxes_at_work(repository, tmp_path, left_alone):
    moments = ['before:cpoint', 'half:cpoint', 'half:npz', 'after:npz']
    met = killed(repository, tmp_path / 'run', 6, moments, *BOXES)
    assert met['in mid-object'] >= 6
    for corner_zyx in ((0, 0, 1), (2, 3, 25)):
        check_same(
            whole_result(tmp_path / 'run' / 'results', corner_zyx),
            whole_result(left_alone, corner_zyx),
        )


def test_a_checkpoint_does_not_outlive_its_result(repository, tmp_path):
    """Killed between the two, the next run has nothing to do but to tidy up."""
    killed(repository, tmp_path / 'run', 0, ['after:cpoint', 'after:npz'], '3,4,5,22,20,15')
    assert list(tmp_path.rglob('seg-3_4_5.npz'))
    assert not list(tmp_path.rglob('*.cpoint'))


# The same through the script, whose every start takes seconds.


def write_large_volume(folder: Path) -> tuple[Path, str]:
    """Writes twelve of the flood network's volumes side by side as one; returns request and box."""
    from tests.inference import flood  # loads Keras

    flood.write_volume(folder)
    with h5py.File(folder / 'volume.h5', 'r+') as file:
        one = file['raw'][:]
        del file['raw']
        file['raw'] = whole = np.tile(one, (1, 3, 4))
    z, y, x = whole.shape
    box = f'start {{ x: 0 y: 0 z: 0 }} size {{ x: {x} y: {y} z: {z} }}'
    return Path(flood.write_request(folder)), box


class ScriptKiller:
    """Starts run_inference.py and kills it."""

    def __init__(self, repository: Path, folder: Path, *arguments: str):
        self._folder = folder
        self._command = [
            sys.executable,
            str(repository / 'run_inference.py'),
            '--inference_request=request.pbtxt',
            *arguments,
        ]
        self._left_over: set[Path] = set()
        self.resumed = 0

    def run(self) -> None:
        done = run_python(self._folder, *self._command[1:], timeout=600)
        assert done.returncode == 0, done.stderr

    def kill(self, until, delay: float) -> bool:
        """Kills a run `delay` seconds after until(its log) holds; whether it was still there."""
        self._left_over = set(self._folder.glob('results/*/*/.seg-*'))
        with open(self._folder / 'log', 'w') as log:
            process = subprocess.Popen(
                self._command, cwd=self._folder, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            end = time.monotonic() + 300
            while process.poll() is None and not until((self._folder / 'log').read_text()):
                assert time.monotonic() < end
                time.sleep(0.001)
            time.sleep(delay)
            there = process.poll() is None
        finally:
            process.kill()
            process.wait()
        text = (self._folder / 'log').read_text()
        assert 'Traceback' not in text, text
        assert there or process.returncode == 0, text
        self.resumed += 'going on from' in text
        return there

    def being_written(self, ending: str) -> bool:
        """Whether this run is writing such a file; those killed before have left some behind."""
        found = self._folder.glob(f'results/*/*/.seg-*.{ending}.*.tmp')
        return bool(set(found) - self._left_over)


@pytest.mark.slow
@pytest.mark.parametrize(('boxes', 'kills'), [(1, 20), (2, 5)])
def test_the_script_is_killed(repository, tmp_path, flood_network, boxes, kills):
    (tmp_path / 'flood').symlink_to(flood_network)
    request, box = write_large_volume(tmp_path)
    arguments, corners = [f'--bounding_box={box}'], [(0, 0, 0)]
    if boxes == 2:
        request.write_text(request.read_text() + 'concurrent_requests: 2 batch_size: 2\n')
        other = box.replace('start { x: 0', 'start { x: 13')
        arguments = [f'--bounding_boxes=box {{ {box} }} box {{ {other} }}']
        corners.append((0, 0, 13))
    killer, rng = ScriptKiller(repository, tmp_path, *arguments), random.Random(11)
    killer.run()
    (tmp_path / 'results').rename(tmp_path / 'alone')

    assert killer.kill(lambda log: True, rng.uniform(0, 4))
    for number in range(1, kills):
        match number % 3:
            case 0:
                until, longest = (lambda log: killer.being_written('cpoint')), 0.01
            case 1:
                until, longest = (lambda log: 'saved checkpoint' in log), 1.0
            case _:
                until, longest = (lambda log: 'runs on' in log), 1.0
        if not killer.kill(until, rng.uniform(0, longest)):  # on a fast machine
            assert number > kills // 4, f'ended before kill {number}'
            break
    assert killer.resumed >= number // 2
    killer.kill(lambda log: killer.being_written('npz'), 0)
    killer.run()
    for corner_zyx in corners:
        check_same(
            whole_result(tmp_path / 'results', corner_zyx),
            whole_result(tmp_path / 'alone', corner_zyx),
        )
