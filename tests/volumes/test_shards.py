"""Shards of written volumes: which voxels share a file, and that one task writes it."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.shards import Sharding, Shards, precomputed_sharding
from ffn.volumes.volume import open_volume

BOX = Box(Xyz(5, 3, 2), Xyz(45, 29, 22))


CHUNK = Xyz(4, 5, 6)


def make_output(folder, scheme, shard, chunk=CHUNK, box=BOX):
    voxel_size = (8, 8, 30) if scheme == 'precomputed' else None
    return OutputSpec(f'{scheme}://{folder}/out', box, chunk, voxel_size, shard)


def files_of(output):
    folder = Path(output.spec.partition('://')[2])
    names = {'info', 'zarr.json', 'ffn.json'}
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and path.name not in names
    }


@pytest.mark.parametrize('scheme', ['zarr3', 'precomputed'])
def test_each_task_writes_its_own_files_and_all_is_read_back(tmp_path, scheme):
    output = make_output(tmp_path, scheme, Xyz(8, 10, 12))
    output.check()
    output.create('stamp')
    labels = np.random.default_rng(1).integers(1, 2**63, BOX.size.zyx, dtype=np.uint64)
    before, tasks = files_of(output), 0
    for core in blocks(BOX, Xyz(17, 11, 9)):  # cores do not end with shards
        box = output.whole_chunks(core)
        if box.empty:
            continue
        output.open_parallel().write(box, labels[box.relative_to(BOX.start).slices_zyx])
        after = files_of(output)
        assert set(after) > set(before)
        assert {name: after[name] for name in before} == before
        before, tasks = after, tasks + 1
    output.finish('stamp')
    assert tasks > 1
    # Zarr begins at 0: 50, 32 and 24 voxels; precomputed at the box: 45, 29, 22.
    expected = {'zarr3': 7 * 4 * 2, 'precomputed': 6 * 3 * 2}
    assert len(before) == expected[scheme]
    with open_volume(output.spec) as volume:
        np.testing.assert_array_equal(volume.read(BOX), labels)


def test_the_metadata_of_shards(tmp_path):
    for scheme in ('zarr3', 'precomputed'):
        make_output(tmp_path / scheme, scheme, Xyz(8, 10, 12)).create('stamp')
    array = json.loads((tmp_path / 'zarr3/out/zarr.json').read_text())
    assert array['chunk_grid']['configuration']['chunk_shape'] == [12, 10, 8]
    (codec,) = array['codecs']
    assert codec['name'] == 'sharding_indexed'
    assert codec['configuration']['chunk_shape'] == [6, 5, 4]
    names = [inner['name'] for inner in codec['configuration']['codecs']]
    assert names == ['bytes', 'zstd', 'crc32c']
    (scale,) = json.loads((tmp_path / 'precomputed/out/info').read_text())['scales']
    assert scale['encoding'] == 'compressed_segmentation'
    # 12 x 6 x 4 chunks are numbered with 4 + 3 + 2 bits; 2 x 2 x 2 are a shard.
    sharding = scale['sharding']
    assert sharding['preshift_bits'] + sharding['minishard_bits'] == 3
    assert sharding['shard_bits'] == 6
    assert sharding['hash'] == 'identity'


def test_chunks_of_a_large_shard_are_listed_512_at_a_time():
    sharding = precomputed_sharding(Xyz(4096, 4096, 4096), Xyz(64, 64, 64), Xyz(1024, 1024, 1024))
    assert (sharding['preshift_bits'], sharding['minishard_bits']) == (9, 3)
    assert sharding['shard_bits'] == 6


@pytest.mark.parametrize(
    ('size', 'shard', 'nearest'),
    [
        (Xyz(100, 80, 60), Xyz(16, 16, 4), '8,8,4'),  # z comes before the second bit of x
        (Xyz(100, 80, 60), Xyz(12, 12, 12), '8,8,8'),  # 3 chunks
        (Xyz(100, 80, 60), Xyz(4, 8, 8), '4,4,4'),
    ],
)
def test_boxes_that_are_no_shard_are_refused(size, shard, nearest):
    with pytest.raises(UserError, match=f'give --shard_size {nearest}$'):
        precomputed_sharding(size, Xyz(4, 4, 4), shard)


def test_shards_may_be_larger_than_the_volume():
    sharding = precomputed_sharding(Xyz(100, 80, 4), Xyz(4, 4, 4), Xyz(16, 16, 16))
    assert sharding['preshift_bits'] == 4
    sharding = precomputed_sharding(Xyz(10, 8, 4), Xyz(4, 4, 4), Xyz(64, 64, 64))
    assert sharding['shard_bits'] == 0


@settings(max_examples=25, deadline=None)
@given(
    grid=st.tuples(*[st.integers(1, 9)] * 3),
    power=st.integers(0, 4),
)
def test_a_shard_is_the_box_that_tensorstore_says(tmp_path_factory, grid, power):
    import tensorstore as ts

    chunk, box = Xyz(3, 2, 4), Box(Xyz(1, 2, 3), Xyz(grid[0] * 3, grid[1] * 2 - 1, grid[2] * 4))
    shard = Xyz(*(n << power for n in chunk))
    output = make_output(tmp_path_factory.mktemp('grid'), 'precomputed', shard, chunk, box)
    output.check()
    output.create('stamp')
    folder = output.spec.partition('://')[2]
    store = ts.open(
        {'driver': 'neuroglancer_precomputed', 'kvstore': {'driver': 'file', 'path': folder}}
    ).result()
    found = store.chunk_layout.write_chunk.shape[:3]
    assert all(f == s or s >= f >= n for f, s, n in zip(found, shard, box.size, strict=True))


@pytest.mark.parametrize('spec', ['zarr:///tmp/a', 'n5:///tmp/a', '/tmp/a.h5:labels'])
def test_formats_without_shards_are_refused(spec):
    output = OutputSpec(spec, BOX, Xyz(4, 4, 4), None, Xyz(8, 8, 8))
    with pytest.raises(UserError, match='has no shards; --shard_size is for zarr3:// and precomp'):
        output.check()


def test_a_shard_holds_whole_chunks(tmp_path):
    with pytest.raises(UserError, match=r'shard size is x,y,z 8,8,8 .*whole chunks of x,y,z 4,5,6'):
        make_output(tmp_path, 'zarr3', Xyz(8, 8, 8)).check()


def test_chunks_are_chosen_for_shards():
    assert Sharding().default_chunk() is None
    assert Sharding(Xyz(512, 480, 63)).default_chunk() == Xyz(64, 60, 63)
    with pytest.raises(UserError, match='shard size x,y,z 500,512,512 cannot be halved'):
        Sharding(Xyz(500, 512, 512)).default_chunk()
    with pytest.raises(UserError, match='expected positive'):
        Sharding(Xyz(64, 0, 64))


@settings(max_examples=30, deadline=None)
@given(
    start=st.tuples(*[st.integers(-9, 9)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    origin=st.tuples(*[st.integers(-5, 5)] * 3),
    shard=st.tuples(*[st.integers(1, 6)] * 3),
)
def test_boxes_are_cut_at_shards(start, size, origin, shard):
    box = Box(Xyz(*start), Xyz(*size))
    covered = np.zeros(box.size.zyx, int)
    for part in Shards(Xyz(*origin), Xyz(*shard)).cut(box):
        covered[part.relative_to(box.start).slices_zyx] += 1
        for first, last, at, side in zip(part.start, part.end, origin, shard, strict=True):
            assert (first - at) // side == (last - 1 - at) // side
    assert np.all(covered == 1)


@pytest.mark.parametrize('scheme', ['zarr3', 'precomputed'])
def test_other_libraries_read_the_shards(tmp_path, scheme):
    """Where they are installed."""
    library = pytest.importorskip({'zarr3': 'zarr', 'precomputed': 'cloudvolume'}[scheme])
    output = make_output(tmp_path, scheme, Xyz(8, 10, 12))
    output.create('stamp')
    labels = np.random.default_rng(1).integers(1, 2**63, BOX.size.zyx, dtype=np.uint64)
    output.open_parallel().write(BOX, labels)
    if scheme == 'zarr3':
        array = library.open(str(tmp_path / 'out'), mode='r')
        assert (array.shards, array.chunks) == ((12, 10, 8), (6, 5, 4))
        found = array[BOX.slices_zyx]
    else:
        volume = library.CloudVolume(f'file://{tmp_path}/out', progress=False)
        assert volume.bounds.minpt.tolist() == list(BOX.start)
        found = np.asarray(volume[volume.bounds])[..., 0].T
    np.testing.assert_array_equal(found, labels)
