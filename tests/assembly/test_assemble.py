"""Known labels, cut into subvolumes with ids of their own, come back whole."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import cc3d
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.assembly.assembly import assemble
from ffn.assembly.config import Assembly, describe_tiling, parse_masks
from ffn.assembly.masked import find_unmasked_subvolumes
from ffn.assembly.matching import Matching
from ffn.assembly.overlaps import Overlap, count_row, overlap_path
from ffn.assembly.tiling import Tiling
from ffn.assembly.write import default_chunk
from ffn.cli.assemble import main
from ffn.distributed.local_pools import InProcess
from ffn.inference import inference_pb2
from ffn.inference.storage import corner_of, read_labels, subvolumes
from ffn.utils import protos
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.volume import open_volume
from tests.assembly.cut import blobs, check_same_objects, cut, local, write

SHAPE = (21, 30, 45)
JOIN = Matching(min_voxels=1, min_fraction_smaller=0, conflicts='join')


def make_assembly(folder, tiling, spec, chunk=(16, 16, 16), matching=JOIN, shard=None) -> Assembly:
    output = OutputSpec(spec, tiling.box, Xyz(*chunk), (8.0, 9.0, 30.0), shard)
    return Assembly(
        folder / 'results',
        tiling,
        (),
        matching,
        output,
        folder / 'results' / 'assembly',
    )


def read(spec: str, box: Box) -> np.ndarray:
    with open_volume(spec) as volume:
        assert volume.dtype == np.uint64
        return volume.read(box)


def test_what_is_not_labelled_is_no_object(tmp_path, caplog):
    tiling = Tiling(Box.of_shape(SHAPE), Xyz(20, 30, 21), Xyz(5, 4, 3))
    labels = blobs(SHAPE, 9, 2).astype(np.uint64)
    cut(tmp_path / 'results', labels, tiling)
    labels[:, 3:6, :40] = 0
    for path in subvolumes(tmp_path / 'results').values():
        box = Box.from_zyx(corner_of(path), read_labels(path).shape)
        part = read_labels(path).astype(np.uint64)
        part[:, 3:6, : 40 - box.start.x] = 2**64 - 1
        write(tmp_path / 'results', box, part)
    spec = f'{tmp_path}/whole.h5:labels'
    done = assemble(make_assembly(tmp_path, tiling, spec), InProcess(), quiet=True)
    found = read(spec, tiling.box)
    check_same_objects(found, labels)
    assert done['objects_in_cores'] == len(np.unique(labels)) - 1
    told = 'in 3 subvolumes, voxels with the label 2^64-1 are not labelled'
    assert told in caplog.text
    caplog.clear()
    assemble(make_assembly(tmp_path, tiling, spec), InProcess(), quiet=True)
    assert told in caplog.text  # where all overlaps are there as well


def test_tables_that_count_what_is_not_labelled_are_made_anew(tmp_path):
    """As an earlier version left them, when it was stopped."""
    tiling = Tiling(Box.of_shape(SHAPE), Xyz(20, 30, 21), Xyz(5, 4, 3))
    cut(tmp_path / 'results', blobs(SHAPE, 9, 2).astype(np.uint64), tiling)
    folder = tmp_path / 'overlaps'
    row, every = [Xyz(0, 0, 0)], set(tiling.places())
    assert count_row(tmp_path / 'results', tiling, folder, row, every)[0] == 1
    assert count_row(tmp_path / 'results', tiling, folder, row, every)[0] == 0
    path = overlap_path(folder, tiling.corner_zyx(row[0]))
    table = Overlap.load(path)
    table.shared[0][0, 1] = 2**64 - 1
    table.save(path)
    assert count_row(tmp_path / 'results', tiling, folder, row, every)[0] == 1
    assert 2**64 - 1 not in Overlap.load(path).shared[0]


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(9, 46), st.integers(9, 31), st.integers(9, 22)),
    overlap=st.tuples(*[st.integers(2, 4)] * 3),
    chunk=st.tuples(*[st.integers(4, 20)] * 3),
    start=st.tuples(*[st.integers(0, 5)] * 3),
    count=st.integers(1, 25),
    seed=st.integers(0, 999),
)
def test_any_tiling_restores_the_labels(tmp_path_factory, size, overlap, chunk, start, count, seed):
    folder = tmp_path_factory.mktemp('any')
    labels = blobs(SHAPE, count, seed)
    start = Xyz(*start)
    tiling = Tiling(
        Box(start, Xyz(*(n - s for n, s in zip(SHAPE[::-1], start)))), Xyz(*size), Xyz(*overlap)
    )
    # One label in two places is two objects, unless the places are in one subvolume.
    labels[tiling.box.slices_zyx] = cc3d.connected_components(
        labels[tiling.box.slices_zyx], connectivity=6
    )
    cut(folder / 'results', labels, tiling, seed)
    spec = f'zarr://{folder}/out.zarr'
    statistics = assemble(make_assembly(folder, tiling, spec, chunk), InProcess(), quiet=True)
    found = read(spec, tiling.box)
    check_same_objects(found, labels[tiling.box.slices_zyx])
    assert statistics['voxels'] == np.count_nonzero(found)
    assert statistics['objects_in_cores'] == len(np.unique(found[found > 0]))
    assert statistics['conflicts'] == 0


@pytest.mark.parametrize('form', ['h5', 'zarr', 'zarr3', 'n5', 'precomputed'])
def test_every_format(tmp_path, form):
    labels = blobs(SHAPE, 12, 3)
    tiling = Tiling(Box.of_shape(SHAPE), Xyz(22, 17, 15), Xyz(6, 5, 7))
    cut(tmp_path / 'results', labels, tiling)
    spec = f'{tmp_path}/out.h5:whole/labels' if form == 'h5' else f'{form}://{tmp_path}/out'
    assemble(make_assembly(tmp_path, tiling, spec), InProcess(), quiet=True)
    check_same_objects(read(spec, tiling.box), labels)


@pytest.mark.parametrize('form', ['zarr3', 'precomputed'])
@pytest.mark.parametrize('side', [8, 32])  # smaller, and larger than a core
def test_shards(tmp_path, form, side):
    labels = blobs(SHAPE, 12, 3)
    box = Box(Xyz(7, 5, 3), Xyz(37, 23, 17))
    tiling = Tiling(box, Xyz(22, 17, 11), Xyz(6, 5, 5))
    cut(tmp_path / 'results', labels, tiling)
    spec = f'{form}://{tmp_path}/out'
    sharded = make_assembly(tmp_path, tiling, spec, (4, 4, 4), shard=Xyz(side, side, side))
    statistics = assemble(sharded, InProcess(), quiet=True)
    found = read(spec, box)
    check_same_objects(found, labels[box.slices_zyx])
    assert statistics['voxels'] == np.count_nonzero(found)
    # A file a shard, but for the shards that are empty.
    first = (0, 0, 0) if form == 'zarr3' else box.start
    shards = math.prod(-(-(e - s) // side) for s, e in zip(first, box.end))
    files = [path for path in (tmp_path / 'out').rglob('*') if path.is_file()]
    assert 3 <= len(files) <= shards + 2  # metadata and stamp
    # Stopped after the first tasks: the rest is written again, and the same.
    marks = sorted(path for path in (sharded.folder / 'written').rglob('*') if path.is_file())
    for mark in marks[1:]:
        mark.unlink()
    assemble(sharded, InProcess(), quiet=True)
    np.testing.assert_array_equal(read(spec, box), found)


def test_shards_are_a_setting_of_the_output(tmp_path):
    labels = blobs(SHAPE, 12, 3)
    tiling = Tiling(Box.of_shape(SHAPE), Xyz(22, 17, 15), Xyz(6, 5, 7))
    cut(tmp_path / 'results', labels, tiling)
    spec = f'zarr3://{tmp_path}/out'
    without = make_assembly(tmp_path, tiling, spec)
    assert 'shard_xyz' not in without.as_dict()  # what earlier versions began is resumed
    assemble(without, InProcess(), quiet=True)
    with pytest.raises(UserError, match='shard_xyz'):
        assemble(
            make_assembly(tmp_path, tiling, spec, shard=Xyz(32, 32, 32)), InProcess(), quiet=True
        )


def test_absolute_coordinates(tmp_path):
    labels = blobs(SHAPE, 12, 3)
    box = Box(Xyz(7, 5, 3), Xyz(30, 22, 16))
    tiling = Tiling(box, Xyz(22, 17, 11), Xyz(6, 5, 5))
    cut(tmp_path / 'results', labels, tiling)
    for form in ('zarr', 'precomputed'):
        folder = tmp_path / form
        folder.mkdir()
        (folder / 'results').symlink_to(tmp_path / 'results')
        given = make_assembly(folder, tiling, f'{form}://{folder}/out')
        own = Assembly(
            given.directory, tiling, given.masks, given.matching, given.output, folder / 'assembly'
        )
        assemble(own, InProcess(), quiet=True)
        with open_volume(own.output.spec) as volume:
            assert volume.box.end == box.end
            assert volume.box.start == (box.start if form == 'precomputed' else (0, 0, 0))
            check_same_objects(volume.read(box), labels[box.slices_zyx])
            if form == 'zarr':
                assert not volume.read(volume.box)[:3].any()


def test_hdf5_keeps_what_else_the_file_holds(tmp_path):
    labels = blobs(SHAPE, 5, 1)
    tiling = Tiling(Box.of_shape(SHAPE), Xyz(30, 30, 30), Xyz(8, 8, 8))
    cut(tmp_path / 'results', labels, tiling)
    with h5py.File(tmp_path / 'out.h5', 'w') as file:
        file['image'] = np.arange(5)
    assemble(make_assembly(tmp_path, tiling, f'{tmp_path}/out.h5:seg'), InProcess(), quiet=True)
    with h5py.File(tmp_path / 'out.h5') as file:
        assert file['image'][:].tolist() == [0, 1, 2, 3, 4]
        check_same_objects(file['seg'][:], labels)


def test_a_url(tmp_path):
    labels = blobs(SHAPE, 12, 3)
    tiling = Tiling(Box.of_shape(SHAPE), Xyz(22, 17, 15), Xyz(6, 5, 7))
    cut(tmp_path / 'results', labels, tiling)
    given = make_assembly(tmp_path, tiling, f'zarr3://file://{tmp_path}/out/')
    assert not given.output.exists()
    for _ in range(2):
        assemble(given, InProcess(), quiet=True)
        check_same_objects(read(f'zarr3://{tmp_path}/out', tiling.box), labels)
    assert given.output.exists()
    chunks = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*')}
    assemble(given, InProcess(), quiet=True)
    assert chunks == {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*')}
    other = dataclasses.replace(given, folder=tmp_path / 'other', matching=Matching(7))
    with pytest.raises(UserError, match='exists, and was not started with'):
        assemble(other, InProcess(), quiet=True)


@pytest.mark.parametrize('spec', ['tiff://a', 'zarr://file:///proc/none/a'])
def test_an_output_that_cannot_be_made(tmp_path, spec):
    labels = blobs(SHAPE, 3, 3)
    tiling = Tiling(Box.of_shape(SHAPE), Xyz(*SHAPE[::-1]), Xyz(0, 0, 0))
    cut(tmp_path / 'results', labels, tiling)
    with pytest.raises(UserError, match=r'unknown kind of volume|cannot be made'):
        assemble(make_assembly(tmp_path, tiling, spec), InProcess(), quiet=True)


def test_a_chunk_that_cannot_be_written(tmp_path):
    labels = blobs(SHAPE, 3, 3)
    tiling = Tiling(Box.of_shape(SHAPE), Xyz(*SHAPE[::-1]), Xyz(0, 0, 0))
    cut(tmp_path / 'results', labels, tiling)
    assembly = make_assembly(tmp_path, tiling, f'zarr://{tmp_path}/out')
    assemble(assembly, InProcess(), quiet=True)
    shutil.rmtree(tmp_path / 'out/0')
    shutil.rmtree(assembly.folder / 'written')
    (tmp_path / 'out/0').write_text('no folder')
    with pytest.raises(UserError, match=r'writing: .* cannot be written'):
        assemble(assembly, InProcess(), quiet=True)


def test_one_subvolume_as_thin_as_the_overlap(tmp_path):
    """An overlap says nothing along an axis that has one subvolume."""
    labels = blobs(SHAPE, 9, 3)
    z, y, x = SHAPE
    for overlap in (Xyz(8, 8, z), Xyz(8, 8, z + 3)):
        tiling = Tiling(Box.of_shape(SHAPE), Xyz(x // 2 + 8, y, z), overlap)
        folder = tmp_path / str(overlap.z)
        cut(folder / 'results', labels, tiling)
        assemble(make_assembly(folder, tiling, f'zarr://{folder}/out'), InProcess(), quiet=True)
        check_same_objects(read(f'zarr://{folder}/out', tiling.box), labels)


def test_killed_before_there_is_more_than_a_stamp(tmp_path):
    labels = blobs(SHAPE, 3, 3)
    tiling = Tiling(Box.of_shape(SHAPE), Xyz(*SHAPE[::-1]), Xyz(0, 0, 0))
    cut(tmp_path / 'results', labels, tiling)
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'ffn.json.__lock').touch()
    assemble(make_assembly(tmp_path, tiling, f'zarr://{tmp_path}/out'), InProcess(), quiet=True)
    check_same_objects(read(f'zarr://{tmp_path}/out', tiling.box), labels)
    assert json.loads((tmp_path / 'out' / 'ffn.json').read_text())['complete']


def test_a_box_that_begins_before_0(tmp_path):
    """As those of precomputed images may."""
    box = Box(Xyz(-30, -5, -10), Xyz(50, 40, 20))
    tiling = Tiling(box, Xyz(20, 24, 20), Xyz(8, 8, 8))
    labels = blobs((20, 40, 50), 9, 2)
    random = np.random.default_rng(1)
    for place in tiling.places():
        part = tiling.subvolume(place)
        write(tmp_path, part, local(labels[part.relative_to(box.start).slices_zyx], random))

    def arguments(spec):
        return [
            '--segmentation',
            str(tmp_path),
            '--bounding_box',
            str(box.to_proto()),
            '--quiet',
            '--subvolume_size',
            '20,24,20',
            '--overlap',
            '8,8,8',
            '--output',
            spec,
            '--min_overlap_voxels',
            '1',
            '--min_fraction_smaller',
            '0',
            '--conflicts',
            'join',
        ]

    for spec in (f'{tmp_path}/o.h5:seg', f'zarr://{tmp_path}/z', f'n5://{tmp_path}/n'):
        with pytest.raises(UserError, match=r'begins at 0, and the box at .*precomputed://'):
            main(arguments(spec))
    main([*arguments(f'precomputed://{tmp_path}/p'), '--voxel_size', '8,9,30'])
    check_same_objects(read(f'precomputed://{tmp_path}/p', box), labels)


@pytest.mark.parametrize(
    ('stored', 'flag', 'written'),
    [
        ((8.0, 9.5, 30.0), [], [8, 9.5, 30]),
        ((8.0, 9.5, 30.0), ['--voxel_size', '4,5,6'], [4, 5, 6]),
        (None, ['--voxel_size', '4,5,6'], [4, 5, 6]),
        (None, [], None),
    ],
)
def test_the_voxel_size_of_the_subvolumes_request(tmp_path, caplog, stored, flag, written):
    request = inference_pb2.InferenceRequest()
    if stored:
        request.voxel_size.x, request.voxel_size.y, request.voxel_size.z = stored
    box = Box(Xyz(0, 0, 0), Xyz(20, 16, 12))
    labels = np.ones(box.size.zyx, np.uint32)
    write(tmp_path / 'results', box, labels, request.SerializeToString())
    given = ['--segmentation', f'{tmp_path}/results', '--bounding_box', str(box.to_proto())]
    tiling = ['--subvolume_size', '20,16,12', '--overlap', '4,4,4', '--quiet', *flag]
    arguments = [*given, *tiling, '--output', f'precomputed://{tmp_path}/p']
    if written is None:
        with pytest.raises(UserError, match=r'p stores .* which nothing says: give --voxel_size'):
            main(arguments)
        assert not (tmp_path / 'p').exists()
        return
    main(arguments)
    info = json.loads((tmp_path / 'p/info').read_text())
    assert info['scales'][0]['resolution'] == written
    told = 'x,y,z 4,5,6 nm (--voxel_size), but x,y,z 8,9.5,30 nm (the request' in caplog.text
    assert told == bool(stored and flag)


@pytest.mark.parametrize('output', ['zarr://{}/z', 'n5://{}/n', '{}/o.h5:labels'])
def test_another_voxel_size_than_before_is_refused(tmp_path, output):
    box, spec = Box(Xyz(0, 0, 0), Xyz(20, 16, 12)), output.format(tmp_path)
    write(tmp_path / 'results', box, np.ones(box.size.zyx, np.uint32))
    given = ['--segmentation', f'{tmp_path}/results', '--bounding_box', str(box.to_proto())]
    tiling = ['--subvolume_size', '20,16,12', '--overlap', '4,4,4', '--quiet', '--output', spec]
    main([*given, *tiling, '--voxel_size', '8,9,30'])
    main([*given, *tiling, '--voxel_size', '8,9,30'])
    main([*given, *tiling])
    with pytest.raises(UserError, match=r'with voxels of x,y,z 8,9,30 nm .* not x,y,z 4,5,40 nm'):
        main([*given, *tiling, '--voxel_size', '4,5,40'])


def test_chunks_of_a_box_that_begins_before_0():
    tiling = Tiling(Box(Xyz(-500, 0, 0), Xyz(500, 500, 500)), Xyz(200, 200, 200), Xyz(40, 40, 40))
    assert min(default_chunk(tiling)) >= 24


def test_masks_are_recorded_as_their_message():
    """Folders of earlier versions hold the text of the whole MaskConfigs."""
    text = """
      masks { coordinate_expression { expression: "x < 20\\n" } invert: false }
      masks {
        volume { mask { hdf5: "/a.h5:b" } channels { values: 1 values: 2 } channels { min_value: 0.1 } }
        invert: true
      }"""
    tiling = Tiling(Box.of_shape((20, 40, 50)), Xyz(20, 24, 20), Xyz(8, 8, 8))
    message = protos.parse_text(text, inference_pb2.MaskConfigs(), '--mask')
    assert describe_tiling(tiling, parse_masks(text, '--mask'))['masks'] == str(message)
    assert describe_tiling(tiling, ())['masks'] == ''


def test_masks_are_looked_at_once(tmp_path, monkeypatch):
    shape = (20, 40, 50)
    tiling = Tiling(Box.of_shape(shape), Xyz(20, 24, 20), Xyz(8, 8, 8))
    masks = parse_masks(
        'masks { coordinate_expression { expression: "(x < 20) | (y > 28)" } }', '--mask'
    )
    seen = []

    class Stops(InProcess):
        def run(self, function, tasks):
            for task in tasks:
                seen.append(task)
                if len(seen) == 2:
                    raise KeyboardInterrupt
                yield from super().run(function, [task])

    with pytest.raises(KeyboardInterrupt):
        find_unmasked_subvolumes(tiling, masks, tmp_path, Stops(), quiet=True)
    places = find_unmasked_subvolumes(tiling, masks, tmp_path, Stops(), quiet=True)
    grid = tiling.grid
    assert len(seen) == grid.y * grid.z + 1
    for place in tiling.places():
        box = tiling.subvolume(place)
        assert (place in places) == (box.end.x > 20 and box.start.y <= 28)
    again = find_unmasked_subvolumes(tiling, masks, tmp_path, Stops(), quiet=True)
    assert len(seen) == grid.y * grid.z + 1
    assert list(again) == list(places)
    assert 0 < len(places) < len(tiling)
