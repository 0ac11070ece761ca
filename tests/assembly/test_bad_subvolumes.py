"""Subvolumes that are missing, damaged or do not belong together: one line each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ffn.assembly import assembly
from ffn.assembly.tiling import Tiling
from ffn.cli.assemble import main
from ffn.inference import inference_pb2, storage
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.locks import exclusive_directory
from ffn.volumes import provenance
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
    return [
        '--segmentation',
        f'{folder}/results',
        '--output',
        f'zarr://{folder}/out.zarr',
        '--bounding_box',
        BOX,
        '--subvolume_size',
        '20,24,20',
        '--overlap',
        '8,8,8',
        '--quiet',
        '--min_overlap_voxels',
        '1',
        '--min_fraction_smaller',
        '0',
        '--conflicts',
        'join',
        *more,
    ]


def path(folder, x: int):
    return storage.subvolume_path(folder / 'results', (0, 0, x), 'npz')


def refused(folder, *more: str) -> str:
    with pytest.raises(UserError) as caught:
        main(arguments(folder, *more))
    assert '\n' not in str(caught.value)
    return str(caught.value)


def check_whole(folder) -> None:
    """The assembled volume is that of the labels."""
    main(arguments(folder))
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
    assert 'out.zarr exists, and was not started with' in refused(
        folder, *own, '--min_overlap_voxels', '9'
    )
    main(arguments(folder, *own, '--output', f'n5://{folder}/b', '--min_overlap_voxels', '9'))
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
    changed = 'inference_options.move_threshold is 0.9 there and 0.8 here'
    assert f'x,y,z 0,0,0 and x,y,z 20,0,0 were segmented with different requests: {changed}' in said


@pytest.mark.parametrize('inputs', [{'image_made_from': 'A'}, {'image_written': 'A'}, {}])
def test_an_image_at_another_path_is_another_image(folder, inputs):
    """Stamps travel with a copy. That the request was written in another way does not count."""
    for x, place, args in ((0, '/a', '{"depth":3}'), (8, '/b', '{"depth": 3}')):
        request = inference_pb2.InferenceRequest(model_args=args)
        request.image.hdf5 = f'{place}/v.h5:raw'
        labels, made_with = storage.read_labels(path(folder, x)), request.SerializeToString()
        storage.save_result(
            folder / 'results', (0, 0, x), labels, {}, made_with, {}, {}, inputs=inputs
        )
    for x in (20, 32):
        path(folder, x).unlink()
    said = refused(folder, '--bounding_box', BOX.replace('50', '28'))
    assert 'with different requests: image.hdf5 is /a/v.h5:raw there and /b/v.h5:raw here;' in said


def say_inputs(folder, said):
    for x, inputs in said.items():
        labels = storage.read_labels(path(folder, x))
        storage.save_result(
            folder / 'results', (0, 0, x), labels, {}, b'one', {}, {}, inputs=inputs
        )


@pytest.mark.parametrize(
    ('there', 'here', 'said'),
    [
        ({'image_made_from': 'A'}, {'image_made_from': 'B'}, 'image_made_from is A there and B'),
        ({'model_sha256': 'A'}, {'model_sha256': 'B'}, 'model_sha256 is A there and B here'),
    ],
)
@pytest.mark.parametrize('apart', [20, 32])
def test_different_inputs(folder, there, here, said, apart):
    """Neighbours, or such that are not."""
    say_inputs(folder, dict.fromkeys((0, 8, 20, 32)) | {8: there, apart: here})
    pair = f'the subvolumes at x,y,z 8,0,0 and x,y,z {apart},0,0'
    assert f'{pair} were made from different inputs: {said}' in refused(folder)


@pytest.mark.parametrize(
    ('there', 'here', 'doubt'),
    [
        ({'image_made_from': 'A'}, None, ''),  # of an earlier version
        ({'earlier_run_seeds': 'A'}, {'earlier_run_seeds': 'B'}, ''),
        ({'image_made_from': ''}, {'image_made_from': 'A'}, 'image_made_from is empty there and A'),
        ({'image_made_from': 'A'}, {'image_made_from': ''}, 'image_made_from is A there and empty'),
        ({'image_written': 'A'}, {'image_written': 'B'}, 'image_written is A there and B'),
    ],
)
def test_inputs_that_may_be_the_same(folder, caplog, there, here, doubt):
    say_inputs(folder, {0: there, 8: there, 20: here, 32: here})
    check_whole(folder)
    pair = 'of those at x,y,z 0,0,0 and x,y,z 20,0,0'
    assert [r.getMessage() for r in caplog.records if 'different inputs' in r.getMessage()] == [
        f'{folder}/results: subvolumes may have been made from different inputs: {doubt} here, {pair}; if they were, '
        'segment one of both again'
    ] * bool(doubt)


def test_what_is_not_known_of_one_does_not_hide_what_others_say(folder):
    known = {'image_made_from': 'A'}, {'image_made_from': 'B'}
    say_inputs(folder, {0: {'image_made_from': ''}, 8: None, 20: known[0], 32: known[1]})
    assert 'x,y,z 20,0,0 and x,y,z 32,0,0 were made from different' in refused(folder)


def test_other_inputs_of_the_same_labels_where_overlaps_are_there(folder):
    check_whole(folder)
    say_inputs(folder, {x: {'image_made_from': 'A'} for x in (0, 8, 20, 32)})
    main(arguments(folder))
    say_inputs(folder, {20: {'image_made_from': 'B'}})
    assert 'were made from different inputs' in refused(folder)


def permuted(folder, x: int) -> None:
    """Segments a subvolume anew, so to speak: the same ids in another order."""
    labels = storage.load_segmentation(folder / 'results', (0, 0, x), split_cc=False)[0]
    ids = np.unique(labels)
    assert len(ids) > 3
    names = np.concatenate([[0], np.roll(ids[1:], 1)])
    size = Xyz({0: 16, 32: 18}.get(x, 20), 24, 20)
    write(folder / 'results', Box(Xyz(x, 0, 0), size), names[np.searchsorted(ids, labels)])


def test_segmented_anew_with_the_right_request(folder):
    """The labels are the same; what they were made with is not."""
    labels = np.load(folder / 'labels.npy')

    def write_all(threshold):
        for x in (0, 8, 20, 32):
            request = inference_pb2.InferenceRequest()
            request.inference_options.move_threshold = threshold if x == 20 else 0.9
            box = Box(Xyz(x, 0, 0), Xyz({0: 16, 32: 18}.get(x, 20), 24, 20))
            write(folder / 'results', box, labels[box.slices_zyx], request.SerializeToString())

    write_all(0.8)
    assert 'with different requests' in refused(folder)
    write_all(0.9)
    check_whole(folder)


def test_changed_after_reconciliation(folder):
    check_whole(folder)
    overlaps = sorted((folder / 'results/overlaps').rglob('*.npz'), key=lambda path: path.name)
    before = {path.name: path.stat().st_mtime_ns for path in overlaps}
    permuted(folder, 20)
    said = refused(folder)
    assert 'the subvolume at x,y,z 20,0,0 has changed since its ids were reconciled' in said
    # Its overlaps, and those of the one before it, are counted anew.
    after = {path.name: path.stat().st_mtime_ns for path in overlaps}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {'overlap-8_0_0.npz', 'overlap-20_0_0.npz'}
    # As the message says.
    shutil.rmtree(folder / 'out.zarr')
    shutil.rmtree(folder / 'results/assembly')
    check_whole(folder)


def test_changed_while_it_is_written(folder, monkeypatch):
    assign_global_ids = assembly.assign_global_ids

    def and_change(*args):
        found = assign_global_ids(*args)
        permuted(folder, 20)
        return found

    monkeypatch.setattr(assembly, 'assign_global_ids', and_change)
    assert f'{path(folder, 20)} has changed' in refused(folder)


def test_another_run_at_the_same_output(folder):
    """Whoever wrote last, it is not taken for the result of other settings."""
    check_whole(folder)
    shutil.rmtree(folder / 'out.zarr')
    other = ('--assembly_dir', str(folder / 'other'), '--min_overlap_voxels', '9')
    main(arguments(folder, *other))
    assert 'out.zarr exists, and was not started with' in refused(folder)
    main(arguments(folder, *other))
    # The same settings, of other subvolumes.
    shutil.copytree(folder / 'results', folder / 'results2')
    again = arguments(folder, *other[:1], str(folder / 'third'), *other[2:])
    again[1] = f'{folder}/results2'
    with pytest.raises(UserError, match='exists, and was not started with'):
        main(again)


def test_two_at_a_time(folder):
    with exclusive_directory(folder / 'results/assembly'):
        assert 'another command works in' in refused(folder)
    check_whole(folder)


def test_a_relative_folder_of_tables(folder, monkeypatch):
    """Workers may run elsewhere."""
    monkeypatch.chdir(folder)
    seen = []
    monkeypatch.setattr(assembly, 'write_output', lambda given, *_: seen.append(given.folder))
    main(arguments(folder, '--assembly_dir', 'tables'))
    assert seen == [folder / 'tables']


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
    place = folder / 'results/assembly' / provenance.MANIFEST
    text = place.read_text()
    place.write_text(text.replace('"min_voxels": 1,', '"min_voxels": 2,'))
    assert 'was changed by hand' in refused(folder)
    place.write_text(text[:50])
    told = refused(folder)
    assert 'is no manifest' in told
    assert 'remove it, and run again with the settings that its folder was made with' in told
    place.unlink()
    check_whole(folder)
    assert place.read_text() == text


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
