"""The consensus driver, called as a user calls it."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ffn.agglomeration import consensus_run
from ffn.agglomeration.consensus_config import make_config
from ffn.cli.consensus import main
from ffn.inference import consensus_pb2, inference_pb2, storage
from ffn.inference.request_identity import stored_voxel_size
from ffn.inference.storage import OriginInfo
from ffn.utils.errors import UserError
from ffn.utils.protos import parse_text
from tests.inference import flood

CORNERS = [(0, 0, 0), (0, 4, 0), (3, 0, 9)]


def write(folder, labels, corner):
    origins = {int(i): OriginInfo((1, 2, int(i)), 3, 0.5) for i in np.unique(labels) if i}
    storage.save_result(folder, corner, labels, origins, b'', {}, {})


@pytest.fixture
def folder(tmp_path):
    """Two segmentations of three subvolumes of different shapes."""
    random = np.random.default_rng(1)
    for i, corner in enumerate(CORNERS):
        for name in ('one', 'two'):
            write(tmp_path / name, random.integers(0, 3, (4, 5 + i, 6)).astype(np.uint8), corner)
    return tmp_path


def request(folder, extra='type: CONSENSUS_SPLIT', output='out'):
    return (
        f'segmentation1 {{ directory: "{folder}/one" }} segmentation2 {{ directory: "{folder}/two" }}'
        f' segmentation_output_dir: "{folder}/{output}" {extra}'
    )


def config(folder, extra=''):
    asked = parse_text(request(folder), consensus_pb2.ConsensusRequest(), 'request')
    return make_config(parse_text(extra, asked, 'extra'))


def consensus(folder, *extra, **kwargs):
    arguments = ['--consensus_request', request(folder, *extra, **kwargs), '--workers', '2']
    return main([*arguments, '--quiet'])


def loaded(directory, corner):
    return storage.load_segmentation(directory, corner, split_cc=False)


def test_every_subvolume(folder):
    assert consensus(folder)['subvolumes'] == 3
    for corner in CORNERS:
        (one, origins), (two, _), (out, kept) = (
            loaded(folder / name, corner) for name in ('one', 'two', 'out')
        )
        np.testing.assert_array_equal(out > 0, one > 0)
        pairs = {(int(a), int(b), int(o)) for a, b, o in zip(one.flat, two.flat, out.flat) if a}
        assert len({(a, b) for a, b, _ in pairs}) == len({o for *_, o in pairs}) == len(pairs)
        assert kept == origins  # every object has a part that keeps its id


def test_what_exists_is_kept_and_what_is_missing_made(folder):
    consensus(folder)
    path = storage.subvolume_path(folder / 'out', CORNERS[1], 'npz')
    other = storage.subvolume_path(folder / 'out', CORNERS[0], 'npz')
    path.unlink()
    before = other.stat().st_mtime_ns
    assert consensus(folder)['subvolumes'] == 1
    assert path.exists()
    assert other.stat().st_mtime_ns == before


def test_the_voxel_size_is_that_of_the_first_segmentation(folder):
    made_with = inference_pb2.InferenceRequest()
    made_with.voxel_size.x, made_with.voxel_size.y, made_with.voxel_size.z = 8, 8, 33
    for corner in CORNERS:
        labels, origins = loaded(folder / 'one', corner)
        serialized = made_with.SerializeToString()
        storage.save_result(folder / 'one', corner, labels, origins, serialized, {}, {})
    consensus(folder)
    assert stored_voxel_size(folder / 'out') == (8, 8, 33)
    assert stored_voxel_size(storage.subvolume_path(folder / 'out', CORNERS[2], 'npz')) == (
        8,
        8,
        33,
    )
    shutil.rmtree(folder / 'one')
    assert stored_voxel_size(folder / 'out') is None


def test_what_was_made_from_other_labels_is_made_anew(folder):
    consensus(folder)
    before = [path.stat().st_mtime_ns for path in storage.subvolumes(folder / 'out').values()]
    write(folder / 'two', np.ones((4, 6, 6), np.uint8), CORNERS[1])
    assert consensus(folder)['subvolumes'] == 1
    after = [path.stat().st_mtime_ns for path in storage.subvolumes(folder / 'out').values()]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]
    out, one = (loaded(folder / name, CORNERS[1])[0] for name in ('out', 'one'))
    assert ((out == 0) == (one == 0)).all()
    assert len(np.unique(out)) == len(np.unique(one))


def test_results_of_different_requests_do_not_mix(folder):
    consensus(folder)
    with pytest.raises(UserError, match='result of another request'):
        consensus(folder, 'type: CONSENSUS_SPLIT split_min_size: 9')


def test_sources_are_masked_and_cut_as_the_request_says(folder):
    mask = 'mask { masks { coordinate_expression { expression: "z == 0" } } }'
    asked = config(folder, f'segmentation1 {{ min_size: 30 split_cc: false {mask} }}')
    corner = CORNERS[0]
    one, _ = loaded(folder / 'one', corner)
    one[0] = 0
    kept, counts = np.unique(one[one > 0], return_counts=True)
    expected = np.where(np.isin(one, kept[counts >= 30]), one, 0)
    np.testing.assert_array_equal(asked.segmentation1.load(corner)[0], expected)
    assert (expected > 0).any()


def test_a_split_min_size_of_0_is_the_same_request_again(folder):
    extra = 'type: CONSENSUS_SPLIT split_min_size: 0'
    assert config(folder, 'split_min_size: 0').request.endswith(b'\0')
    assert consensus(folder, extra)['subvolumes'] == 3
    assert consensus(folder, extra)['subvolumes'] == 0
    path = storage.subvolume_path(folder / 'out', CORNERS[1], 'npz')
    with np.load(path, allow_pickle=True) as file:
        members = {**file, 'request': file['request'].item()}
    np.savez(path, **members)  # NumPy bytes, as earlier versions wrote
    assert consensus(folder, extra)['subvolumes'] == 0


def test_bad_input(folder):
    with pytest.raises(UserError, match='split_min_size is -1'):
        consensus(folder, 'split_min_size: -1')
    with pytest.raises(UserError, match='CONSENSUS_MERGE'):
        consensus(folder, 'type: CONSENSUS_MERGE')
    with pytest.raises(UserError, match=r'segmentation1\.directory'):
        make_config(consensus_pb2.ConsensusRequest())
    (folder / 'one' / storage.UNFINISHED).touch()
    with pytest.raises(UserError, match=r'segmentation1, .*one, is not complete'):
        consensus(folder)
    (folder / 'one' / storage.UNFINISHED).unlink()
    with pytest.raises(UserError, match='segmentation1 and segmentation2 are both'):
        make_config(
            consensus_pb2.ConsensusRequest(
                segmentation1={'directory': 'one'}, segmentation2={'directory': 'one/'}
            )
        )
    with pytest.raises(UserError, match='holds no segmented subvolume'):
        main(['--consensus_request', request(folder / 'none'), '--quiet'])
    write(folder / 'two', np.zeros((4, 9, 9), np.uint8), CORNERS[2])
    with pytest.raises(UserError, match=r'x,y,z 9,0,3.*\(4, 7, 6\) and \(4, 9, 9\)'):
        consensus(folder)
    storage.subvolume_path(folder / 'two', CORNERS[2], 'npz').unlink()
    with pytest.raises(UserError, match=r'lacks 1 of the 3 .* x,y,z 9,0,3'):
        consensus(folder)
    storage.subvolume_path(folder / 'one', CORNERS[2], 'npz').write_bytes(b'PK')
    with pytest.raises(UserError, match='not a whole npz'):
        consensus_run.make_subvolume(config(folder), CORNERS[2])


@pytest.mark.parametrize('scheduler', ['none', pytest.param('local', marks=pytest.mark.slow)])
def test_reverse_order_is_segmented_first(flood_folder, repository, scheduler):
    from ffn.inference import box_run

    text = flood.write_request(flood_folder)
    box_run.segment(
        text,
        boxes_text='box { start { x:0 y:0 z:0 } size { x:24 y:26 z:20 } } '
        'box { start { x:16 y:0 z:0 } size { x:22 y:26 z:20 } }',
        quiet=True,
    )
    shutil.move(flood_folder / 'results', flood_folder / 'one')
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'ffn.inference.run_consensus',
            '--quiet',
            '--inference_request',
            text,
            '--consensus_request',
            request(flood_folder),
            '--scheduler',
            scheduler,
        ],
        cwd=repository,
        env={**os.environ, 'FFN_DASHBOARD': ':0'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'subvolumes 2' in done.stdout
    for corner in ((0, 0, 0), (0, 0, 16)):
        forward, origins = loaded(flood_folder / 'one', corner)
        reverse, reversed_ = loaded(flood_folder / 'two', corner)
        out, _ = loaded(flood_folder / 'out', corner)
        last = max(origins)
        assert reversed_[1].start_zyx == origins[last].start_zyx
        assert len(np.unique(out[(forward == last) & (reverse == 1)])) == 1
        np.testing.assert_array_equal(out > 0, forward > 0)


def test_reversed_subvolumes_of_another_request_are_refused(flood_folder, caplog):
    from ffn.inference import box_run

    text = flood.write_request(flood_folder)
    box = 'start { x:0 y:0 z:0 } size { x:24 y:26 z:20 }'
    box_run.segment(text, box, quiet=True)
    shutil.move(flood_folder / 'results', flood_folder / 'one')

    def run(given):
        main(
            ['--consensus_request', request(flood_folder), '--inference_request', given, '--quiet']
        )

    run(text)
    other = (
        (flood_folder / 'request.pbtxt')
        .read_text()
        .replace('min_segment_size: 50', 'min_segment_size: 60')
    )
    with pytest.raises(UserError, match=r'other settings: .*min_segment_size is 50 there and 60'):
        run(other)
    assert 'was made with a request other than --inference_request' in caplog.text
    (flood_folder / 'two' / 'manifest.json').unlink()
    with pytest.raises(UserError, match='not made by ffn consensus'):
        run(text)
