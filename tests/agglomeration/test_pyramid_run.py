"""A volume segmented from coarse to fine as a user does it, with networks whose weights are set by hand."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffn.cli import segment
from ffn.inference import storage
from ffn.utils.errors import UserError
from ffn.utils.npz import read_npz
from tests.assembly.whole import call, command, environment, finished, read
from tests.inference import flood

SHAPE_ZYX = (15, 31, 44)
# Two by one subvolumes; of the coarse volume, which is 22,15,7, one.
CUT = ('--subvolume_size', '28,31,15', '--overlap', '10,10,7')


def voxels(x: float, y: float, z: float) -> str:
    return f'voxel_size {{ x: {x} y: {y} z: {z} }}'


def prepare(folder: Path, network: Path, coarse: str = voxels(16, 16, 16)) -> np.ndarray:
    """Brings the network, a volume, the request with its voxel size, and coarse.pbtxt; returns the bodies."""
    flood.fill_folder(folder, network)
    labels = np.zeros(SHAPE_ZYX, np.uint32)
    # Far enough apart to be so at half the resolution as well.
    labels[2:14, 2:12, 2:42], labels[2:14, 20:30, 4:18], labels[2:14, 20:30, 26:42] = 1, 2, 3
    with h5py.File(folder / 'volume.h5', 'w') as file:
        file['raw'] = np.where(labels > 0, 255, 1).astype(np.uint8)
    text = (folder / 'request.pbtxt').read_text()
    seeds = 'seed_policy: "PolicyGrid3d" seed_policy_args: "{\\"step\\": 4, \\"offsets\\": [3]}"'
    text = text.replace('seed_policy: "PolicyPeaks"', seeds)
    (folder / 'request.pbtxt').write_text(text + voxels(8, 8, 8))
    lines = [line for line in text.splitlines() if not line.startswith('image {')]
    (folder / 'coarse.pbtxt').write_text('\n'.join(lines) + coarse)
    return labels


def arguments(folder: Path, *more: str) -> list[str]:
    request, coarse = (str(folder / name) for name in ('request.pbtxt', 'coarse.pbtxt'))
    return ['--inference_request', request, '--pyramid', coarse, *CUT, *more]


def steps(folder: Path) -> int:
    return json.loads((folder / 'counters.json').read_text())['predict-calls']


def check_bodies(found: np.ndarray, labels: np.ndarray) -> None:
    """Bodies are filled and little else, and none is joined with another."""
    assert np.mean(found[labels > 0] > 0) > 0.6
    assert np.mean(labels[found > 0] > 0) > 0.9
    for i in np.unique(found[found > 0]):
        assert len(np.unique(labels[(found == i) & (labels > 0)])) == 1


@pytest.fixture(scope='module')
def done(tmp_path_factory, flood_network):
    """The folder of a run in this process, and its truth."""
    folder = tmp_path_factory.mktemp('pyramid')
    labels = prepare(folder, flood_network)
    segment.main(arguments(folder, '--quiet', '--output', f'zarr://{folder}/whole'))
    return folder, labels


def test_the_fine_pass_continues_what_the_coarse_one_has_found(done):
    folder, labels = done
    found, results = read(f'zarr://{folder}/whole'), folder / 'results'
    assert found.shape == labels.shape
    check_bodies(found, labels)
    coarse = read(f'zarr://{results}/pyramid/labels.zarr')
    assert coarse.shape == (7, 15, 22)
    above = np.zeros(labels.shape, coarse.dtype)
    above[:14, :30] = coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    # Each coarse object is one object, and keeps its voxels.
    for i in np.unique(coarse[coarse > 0]):
        assert len(np.unique(found[above == i])) == 1
        assert found[above == i][0] > 0
    known = read_npz(storage.subvolumes(results)[0, 0, 0], ['init_segmentation_ids'], [])
    assert set(known['init_segmentation_ids'].tolist()) <= {0, *np.unique(coarse).tolist()}
    assert {path.name for path in (results / 'pyramid').iterdir()} == {
        'forward',
        'reverse',
        'consensus',
        'labels.zarr',
    }


def test_it_takes_fewer_steps(done, tmp_path, flood_network):
    folder, _ = done
    prepare(tmp_path, flood_network)
    text = (tmp_path / 'request.pbtxt').read_text()
    segment.main(
        ['--inference_request', text, *CUT, '--quiet', '--output', f'zarr://{tmp_path}/whole']
    )
    results = folder / 'results'
    forward = steps(results / 'pyramid' / 'forward')
    assert 0 < forward < steps(tmp_path / 'results') / 4
    assert steps(results) < steps(tmp_path / 'results') / 2


def test_again_with_nothing_to_do(done):
    folder, _ = done
    before, written = finished(folder), (folder / 'whole').stat().st_mtime_ns
    segment.main(arguments(folder, '--quiet', '--output', f'zarr://{folder}/whole'))
    assert (finished(folder), (folder / 'whole').stat().st_mtime_ns) == (before, written)


@pytest.mark.slow
def test_killed_in_each_pass(repository, tmp_path, flood_network, done):
    folder, _ = done
    prepare(tmp_path, flood_network)
    for stage in ('pyramid/forward', '.'):
        with (tmp_path / 'log').open('w') as log:
            running = subprocess.Popen(
                [*command(), '--pyramid', 'coarse.pbtxt', *CUT, '--output', 'zarr://whole'],
                cwd=tmp_path,
                env=environment(repository),
                stdout=log,
                stderr=log,
            )
            deadline = time.monotonic() + 200
            while not list((tmp_path / 'results' / stage).glob('*/*/seg-*.npz')):
                assert running.poll() is None, (tmp_path / 'log').read_text()
                assert time.monotonic() < deadline, (tmp_path / 'log').read_text()
                time.sleep(0.02)
            running.send_signal(signal.SIGKILL)
            running.wait()
    again = call(
        repository, tmp_path, '--pyramid', 'coarse.pbtxt', *CUT, '--output', 'zarr://whole'
    )
    assert again.returncode == 0, again.stderr
    assert (read(f'zarr://{tmp_path}/whole') == read(f'zarr://{folder}/whole')).all()


@pytest.mark.parametrize('size_zyx', [(1, 2, 2), (2, 2, 2)])
def test_an_image_of_its_own(tmp_path, flood_network, size_zyx):
    """Also one whose sections are as thick as those of the fine image, without the second order."""
    z, y, x = size_zyx
    extra = f'{voxels(8 * x, 8 * y, 8 * z)} image {{ hdf5: "{tmp_path}/coarse.h5:raw" }}'
    labels = prepare(tmp_path, flood_network, extra)
    with h5py.File(tmp_path / 'volume.h5') as file, h5py.File(tmp_path / 'coarse.h5', 'w') as own:
        whole = file['raw'][:14, :30]
        blocks = whole.reshape(14 // z, z, 30 // y, y, 44 // x, x)
        own['raw'] = blocks.mean(axis=(1, 3, 5)).astype(np.uint8)
    box = 'start { x: 3 y: 1 z: 0 } size { x: 40 y: 29 z: 14 }'
    segment.main(
        arguments(
            tmp_path,
            *('--nopyramid_consensus', '--quiet', '--bounding_box', box),
            *('--output', f'zarr://{tmp_path}/whole'),
        )
    )
    found = read(f'zarr://{tmp_path}/whole')
    assert not (tmp_path / 'results' / 'pyramid' / 'reverse').exists()
    assert not found[:, :1].any()
    truth = labels[:14, :30, :43]
    assert found.shape == truth.shape
    check_bodies(found[:, 1:, 3:], truth[:, 1:, 3:])


@pytest.mark.parametrize(
    ('coarse', 'words'),
    [
        (
            voxels(12, 12, 12),
            'are x,y,z 12,12,12, those of --inference_request 8,8,8; expected whole',
        ),
        (voxels(8, 8, 8), 'expected whole multiples, 2 or more along at least one axis'),
        (voxels(16, 16, 4), 'expected whole multiples'),
        ('', 'the voxel size of --pyramid is not known'),
        ('image { hdf5: "nowhere.h5:raw" }' + voxels(16, 16, 16), 'nowhere.h5'),
        ('no_such_field: 1', 'no field named "no_such_field"'),
    ],
)
def test_requests_that_do_not_fit(tmp_path, flood_network, coarse, words):
    prepare(tmp_path, flood_network, coarse)
    with pytest.raises(UserError) as caught:
        segment.main(arguments(tmp_path, '--quiet', '--output', f'zarr://{tmp_path}/whole'))
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'results').exists()


@pytest.mark.parametrize(
    ('dataset', 'resolution', 'words'),
    [
        ((7, 15, 22), [8, 8, 8], 'has voxels of x,y,z 8,8,8 nm'),
        ((7, 15, 18), [16, 16, 16], 'expected the same place'),
    ],
)
def test_images_that_do_not_fit(tmp_path, flood_network, dataset, resolution, words):
    extra = f'image {{ hdf5: "{tmp_path}/coarse.h5:raw" }}' + voxels(16, 16, 16)
    prepare(tmp_path, flood_network, extra)
    with h5py.File(tmp_path / 'coarse.h5', 'w') as own:
        own['raw'] = np.zeros(dataset, np.uint8)
        own['raw'].attrs['resolution'] = resolution
    with pytest.raises(UserError, match=words):
        segment.main(arguments(tmp_path, '--quiet', '--output', f'zarr://{tmp_path}/whole'))


def test_what_the_fine_pass_cannot_do_is_told_first(tmp_path, flood_network):
    prepare(tmp_path, flood_network)
    with pytest.raises(UserError, match='zarr://'):
        segment.main(arguments(tmp_path, '--quiet', '--output', f'{tmp_path}/whole'))
    coarse = (tmp_path / 'coarse.pbtxt').read_text()
    without = [line for line in coarse.splitlines() if not line.startswith('seed_policy')]
    (tmp_path / 'coarse.pbtxt').write_text('\n'.join(without))
    with pytest.raises(UserError, match='--pyramid does not set seed_policy'):
        segment.main(arguments(tmp_path, '--quiet', '--output', f'zarr://{tmp_path}/whole'))
    (tmp_path / 'coarse.pbtxt').write_text(coarse)
    text = (tmp_path / 'request.pbtxt').read_text()
    given = f'init_segmentation {{ hdf5: "{tmp_path}/volume.h5:raw" }}'
    (tmp_path / 'request.pbtxt').write_text(text + given)
    with pytest.raises(UserError, match='leave it out'):
        segment.main(arguments(tmp_path, '--quiet', '--output', f'zarr://{tmp_path}/whole'))
    assert not (tmp_path / 'results').exists()
