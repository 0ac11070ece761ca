"""Meshes and skeletons, sharded, as CloudVolume reads them; see `tests.oracles`.

Last run with cloud-volume 12.15.2.
"""

from __future__ import annotations

import numpy as np
import pytest

from ffn.cli import export
from ffn.evaluation.swc import read_swc
from tests import oracles
from tests.export.mesh_reader import read_mesh, volume
from tests.export.shapes import VOXEL, ball, store

pytestmark = oracles.needed
NM3 = np.prod(VOXEL)
HIGH = 2**63 + 5

READ = f"""
import numpy as np
from cloudvolume import CloudVolume
volume = CloudVolume('file://view/labels', progress=False, fill_missing=True)
for segment in (7, 8, {HIGH}):
    for level in range(3 if segment == 7 else 1):
        mesh = volume.mesh.get(segment, lod=level)
        mesh = mesh[segment] if isinstance(mesh, dict) else mesh
        np.savez(f'{{segment}}-{{level}}.npz', points=mesh.vertices, triangles=mesh.faces)
    skeleton = volume.skeleton.get(segment)
    np.savez(f'{{segment}}-skeleton.npz', nodes=skeleton.vertices, edges=skeleton.edges, radius=skeleton.radius)
"""


def test_meshes_and_skeletons_of_many_shards(tmp_path, monkeypatch):
    monkeypatch.setattr('ffn.export.meshes._SHARD', 4000)
    monkeypatch.setattr('ffn.export.skeletons._SHARD', 400)
    labels = np.zeros((40, 90, 120), np.uint64)
    labels[ball(labels.shape, (19, 40, 50), 18)] = 7
    labels[10:14, 60:66, :] = HIGH
    labels[:3, :5, :2] = 8
    labels[30:34, ::9, ::8] = np.arange(2 * 5, 2 * 5 + 150).reshape(10, 15)
    export.main(
        [
            *('--output', str(tmp_path / 'view'), '--labels', store(tmp_path, labels)),
            *('--meshes', '--mesh_chunk', '16', '--skeletons', '--skeleton_voxel', '8', '--swc'),
            '--quiet',
        ]
    )
    for kind in ('mesh', 'skeletons'):
        assert len(list((tmp_path / 'view/labels' / kind).glob('*.shard'))) > 3
    oracles.run(tmp_path, READ)
    for segment in (7, 8, HIGH):
        mesh = read_mesh(tmp_path / 'view/labels/mesh', segment)
        for level in range(3 if segment == 7 else 1):
            read = np.load(tmp_path / f'{segment}-{level}.npz')
            check_mesh(read['points'], read['triangles'], mesh, level, labels == segment)
        read = np.load(tmp_path / f'{segment}-skeleton.npz')
        check_skeleton(read, read_swc(tmp_path / f'view/labels/skeletons/swc/{segment}.swc'))


def check_mesh(points, triangles, mesh, level, mask):
    """The same points and as many triangles as we read ourselves, which hold the volume of the voxels."""
    ours, ours_triangles = mesh.whole(level)
    assert len(triangles) == len(ours_triangles)
    unique = np.unique(np.round(points, 1), axis=0)
    np.testing.assert_allclose(unique, np.unique(np.round(ours, 1), axis=0), atol=0.2)
    assert volume(points.astype(float), triangles.astype(int)) == pytest.approx(
        np.count_nonzero(mask) * NM3, rel=0.05
    )


def check_skeleton(read, swc):
    """The same edges as in the SWC file."""
    nodes, edges = swc
    assert len(read['nodes']) == len(nodes)
    assert (read['radius'] > 0).all()
    np.testing.assert_allclose(ends(read['nodes'], read['edges']), ends(nodes, edges), atol=0.5)


def ends(nodes, edges):
    """Both ends of every edge, in an order that does not depend on how they are numbered."""
    places = np.round(np.asarray(nodes, float)[edges])
    pairs = [sorted(map(tuple, pair)) for pair in places.tolist()]
    return np.array(sorted(pairs)).reshape(-1, 6)
