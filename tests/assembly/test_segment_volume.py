"""A whole volume segmented as a user does it: here, on Dask, killed and started again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from ffn.cli import segment
from ffn.inference import box_run, inference_pb2, storage
from ffn.utils.errors import UserError
from ffn.volumes import provenance
from tests.assembly.whole import CUT, call, command, environment, fill, finished, read
from tests.calls import check_one_line, run_python


@pytest.fixture(scope='module')
def alone(repository, tmp_path_factory, flood_network):
    """The folder of a run in one process, its truth and its command's output."""
    folder = tmp_path_factory.mktemp('alone')
    labels = fill(folder, flood_network)
    done = call(repository, folder, *CUT, '--output', 'zarr3://whole', by=run_python)
    assert done.returncode == 0, done.stderr
    return folder, labels, done


def test_one_process(alone):
    folder, labels, done = alone
    found = read(f'zarr3://{folder}/whole')
    assert found.shape == labels.shape
    for i in np.unique(found[found > 0]):
        assert len(np.unique(labels[found == i])) == 1
        assert labels[found == i][0] > 0
    assert np.mean(found[labels > 0] > 0) > 0.8
    assert len(finished(folder)) == 9
    statistics = json.loads((folder / 'results/assembly/statistics.json').read_text())
    assert statistics['subvolumes'] == 9
    assert statistics['pairs_of_subvolumes'] == 6 + 6
    assert statistics['voxels'] == np.count_nonzero(found)
    sizes = np.unique(found[found > 0], return_counts=True)[1]
    assert statistics['largest'] == sorted(sizes.tolist(), reverse=True)[:10]
    assert statistics['objects_in_cores'] == len(sizes)
    assert f'{len(sizes)} objects, {np.mean(found > 0):.1%} of the box' in done.stdout
    assert '3×3×1 subvolumes' in done.stderr
    # Bodies that go through several subvolumes are one object: most of each is.
    for body in np.unique(labels[labels > 0]):
        parts = np.bincount(found[(labels == body) & (found > 0)].astype(int))
        assert parts.max() > 0.6 * parts.sum()


def test_again_with_nothing_to_do(repository, alone):
    folder, _, _ = alone
    before, written = finished(folder), (folder / 'whole').stat().st_mtime_ns
    done = call(repository, folder, *CUT, '--output', 'zarr3://whole')
    assert done.returncode == 0, done.stderr
    assert '0 subvolumes to segment, 9 are there' in done.stderr
    assert 'overlaps of 0 subvolumes counted' in done.stderr
    assert 'blocks of 0 subvolumes written' in done.stderr
    assert (finished(folder), (folder / 'whole').stat().st_mtime_ns) == (before, written)


@pytest.mark.slow
def test_worker_and_client_killed_on_dask(repository, tmp_path, flood_network, alone):
    """Two processes give what one gives, whatever is killed, and nothing is made twice."""
    folder, _, _ = alone
    fill(tmp_path, flood_network)
    arguments = (*CUT, '--output', 'zarr3://whole', '--scheduler', 'local', '--workers', '2')
    with (tmp_path / 'log').open('w') as log:
        client = subprocess.Popen(
            command(*arguments), cwd=tmp_path, env=environment(repository), stdout=log, stderr=log
        )
        try:
            wait_for(tmp_path, client, 2)
            workers = [
                child
                for child in psutil.Process(client.pid).children(recursive=True)
                if 'spawn_main' in ' '.join(child.cmdline())
            ]
            assert len(workers) == 2
            after_two = finished(tmp_path)
            workers[0].kill()
            wait_for(tmp_path, client, 4)
            workers = psutil.Process(client.pid).children(recursive=True)
        finally:
            client.kill()
            client.wait()
    assert 1 <= 9 - len(finished(tmp_path)) <= 5
    # The workers notice that they are alone.
    assert not psutil.wait_procs(workers, timeout=60)[1]
    before = finished(tmp_path)
    assert len(before) < 9
    done = call(repository, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert f'{9 - len(before)} subvolumes to segment, {len(before)} are there' in done.stderr
    assert re.search(r"Dask's dashboard: http://\S+", done.stderr)
    after = finished(tmp_path)
    assert {**after, **before} == after
    assert {**after, **after_two} == after
    assert len(after) == 9
    assert (read(f'zarr3://{tmp_path}/whole') == read(f'zarr3://{folder}/whole')).all()
    assert not list((tmp_path / 'results').rglob('*.tmp'))


def wait_for(folder: Path, client: subprocess.Popen, count: int) -> None:
    """Waits until so many subvolumes are finished."""
    deadline = time.monotonic() + 200
    while len(finished(folder)) < count:
        assert client.poll() is None, (folder / 'log').read_text()
        assert time.monotonic() < deadline, (folder / 'log').read_text()
        time.sleep(0.02)


def test_stopped_by_sigterm(repository, tmp_path, flood_network, alone):
    folder, _, _ = alone
    fill(tmp_path, flood_network)
    arguments = (*CUT, '--output', 'out.h5:seg')
    with (tmp_path / 'log').open('w') as log:
        client = subprocess.Popen(
            command(*arguments), cwd=tmp_path, env=environment(repository), stdout=log, stderr=log
        )
        wait_for(tmp_path, client, 1)
        time.sleep(0.3)  # the next one has begun
        client.send_signal(signal.SIGTERM)
        assert client.wait(60) == 128 + signal.SIGTERM
    assert 'stopped; run again to resume' in (tmp_path / 'log').read_text()
    assert not (tmp_path / 'out.h5').exists()
    assert list((tmp_path / 'results').rglob('*.cpoint'))
    done = call(repository, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert (read(f'{tmp_path}/out.h5:seg') == read(f'zarr3://{folder}/whole')).all()
    assert not list((tmp_path / 'results').rglob('*.cpoint'))


@pytest.mark.slow
def test_worker_and_client_termination_signals(repository, tmp_path, flood_network, alone):
    """As batch systems do at the end of a job's time: others go on where they were."""
    folder, _, _ = alone
    fill(tmp_path, flood_network)
    file, running = tmp_path / 'scheduler.json', []

    def start(*words: str) -> subprocess.Popen:
        running.append(
            subprocess.Popen(
                words, cwd=tmp_path, env=environment(repository), stdout=log, stderr=log
            )
        )
        return running[-1]

    def start_dask(*words: str) -> subprocess.Popen:
        own = ('--scheduler-file', str(file), '--dashboard-address', ':0')
        return start(sys.executable, '-m', 'dask', *words, *own)

    with (tmp_path / 'log').open('w') as log:
        try:
            start_dask('scheduler', '--port', '0')
            deadline = time.monotonic() + 60
            while not file.exists():
                assert time.monotonic() < deadline
                time.sleep(0.1)
            first = start_dask('worker', '--nthreads', '1')
            client = start(*command(*CUT, '--output', 'out.h5:seg', '--scheduler', str(file)))
            wait_for(tmp_path, client, 1)
            time.sleep(0.3)  # the next one has begun
            first.terminate()
            first.wait(60)
            assert list((tmp_path / 'results').rglob('*.cpoint'))
            before = len(finished(tmp_path))
            start_dask('worker', '--nthreads', '1')
            wait_for(tmp_path, client, before + 1)
            time.sleep(0.3)
            client.terminate()
            assert client.wait(60) == 128 + signal.SIGTERM
            assert 'stopped; run again to resume' in (tmp_path / 'log').read_text()
            assert list((tmp_path / 'results').rglob('*.cpoint'))
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(60)
    # Where the rest is done does not matter.
    done = call(repository, tmp_path, *CUT, '--output', 'out.h5:seg')
    assert done.returncode == 0, done.stderr
    assert (read(f'{tmp_path}/out.h5:seg') == read(f'zarr3://{folder}/whole')).all()


# Mistakes.


def refused(folder: Path, *arguments: str, threshold: float = 0.9, at: Path | None = None) -> str:
    """Calls the command in this process, with results elsewhere; returns what it refuses with."""
    text = (folder / 'request.pbtxt').read_text()
    text = text.replace('move_threshold: 0.9', f'move_threshold: {threshold}')
    text = text.replace(f'{folder}/results', f'{at or folder}/results')
    with pytest.raises(UserError) as caught:
        segment.main(['--inference_request', text, '--quiet', *arguments])
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_other_settings_are_refused(alone):
    folder, _, _ = alone
    whole = ('--output', f'zarr3://{folder}/whole')
    other = refused(folder, *CUT, *whole, threshold=0.8)
    assert 'request.inference_options.move_threshold is 0.9 there and 0.8 here' in other
    other = refused(folder, *CUT[:3], '12,14,10', *CUT[4:], *whole)
    assert 'tiling.overlap_xyz is [12, 12, 10] there and [12, 14, 10] here' in other
    other = refused(folder, *CUT, *whole, '--min_overlap_voxels', '7')
    assert 'matching.min_voxels is 50 there and 7 here' in other
    mask = 'masks { coordinate_expression { expression: "x < 5" } }'
    assert 'masks is' in refused(folder, *CUT, *whole, '--mask', mask)


def test_an_image_that_was_imported_anew_is_refused(alone, tmp_path):
    """And a mask of the command line; half of the subvolumes would be those of the former ones."""
    folder, _, _ = alone
    shutil.copytree(folder / 'results', tmp_path / 'results')
    record = tmp_path / 'results' / 'manifest.json'
    claimed = provenance.read_claim(record)
    assert claimed['image_made_from'] == ''
    assert claimed['image_written'].startswith('volume.h5 of ')
    record.unlink()
    provenance.claim(record.parent, {**claimed, 'image_made_from': 'A'})
    said = refused(folder, *CUT, '--output', f'zarr3://{tmp_path}/whole', at=tmp_path)
    assert 'holds results of other inputs: image_made_from is A there and empty here' in said


def test_missing_chunks_of_a_mask_are_refused(alone, tmp_path):
    folder, _, _ = alone
    with h5py.File(tmp_path / 'mask.h5', 'w') as file:
        mask = file.create_dataset('mask', (20, 52, 76), np.uint8, chunks=(10, 13, 19))
        mask[:10, :13, :19] = 1
    text = f'masks {{ volume {{ mask {{ hdf5: "{tmp_path}/mask.h5:mask" }} channels {{ values: 1 }} }} }}'
    whole = ('--output', f'zarr3://{tmp_path}/whole', '--mask', text)
    said = refused(folder, *CUT, *whole, '--missing', 'error', at=tmp_path)
    assert 'mask.h5:mask: ' in said
    assert '--missing=error' in said


def test_subvolumes_of_another_request(alone, tmp_path):
    """As run_inference.py leaves them: those of the same request are taken, others are not."""
    folder, _, _ = alone
    shutil.copytree(
        folder / 'results', tmp_path / 'results', ignore=shutil.ignore_patterns('*.json')
    )
    text = (folder / 'request.pbtxt').read_text()
    text = text.replace(f'{folder}/results', f'{tmp_path}/results')
    arguments = ('--quiet', *CUT, '--output', f'zarr3://{tmp_path}/whole')
    with pytest.raises(UserError, match=r'subvolumes of another request: .*min_segment_size is 50'):
        segment.main(['--inference_request', text.replace('size: 50', 'size: 60'), *arguments])
    shutil.rmtree(tmp_path / 'results' / 'overlaps')
    shutil.rmtree(tmp_path / 'results' / 'assembly')
    before = finished(tmp_path)
    segment.main(['--inference_request', text, *arguments])
    assert finished(tmp_path) == before
    assert (read(f'zarr3://{tmp_path}/whole') == read(f'zarr3://{folder}/whole')).all()


def test_what_run_inference_left_is_taken(alone, tmp_path, monkeypatch):
    """Also where its request named files from where it was, and a folder of checkpoints."""
    folder, _, _ = alone
    for name in ('flood', 'volume.h5'):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)
    text = (folder / 'request.pbtxt').read_text().replace(f'{folder}/', '')
    box_run.segment(text, 'start { x:0 y:0 z:0 } size { x:40 y:24 z:20 }', quiet=True)
    before = finished(tmp_path)
    assert len(before) == 1
    segment.main(['--inference_request', text, '--quiet', *CUT, '--output', 'zarr3://whole'])
    after = finished(tmp_path)
    assert {**after, **before} == after
    assert (read(f'zarr3://{tmp_path}/whole') == read(f'zarr3://{folder}/whole')).all()


def test_what_run_inference_left_with_another_request(alone, tmp_path):
    """All of it is looked at, in either layout, before anything is segmented."""
    folder, _, _ = alone
    (tmp_path / 'results').mkdir()
    paths = sorted((folder / 'results').glob('*/*/seg-*.npz'))
    for path in paths[:2]:
        shutil.copy(path, tmp_path / 'results')
    other = inference_pb2.InferenceRequest.FromString(
        np.load(paths[2], allow_pickle=True)['request'].item()
    )
    other.inference_options.min_segment_size = 2000
    labels = np.zeros((5, 5, 5), np.uint8)
    made_with = other.SerializeToString()
    storage.save_result(tmp_path / 'results', (0, 0, 99), labels, {}, made_with, {}, {})
    said = refused(folder, *CUT, '--output', f'zarr3://{tmp_path}/whole', at=tmp_path)
    assert 'min_segment_size is 2000 there and 50 here' in said
    assert not (tmp_path / 'results' / 'manifest.json').exists()


def test_foreign_subvolumes_of_another_size_are_told_first(alone, tmp_path):
    folder, _, _ = alone
    labels = np.zeros((15, 15, 14), np.uint8)
    storage.save_result(tmp_path / 'results', (0, 0, 0), labels, {}, b'', {}, {})
    said = refused(folder, *CUT, '--output', f'zarr3://{tmp_path}/whole', at=tmp_path)
    assert 'exists with a size of x,y,z 14,15,15' in said
    assert len(finished(tmp_path)) == 1


def test_an_output_that_cannot_be_written_is_refused_at_once(alone, tmp_path, monkeypatch):
    folder, _, _ = alone
    monkeypatch.setattr(os, 'access', lambda path, mode: 'ro' not in Path(path).parts)
    (tmp_path / 'ro').mkdir()
    for spec in (f'zarr://{tmp_path}/ro/whole', f'{tmp_path}/ro/whole.h5:labels'):
        said = refused(folder, *CUT, '--output', spec, at=tmp_path)
        assert f'{tmp_path}/ro may not be written to' in said
    assert 'zarr://' in refused(folder, *CUT, '--output', f'{tmp_path}/whole', at=tmp_path)
    assert not finished(tmp_path)


def test_an_output_that_exists_is_refused(alone, tmp_path):
    folder, _, _ = alone
    (tmp_path / 'there').mkdir()
    (tmp_path / 'there' / 'notes.txt').touch()
    elsewhere = ('--assembly_dir', str(tmp_path / 'assembly'))
    said = refused(folder, *CUT, '--output', f'zarr://{tmp_path}/there', *elsewhere)
    assert f'--output zarr://{tmp_path}/there exists' in said
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['seg'] = np.zeros(3)
    assert 'exists' in refused(folder, *CUT, '--output', f'{tmp_path}/a.h5:seg', *elsewhere)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('--subvolume_size', '46,30,20', '--overlap', '0,12,10'), 'overlap is 0 along x'),
        (('--subvolume_size', '46,30,20', '--overlap', '12,31,10'), 'more than half'),
        (('--subvolume_size', '8,30,20', '--overlap', '4,12,10'), 'smaller than the field of view'),
        (('--subvolume_size', '8,30', '--overlap', '4,12,10'), '--subvolume_size'),
        ((*CUT[:4], '--min_fraction_smaller', '2'), 'min_fraction_smaller'),
        ((*CUT[:4], '--chunk_size', '0,1,1'), 'chunk size'),
        ((*CUT[:4], '--voxel_size', '1,2'), '--voxel_size'),
        ((*CUT[:4], '--workers', '-1'), '--workers'),
        ((*CUT, '--bounding_box', 'start {x:900 y:0 z:0} size {x:9 y:9 z:9}'), 'lies outside'),
    ],
)
def test_sizes_that_do_not_fit(alone, tmp_path, arguments, words):
    folder, _, _ = alone
    assert words in refused(folder, *arguments, '--output', f'{tmp_path}/out.h5:seg')
    assert not (tmp_path / 'out.h5').exists()


def test_mistakes_are_one_line(repository, alone, tmp_path):
    folder, _, _ = alone
    assert 'path:dataset' in refused(folder, *CUT, '--output', f'{tmp_path}/out.h5')
    done = call(
        repository, folder, *CUT, '--output', f'{tmp_path}/out.h5:a', '--scheduler', 'nowhere'
    )
    check_one_line(done.returncode, done.stderr, '--scheduler nowhere', 'slurm, lsf')


def test_a_mistake_that_a_worker_finds(repository, tmp_path, flood_network):
    fill(tmp_path, flood_network)
    (tmp_path / 'flood').unlink()
    arguments = (*CUT, '--output', 'zarr://out', '--scheduler', 'local')
    done = call(repository, tmp_path, *arguments)
    check_one_line(done.returncode, done.stderr, 'no checkpoint at')
    assert not (tmp_path / 'out').exists()


def test_subvolumes_that_are_masked_everywhere_are_left_out(tmp_path, flood_network):
    labels = fill(tmp_path, flood_network)
    text = (tmp_path / 'request.pbtxt').read_text() + (
        'masks { coordinate_expression { expression: "x < 50" } }'
    )
    statistics = segment.main(
        [
            '--inference_request',
            text,
            '--quiet',
            *CUT,
            '--output',
            f'n5://{tmp_path}/out',
            '--mask',
            'masks { coordinate_expression { expression: "y < 20" } }',
        ]
    )
    # x from 0 to 40 is masked, and y from 0 to 24 is not.
    assert sorted(c.xyz for c in storage.subvolumes(tmp_path / 'results')) == sorted(
        (x, y, 0) for x in (28, 53) for y in (0, 12, 30)
    )
    assert statistics['subvolumes'] == 6
    found = read(f'n5://{tmp_path}/out')
    assert found.any()
    assert not found[:, :, :34].any()
    assert (labels[found > 0] > 0).all()
