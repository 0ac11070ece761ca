"""Subvolumes that are missing, damaged or do not belong together: one line each."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from ffn.assembly import assemble, manifest
from ffn.assembly.tiling import Tiling
from ffn.inference import inference_pb2, storage
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from tests.assembly.cut import blobs, check_same_objects, cut, write
from tests.assembly.test_assemble import read
from tests.calls import check_one_line

SHAPE = (20, 24, 50)
TILING = Tiling(Box.of_shape(SHAPE), Xyz(20, 24, 20), Xyz(8, 8, 8))
BOX = 'start { x:0 y:0 z:0 } size { x:50 y:24 z:20 }'


@pytest.fixture
def folder(tmp_path):
    """A folder whose `results` are four subvolumes along x: at 0, 8, 20 and 32."""
    labels = blobs(SHAPE, 9, 2)
    cut(tmp_path / 'results', labels, TILING)
    np.save(tmp_path / 'labels.npy', labels)
    assert [c.x for c in storage.subvolumes(tmp_path / 'results')] == [0, 8, 20, 32]
    return tmp_path


def arguments(folder, *more: str) -> list[str]:
    return ['--segmentation', f'{folder}/results', '--output', f'zarr://{folder}/out.zarr',
            '--bounding_box', BOX, '--subvolume_size', '20,24,20', '--overlap', '8,8,8', '--quiet',
            '--min_overlap_voxels', '1', '--min_fraction_smaller', '0', '--conflicts', 'join',
            *more]  # fmt: skip


def path(folder, x: int):
    return storage.subvolume_path(folder / 'results', (0, 0, x), 'npz')


def refused(folder, *more: str) -> str:
    with pytest.raises(UserError) as caught:
        assemble.main(arguments(folder, *more))
    assert '\n' not in str(caught.value)
    return str(caught.value)


def check_whole(folder) -> None:
    """The assembled volume is that of the labels."""
    assemble.main(arguments(folder))
    found = read(f'zarr://{folder}/out.zarr', TILING.box)
    check_same_objects(found, np.load(folder / 'labels.npy'))


def test_missing(folder):
    aside = path(folder, 20).rename(folder / 'aside')
    said = refused(folder)
    assert 'lacks 1 of 4 subvolumes, among them that at x,y,z 20,0,0' in said
    assert not (folder / 'out.zarr').exists()
    aside.rename(path(folder, 20))
    check_whole(folder)


def test_truncated(folder):
    data = path(folder, 20).read_bytes()
    for length in (0, 10, len(data) // 2, len(data) - 30):
        path(folder, 20).write_bytes(data[:length])
        assert f'{path(folder, 20)} is damaged' in refused(folder)
    path(folder, 20).write_bytes(data)
    check_whole(folder)


def test_bits_changed(folder):
    data = bytearray(path(folder, 8).read_bytes())
    data[len(data) // 4] ^= 0xFF
    path(folder, 8).write_bytes(data)
    assert 'damaged' in refused(folder)


def test_another_shape(folder):
    write(folder / 'results', Box(Xyz(20, 0, 0), Xyz(20, 24, 19)), np.ones((19, 24, 20), np.uint32))
    said = refused(folder)
    assert 'has shape z,y,x 19,24,20; the subvolume there has z,y,x 20,24,20' in said


def test_another_size_or_overlap(folder):
    check_whole(folder)
    assert 'tiling.overlap_xyz' in refused(folder, '--overlap', '8,9,8')
    other = ('--assembly_dir', str(folder / 'other'), '--output', f'n5://{folder}/other.n5')
    assert 'tiling.subvolume_size_xyz' in refused(folder, *other, '--subvolume_size', '22,24,20')


def test_other_thresholds_need_another_folder_and_output(folder):
    check_whole(folder)
    assert 'matching.min_voxels is 1 there and 9 here' in refused(
        folder, '--min_overlap_voxels', '9'
    )
    own = ('--assembly_dir', str(folder / 'other'))
    assert 'out.zarr exists, and was not begun in' in refused(folder, *own)
    assemble.main(
        arguments(folder, *own, '--output', f'n5://{folder}/b', '--min_overlap_voxels', '9')
    )
    assert json.loads((folder / 'other' / 'statistics.json').read_text())['subvolumes'] == 4


def test_different_requests(folder):
    labels = np.load(folder / 'labels.npy')
    for x, batch, threshold in ((0, 1, 0.9), (8, 2, 0.9), (20, 3, 0.8), (32, 1, 0.9)):
        request = inference_pb2.InferenceRequest(batch_size=batch)
        request.inference_options.move_threshold = threshold
        box = Box(Xyz(x, 0, 0), Xyz({0: 16, 32: 18}.get(x, 20), 24, 20))
        write(folder / 'results', box, labels[box.slices_zyx], request.SerializeToString())
    said = refused(folder)
    # Another batch size is no other request.
    assert 'x,y,z 0,0,0 and x,y,z 20,0,0 were segmented with different requests' in said


def test_changed_after_reconciliation(folder):
    assemble.main(arguments(folder, '--output', f'{folder}/a.h5:seg'))
    labels = storage.load_segmentation(folder / 'results', (0, 0, 20), split_cc=False)[0]
    write(folder / 'results', Box(Xyz(20, 0, 0), Xyz(20, 24, 20)), labels + 1000)
    (folder / 'results/assembly/written/whole').unlink()
    with pytest.raises(UserError, match='has changed since its ids were reconciled'):
        assemble.main(arguments(folder, '--output', f'{folder}/a.h5:seg'))


def test_an_output_that_was_removed_is_written_again(folder):
    check_whole(folder)
    (folder / 'out.zarr').rename(folder / 'moved')
    check_whole(folder)


def test_large_ids(folder):
    labels = np.load(folder / 'labels.npy').astype(np.uint64)
    for x, add in ((0, 2**33), (8, 2**40), (20, 2**63), (32, 7)):
        box = Box(Xyz(x, 0, 0), Xyz({0: 16, 32: 18}.get(x, 20), 24, 20))
        part = labels[box.slices_zyx]
        write(
            folder / 'results', box, np.where(part > 0, part + np.uint64(add), 0).astype(np.uint64)
        )
    check_whole(folder)


def test_a_manifest_that_was_changed(folder):
    check_whole(folder)
    place = folder / 'results/assembly' / manifest.NAME
    text = place.read_text()
    place.write_text(text.replace('"min_voxels": 1,', '"min_voxels": 2,'))
    assert 'was changed by hand' in refused(folder)
    place.write_text(text[:50])
    assert 'is no manifest' in refused(folder)


def test_the_command(folder, repository):
    command = [sys.executable, '-m', 'ffn.assembly.assemble']
    done = subprocess.run(
        [*command, *arguments(folder)], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '4 subvolumes' in done.stdout
    check_same_objects(
        read(f'zarr://{folder}/out.zarr', TILING.box), np.load(folder / 'labels.npy')
    )
    path(folder, 8).unlink()
    done = subprocess.run(
        [*command, *arguments(folder)], cwd=repository, capture_output=True, text=True, check=False
    )
    check_one_line(done.returncode, done.stderr, 'lacks 1 of 4 subvolumes')
