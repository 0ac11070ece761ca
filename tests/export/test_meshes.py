"""Meshes of an exported volume, read back: closed, in their place, resumed."""

import json

import numpy as np
import pytest

from ffn.cli import export
from ffn.distributed.local_pools import InProcess
from ffn.export import by_segment, meshes
from ffn.export.by_segment import make
from ffn.export.meshes import MeshConfig, Meshes
from ffn.export.surfaces import check_libraries
from ffn.utils.errors import UserError
from tests.export.mesh_reader import is_closed, read_mesh, segment_ids, volume
from tests.export.shapes import HIGH, START, VOXEL, ball, exported, sample, store

NM3 = np.prod(VOXEL)


def check(folder, labels, start=START, voxel_size=VOXEL, close=0.1):
    """Checks all meshes of a folder against the labels that they are of."""
    ids = np.unique(labels[labels > 0]).tolist()
    assert segment_ids(folder) == ids
    for segment in ids:
        mesh, mask = read_mesh(folder, segment), labels == segment
        where = np.argwhere(mask)[:, ::-1] + np.array(start)
        low, high = where.min(axis=0) * voxel_size, (where.max(axis=0) + 1) * voxel_size
        voxels = np.count_nonzero(mask)
        for level in range(len(mesh.levels)):
            points, triangles = mesh.whole(level)
            assert len(triangles)
            assert is_closed(triangles)
            assert volume(points, triangles) == pytest.approx(
                voxels * np.prod(voxel_size), rel=close if voxels > 100 else 0.5
            )
            slack = np.array(voxel_size) * 1.2 * 2**level
            assert (points.min(axis=0) >= low - slack).all()
            assert (points.max(axis=0) <= high + slack).all()
        check_tree(mesh)


def check_tree(mesh):
    """Every chunk has one above it, and they are along a Z-curve."""
    for finer, coarser in zip(mesh.levels, mesh.levels[1:]):
        parents = {f.place for f in coarser}
        assert all(tuple(n // 2 for n in f.place) in parents for f in finer)
    for level in mesh.levels:
        codes = [
            sum((n >> b & 1) << (3 * b + a) for b in range(12) for a, n in enumerate(f.place))
            for f in level
        ]
        assert codes == sorted(set(codes))
    assert mesh.scales == sorted(mesh.scales)


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_every_segment_has_a_mesh_where_its_voxels_are(tmp_path):
    labels = sample()
    spec = store(tmp_path, labels)
    command = ['--output', str(tmp_path / 'view'), '--labels', spec, '--quiet']
    export.main([*command])  # meshes are added later
    export.main([*command, '--meshes', '--mesh_chunk', '16'])
    folder = tmp_path / 'view' / 'labels'
    info = json.loads((folder / 'info').read_text())
    assert info['mesh'] == 'mesh'
    check(folder / info['mesh'], labels)
    levels = {i: len(read_mesh(folder / 'mesh', i).levels) for i in (2**63 + 5, 7, HIGH, 11)}
    assert levels == {2**63 + 5: 3, 7: 2, HIGH: 2, 11: 1}
    assert not (folder / 'mesh' / 'pieces').exists()
    state = json.loads((tmp_path / 'view/state.json').read_text())
    assert state['layers'][0]['segments'][:2] == [str(7), str(2**63 + 5)]
    before = files(folder / 'mesh')
    export.main([*command, '--meshes', '--mesh_chunk', '16'])
    assert files(folder / 'mesh') == before
    with pytest.raises(UserError, match=r'results of other settings: chunk is 16 .*same settings'):
        export.main([*command, '--meshes'])


def test_borders_of_chunks_coincide(tmp_path):
    labels = np.zeros((40, 44, 50), np.uint64)
    labels[ball(labels.shape, (20, 22, 25), 16)] = 3
    pyramid = exported(tmp_path, labels)
    make(Meshes(pyramid, MeshConfig(True, chunk=16)), InProcess(), quiet=True)
    fragments = read_mesh(pyramid.folder / 'mesh', 3).levels[0]
    assert len(fragments) > 8
    pairs = 0
    for one in fragments:
        for other in fragments:
            step = np.subtract(other.place, one.place)
            if sorted(step.tolist()) == [0, 0, 1]:
                axis = int(step.argmax())
                last, first = (
                    {
                        tuple(p)
                        for p in np.delete(f.stored[f.stored[:, axis] == end], axis, 1).tolist()
                    }
                    for f, end in ((one, 1023), (other, 0))
                )
                assert last == first
                pairs += len(last) > 3
    assert pairs > 8


@pytest.mark.parametrize('whole', [1 << 27, 6000])
def test_an_object_larger_than_memory_has_no_gaps_either(tmp_path, monkeypatch, whole):
    """With a limit of 6000 bytes, cubes of blocks are simplified each by itself."""
    monkeypatch.setattr(meshes, '_WHOLE', whole)
    labels = np.zeros((70, 76, 84), np.uint64)
    labels[ball(labels.shape, (35, 38, 42), 31)] = 9
    pyramid = exported(tmp_path, labels, voxel_size=(8.0, 8.0, 8.0))
    maker = Meshes(pyramid, MeshConfig(True, chunk=8))
    calls = []
    monkeypatch.setattr(
        Meshes, '_cube', lambda self, *a, f=Meshes._cube: calls.append(a) or f(self, *a)
    )
    make(maker, InProcess(), quiet=True)
    assert bool(calls) == (whole == 6000)
    # Cubes do not know the volume of the whole.
    close = 0.1 if whole > 6000 else 0.2
    check(pyramid.folder / 'mesh', labels, voxel_size=(8.0, 8.0, 8.0), close=close)
    assert len(read_mesh(pyramid.folder / 'mesh', 9).levels) == 4


def test_stopped_and_resumed(tmp_path, monkeypatch):
    labels = sample((30, 40, 70))
    config = MeshConfig(True, chunk=8)
    alone = exported(tmp_path / 'alone', labels)
    make(Meshes(alone, config), InProcess(), quiet=True)
    pyramid = exported(tmp_path, labels)
    maker = Meshes(pyramid, config)
    for name, limit in (('cut', 3), ('join', 2)):
        calls, whole = [], getattr(Meshes, name)

        def stop(self, *args, whole=whole, calls=calls, limit=limit):
            calls.append(args)
            if len(calls) > limit:
                raise KeyboardInterrupt
            return whole(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Meshes, name, stop)
            with pytest.raises(KeyboardInterrupt):
                make(maker, InProcess(), quiet=True)
        assert not (maker.folder / 'info').exists()
    done = [
        p
        for p in (maker.folder / 'pieces').rglob('*.npy')
        if p.parent.parent.parent.name == 'pieces'
    ]
    times = {p: p.stat().st_mtime_ns for p in done}
    monkeypatch.setattr(by_segment.shutil, 'rmtree', lambda path: None)
    make(maker, InProcess(), quiet=True)
    assert len(times) > 8
    assert {p: p.stat().st_mtime_ns for p in done} == times
    assert files(maker.folder) == files(alone.folder / 'mesh')


def test_a_damaged_piece_is_told(tmp_path):
    pyramid = exported(tmp_path, sample())
    maker = Meshes(pyramid, MeshConfig(True))
    by_segment.run_blocks(
        InProcess(), by_segment._cut, (maker, by_segment.Pieces(maker.folder / 'pieces')),
        maker.blocks, maker.folder / 'pieces', 'mesh', True, '.npy',
    )  # fmt: skip
    (file,) = (maker.folder / 'pieces').rglob('*.bin')
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    with pytest.raises(UserError, match=r'damaged.*remove .*mesh.* and export again'):
        make(maker, InProcess(), quiet=True)


def test_a_volume_without_segments(tmp_path):
    pyramid = exported(tmp_path, np.zeros((5, 6, 7), np.uint64))
    make(Meshes(pyramid, MeshConfig(True)), InProcess(), quiet=True)
    assert segment_ids(pyramid.folder / 'mesh') == []


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (('--mesh_error', '-1'), '--mesh_error is -1'),
        (('--mesh_levels', '-1'), '--mesh_levels is -1'),
        (('--mesh_chunk', '4'), 'expected 8 to 1024 voxels'),
        (('--soma_radius', 'nan'), '--soma_radius is nan'),
        (('--swc',), '--swc does nothing without --skeletons: give that as well'),
        (('--mesh_error', '5'), '--mesh_error does nothing without --meshes'),
        (('--scales=-3',), '--scales is -3'),
        (('--meshes', '--image', 'x'), '--meshes are made of labels: give --labels'),
        (('--skeletons', '--image', 'x'), '--skeletons are made of labels'),
    ],
)
def test_bad_settings(tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        export.main(['--output', str(tmp_path / 'view'), *flags])


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'DracoPy', None)
    with pytest.raises(UserError, match=r'--meshes needs DracoPy: pip install .*\[mesh\]'):
        check_libraries()
