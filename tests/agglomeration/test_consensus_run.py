"""The consensus driver, called as a user calls it."""

import os
import shutil

import h5py
import numpy as np
import pytest

from ffn.agglomeration import consensus_run
from ffn.agglomeration.consensus_config import make_config
from ffn.assembly.tiling import Tiling
from ffn.cli import assemble
from ffn.cli.consensus import main
from ffn.distributed.local_pools import InProcess
from ffn.inference import consensus_pb2, inference_pb2, storage
from ffn.inference.request_identity import stored_voxel_size
from ffn.inference.storage import OriginInfo
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.npz import read_npz
from ffn.utils.protos import parse_text
from ffn.volumes import provenance
from ffn.volumes.volume import open_volume
from tests.inference import flood
from tests.loaded import run_loaded

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


def consensus(folder, *extra, workers='0'):
    arguments = ['--consensus_request', request(folder, *extra), '--workers', workers]
    return main([*arguments, '--quiet'])


def loaded(directory, corner):
    return storage.load_segmentation(directory, corner, split_cc=False)


def test_every_subvolume(folder):
    assert consensus(folder, workers='2')['subvolumes'] == 3
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
    last = storage.subvolume_path(folder / 'out', CORNERS[2], 'npz')
    assert stored_voxel_size(last) == (8, 8, 33)
    shutil.rmtree(folder / 'one')
    assert stored_voxel_size(folder / 'out') is None
    (folder / 'out').rename(folder / 'one')  # which now names itself
    assert stored_voxel_size(folder / 'one') is None


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
    first = storage.subvolume_path(folder / 'out', CORNERS[0], 'npz')
    first.unlink()
    with pytest.raises(
        UserError, match='of another request: split_min_size is not set there and 9'
    ):
        consensus(folder, 'type: CONSENSUS_SPLIT split_min_size: 9')
    assert not first.exists()
    (folder / 'out').rename(folder / 'moved')
    assert consensus(folder, 'split_min_size: 0', 'moved')['subvolumes'] == 1


def test_what_is_finished_is_found_by_tasks(folder):
    """The command would look at one after the other, before any worker has something to do."""
    consensus(folder)

    for corner in CORNERS[1:]:  # they are not looked at before
        storage.subvolume_path(folder / 'out', corner, 'npz').write_bytes(b'PK')
    with pytest.raises(UserError, match=r'consensus: .*not a whole npz.*; 1 more tasks failed'):
        consensus_run.run_consensus(config(folder, 'type: CONSENSUS_SPLIT'), InProcess(), True)


def write_given(folder, labels, given, corner=CORNERS[0]):
    storage.save_result(
        folder, corner, labels, {}, b'', {}, {}, given_ids=np.array(given, np.uint64)
    )


def stored_given(folder):
    path = storage.subvolume_path(folder, CORNERS[0], 'npz')
    return read_npz(path, ['init_segmentation_ids'], [])['init_segmentation_ids'].tolist()


def test_what_was_there_before_stays_one_object_across_subvolumes(tmp_path):
    """Neighbours share 40 of its voxels, fewer than two ids need to be one object."""
    whole = np.zeros((6, 8, 30), np.uint64)
    whole[2:4, 3:5, 2:28] = 2**50 + 1
    tiling = Tiling(Box(Xyz(0, 0, 0), Xyz(30, 8, 6)), Xyz(20, 8, 6), Xyz(10, 4, 3))
    assert len(tiling) > 1
    for name in ('one', 'two'):
        for place in tiling.places():
            box = tiling.subvolume(place)
            labels = (whole[box.slices_zyx] > 0).astype(np.uint8)
            write_given(tmp_path / name, labels, [0, 2**50 + 1], box.start.zyx)
    consensus(tmp_path)
    objects = {}
    for name in ('one', 'out'):
        volume = f'{tmp_path}/{name}.h5:labels'
        where = ['--segmentation', str(tmp_path / name), '--output', volume, '--quiet']
        box = 'start { x:0 y:0 z:0 } size { x:30 y:8 z:6 }'
        cut = ['--bounding_box', box, '--subvolume_size', '20,8,6', '--overlap', '10,4,3']
        assemble.main([*where, *cut])
        with open_volume(volume) as assembled:
            objects[name] = assembled.read(assembled.box).max()
    assert objects == {'one': 1, 'out': 1}


def test_a_given_object_keeps_its_id_though_more_has_joined_it_in_one_run(tmp_path):
    first = np.zeros((4, 5, 12), np.uint8)
    first[1:3, 1:4, :9], first[1:3, 1:4, 9:] = 1, 3
    second = first.copy()
    second[..., 2:9][second[..., 2:9] == 1] = 2  # two of nine columns are what was there
    second[second == 3] = 4
    write_given(tmp_path / 'one', first, [0, 70, 80])
    write_given(tmp_path / 'two', second, [0, 70])
    consensus(tmp_path)
    out, _ = loaded(tmp_path / 'out', CORNERS[0])
    assert out[1, 1].tolist() == [1] * 2 + [4] * 7 + [3] * 3
    # Neither what joined nor what segment 2 was called, which is not there.
    assert stored_given(tmp_path / 'out') == [0, 70, 0]


def test_ids_that_are_new_are_nothing_that_was_there(tmp_path):
    """The greatest id of the first segmentation is free, since its object is masked there."""
    labels = np.ones((4, 5, 12), np.uint8)
    second = labels.copy()
    second[..., 7:] = 2
    write_given(tmp_path / 'one', labels, [0, 70, 80])
    write_given(tmp_path / 'two', second, [0, 70, 80])
    consensus(tmp_path)
    assert set(np.unique(loaded(tmp_path / 'out', CORNERS[0])[0])) == {1, 2}
    assert stored_given(tmp_path / 'out') == [0, 70, 0]


def test_components_are_called_what_their_object_is(tmp_path):
    labels = np.zeros((4, 5, 12), np.uint8)
    labels[1, 1:3, 1:3], labels[2, 3, 5:7], labels[1:3, 2:4, 9:] = 2, 2, 1
    for name in ('one', 'two'):
        write_given(tmp_path / name, labels, [0, 70, 2**63])
    asked = config(tmp_path, 'segmentation1 { split_cc: true } segmentation2 { split_cc: true }')
    consensus_run.make_subvolume(asked, CORNERS[0])
    out, _ = loaded(tmp_path / 'out', CORNERS[0])
    given = np.array(stored_given(tmp_path / 'out'), np.uint64)
    assert len(np.unique(out)) == 4
    np.testing.assert_array_equal(given[out], np.array([0, 70, 2**63], np.uint64)[labels])


def test_a_consensus_without_what_was_there_is_made_anew(tmp_path):
    labels = np.ones((4, 5, 6), np.uint8)
    for name in ('one', 'two'):
        write(tmp_path / name, labels, CORNERS[0])
    assert consensus(tmp_path)['subvolumes'] == 1
    for given in ([0, 70], [0, 80]):
        for name in ('one', 'two'):
            write_given(tmp_path / name, labels, given)
        assert consensus(tmp_path)['subvolumes'] == 1
        assert stored_given(tmp_path / 'out') == given
        assert consensus(tmp_path)['subvolumes'] == 0


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
    with pytest.raises(UserError, match='segmentation_output_dir is gs://bucket/both; expected'):
        config(folder, 'segmentation_output_dir: "gs://bucket/both"')
    for field, value in (('threshold', 60), ('threshold', 'nan'), ('min_size', -5)):
        with pytest.raises(UserError, match=rf'segmentation2\.{field} is {value}; expected'):
            config(folder, f'segmentation2 {{ {field}: {value} }}')
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
    arguments = '--inference_request', text, '--consensus_request', request(flood_folder)
    done = run_loaded(
        *(repository, '-m', 'ffn.inference.run_consensus', '--quiet', '--scheduler', scheduler),
        *arguments,
        env={**os.environ, 'FFN_DASHBOARD': ':0'},
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


def test_reversed_subvolumes_of_another_init_segmentation_are_refused(flood_folder):
    from ffn.inference import box_run

    def write_given(stamp):
        with h5py.File(flood_folder / 'given.h5', 'w') as file:
            file['labels'] = (flood.write_volume(flood_folder) == 2).astype(np.uint8)
            file['labels'].attrs['ffn_made_from'] = stamp

    def run(folder, reverse):
        given = request(folder).replace('/two', reverse)
        main(['--consensus_request', given, '--inference_request', text, '--quiet'])

    write_given('A')
    text = flood.write_request(flood_folder)
    with open(text, 'a') as file:
        file.write(f'init_segmentation {{ hdf5: "{flood_folder}/given.h5:labels" }}')
    box_run.segment(text, 'start { x:0 y:0 z:0 } size { x:24 y:26 z:20 }', quiet=True)
    shutil.move(flood_folder / 'results', flood_folder / 'one')
    run(flood_folder, '/two')
    for path in storage.subvolumes(flood_folder / 'two').values():
        path.unlink()  # as if it had been killed before
    write_given('B')
    with pytest.raises(UserError, match='init_segmentation_made_from is A there and B here'):
        run(flood_folder, '/two')
    claimed = {'init_segmentation_made_from': 'A'}  # what ffn segment records, among others
    provenance.claim(flood_folder / 'one', claimed)
    with pytest.raises(
        UserError, match=r'is A there and B here: it has been written anew since .*one was'
    ):
        run(flood_folder, '/three')


def test_what_joined_an_object_joins_it_in_reverse_order_too(flood_folder):
    from ffn.inference import box_run

    with h5py.File(flood_folder / 'given.h5', 'w') as file:
        given = (flood.write_volume(flood_folder) == 1) & (np.arange(38) < 20)
        given[:, 10:] = False
        file['labels'] = given * np.uint8(77)
    text = flood.write_request(flood_folder)
    asked = (flood_folder / 'request.pbtxt').read_text()
    asked = asked.replace('min_segment_size', 'prefilled_join_fraction: 0.05 min_segment_size')
    asked += f'init_segmentation {{ hdf5: "{flood_folder}/given.h5:labels" }}'
    (flood_folder / 'request.pbtxt').write_text(asked)
    box_run.segment(text, 'start { x:0 y:0 z:0 } size { x:38 y:26 z:20 }', quiet=True)
    shutil.move(flood_folder / 'results', flood_folder / 'one')
    main(['--consensus_request', request(flood_folder), '--inference_request', text, '--quiet'])
    one, origins = loaded(flood_folder / 'one', CORNERS[0])
    assert set(origins) == set(np.unique(one)) - {0, 1}
    assert np.count_nonzero(one == 1) > 1.2 * np.count_nonzero(given)
    for name in ('two', 'out'):
        again = loaded(flood_folder / name, CORNERS[0])[0] == 1
        assert np.mean(again[one == 1]) > 0.95  # floods differ at the edges
    assert stored_given(flood_folder / 'out') == [0, 77]


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
