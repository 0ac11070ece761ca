"""Skeletons: one tree for each component, inside it, from tip to tip."""

import json

import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ffn.cli import export
from ffn.distributed.local_pools import InProcess
from ffn.evaluation.swc import read_swc
from ffn.export import skeletons
from ffn.export.by_segment import make
from ffn.export.centre_lines import distances, fill_cavities, find_lines
from ffn.export.skeletons import SkeletonConfig, Skeletons
from ffn.export.swc_files import decode
from ffn.export.trees import straighten
from ffn.utils.geometry import Xyz
from tests.export.mesh_reader import key, open_shards
from tests.export.shapes import HIGH, START, VOXEL, ball, exported, measures_of, sample, store

EVERYWHERE = np.ones((3, 3, 3))


def read(folder):
    """Skeletons by id."""
    info = json.loads((folder / 'info').read_text())
    shards = open_shards(folder, info['sharding'])
    found = shards.list().result()
    return {int.from_bytes(k, 'big'): decode(shards[k]) for k in found}


def check(found, labels, start=START, voxel_size=VOXEL):
    assert found.keys() == set(np.unique(labels[labels > 0]).tolist())
    for label, (nodes, edges, radius) in found.items():
        voxels = np.floor(nodes / voxel_size + 1e-4).astype(int)[:, ::-1] - start.zyx
        assert (labels[tuple(voxels.T)] == label).all()
        parts, count = ndimage.label(labels == label, EVERYWHERE)
        graph = coo_array((np.ones(len(edges)), edges.T.astype(int)), (len(nodes),) * 2)
        trees, tree = connected_components(graph, directed=False)
        assert trees == count
        assert len(edges) == len(nodes) - trees  # no cycles
        assert len(np.unique(edges[:, 1])) == len(edges), 'a node with two parents'
        assert {*zip(parts[tuple(voxels.T)].tolist(), tree.tolist())}.__len__() == count
        assert (radius > 0).all()


def length(nodes, edges):
    return np.linalg.norm(nodes[edges[:, 0]] - nodes[edges[:, 1]], axis=1).sum()


def test_one_tree_for_each_component_inside_it(tmp_path):
    labels = sample()
    labels[18, 30:33, 2:6] = 12  # a second component
    spec = store(tmp_path, labels)
    command = ['--output', str(tmp_path / 'view'), '--labels', spec, '--quiet']
    export.main([*command, '--skeletons', '--skeleton_voxel', '0', '--swc', '--soma_radius', '60'])
    folder = tmp_path / 'view' / 'labels'
    assert json.loads((folder / 'info').read_text())['skeletons'] == 'skeletons'
    found = read(folder / 'skeletons')
    check(found, labels)
    tube = length(*found[2**63 + 5][:2])
    assert tube == pytest.approx(60 * VOXEL[0], rel=0.2)  # from corner to corner
    for label, (nodes, edges, _) in found.items():
        swc, pairs = read_swc(folder / 'skeletons' / 'swc' / f'{label}.swc')
        np.testing.assert_allclose(sorted(swc.tolist()), sorted(nodes.tolist()), rtol=1e-5)
        assert length(swc, pairs) == pytest.approx(length(nodes, edges), rel=1e-5, abs=1e-3)
    inline = json.loads((folder / 'segment_properties' / 'info').read_text())['inline']
    rows = {p['id']: dict(zip(map(int, inline['ids']), p['values'])) for p in inline['properties']}
    assert rows['voxels'][11] == 1
    assert rows['run_length_um'][2**63 + 5] == pytest.approx(tube / 1000)
    assert rows['tags'] == {i: [0] if r >= 60 else [] for i, r in rows['radius_nm'].items()}
    assert rows['tags'][HIGH] == [0]
    assert rows['tags'][11] == []
    before = (folder / 'segment_properties' / 'info').read_bytes()
    for more in ((), ('--skeletons', '--skeleton_voxel', '0'), ('--soma_radius', '60')):
        export.main([*command, *more])  # what is there stays
        assert (folder / 'segment_properties' / 'info').read_bytes() == before
    export.main([*command, '--soma_radius', '2000'])
    assert b'A radius of 2000 nm' in (folder / 'segment_properties' / 'info').read_bytes()


@pytest.mark.parametrize('voxel', [6, 12])
def test_blocks_and_scales(tmp_path, monkeypatch, voxel):
    """Bent tubes, a ring and a ball through many blocks; on the scale of 12 nm, too."""
    monkeypatch.setattr(skeletons, '_BLOCK', Xyz(15, 11, 9))
    labels = np.zeros((26, 47, 70), np.uint64)
    z, y, x = np.indices(labels.shape)
    labels[(np.abs(z - 6) < 2) & (np.abs(np.hypot(y - 20, x - 22) - 14) < 2.2)] = 4  # a ring
    labels[(np.abs(z - 14 - 5 * np.sin(x / 9)) < 2) & (np.abs(y - 41) < 2)] = HIGH
    labels[ball(labels.shape, (16, 18, 45), 9)] = 6
    labels[25, :, 3] = 8  # one voxel wide
    pyramid = exported(tmp_path, labels, voxel_size=(6.0, 6.0, 6.0))
    maker = Skeletons(pyramid, SkeletonConfig(True, voxel=voxel))
    assert maker.level == (voxel == 12)
    assert len(list(maker.blocks())) > 10
    make(maker, InProcess(), quiet=True)
    found = read(maker.folder)
    check(found, labels, voxel_size=(6.0, 6.0, 6.0))
    assert length(*found[8][:2]) == pytest.approx(46 * 6, rel=0.1)
    # Blocks are hardly wider than the ring: its line winds from passage to passage.
    assert length(*found[4][:2]) == pytest.approx(2 * np.pi * 14 * 6, rel=0.3)
    nodes = found[HIGH][0]
    assert nodes[:, 0].min() < (START.x + 7) * 6
    assert nodes[:, 0].max() > (START.x + 57) * 6
    assert measures_of(maker.folder)[8][0] == pytest.approx(length(*found[8][:2]), rel=1e-5)


@pytest.mark.parametrize('voxel', [6, 12])
def test_segments_that_vanish_on_a_coarse_scale_are_told(tmp_path, caplog, voxel):
    labels = np.full((10, 26, 70), 3, np.uint64)
    labels[4, 6, 8], labels[5, 9, 10:12], labels[:, 20:, :] = 5, HIGH, 7
    spec = store(tmp_path, labels)
    command = [
        '--output',
        str(tmp_path / 'view'),
        '--labels',
        spec,
        '--quiet',
        '--voxel_size=6,6,6',
    ]
    export.main([*command, '--skeletons', '--skeleton_voxel', str(voxel)])
    found = read(tmp_path / 'view' / 'labels' / 'skeletons').keys()
    told = [r.getMessage() for r in caplog.records if 'have no skeleton' in r.getMessage()]
    assert found == ({3, 5, 7, HIGH} if voxel == 6 else {3, 7})
    assert [line.split(':')[0] for line in told] == [
        '2 of 4 segments, the largest of 2 voxels, have no skeleton'
    ] * (voxel == 12)


@pytest.mark.parametrize('width', [1, 2, 3, 4, 5, 6])
def test_bars_of_any_width(width):
    mask = np.zeros((width + 2, width + 3, 60), bool)
    mask[1:-1, 1:-2, 3:57] = True
    size = (1.0, 1.0, 1.0)
    nodes, edges = find_lines(mask, distances(mask, size), size, np.zeros((0, 3), int))
    assert mask[tuple(nodes.T)].all()
    assert nodes[:, 2].min() == 3
    assert nodes[:, 2].max() == 56
    assert len(edges) == len(nodes) - 1


def test_branches_run_from_parent_to_child(tmp_path):
    labels = np.zeros((12, 70, 76), np.uint64)
    labels[4:8, 33:37, 3:70] = 5
    labels[4:8, 3:68, 20:24] = 5
    labels[4:8, 36:66, 44:48] = 5
    command = ['--output', str(tmp_path / 'view'), '--labels', store(tmp_path, labels), '--quiet']
    export.main([*command, '--skeletons', '--skeleton_voxel', '0'])
    found = read(tmp_path / 'view' / 'labels' / 'skeletons')
    check(found, labels)
    assert np.bincount(found[5][1][:, 0]).max() > 1, 'no branch'


def test_every_tip_is_reached():
    mask = np.zeros((9, 60, 60), bool)
    mask[3:6, 28:32, 2:58] = True
    mask[3:6, 2:58, 28:32] = True
    size = (1.0, 1.0, 1.0)
    nodes, edges = find_lines(mask, distances(mask, size), size, np.zeros((0, 3), int))
    ones = np.bincount(edges.ravel()) == 1
    tips = nodes[ones]
    for end in ((4, 30, 3), (4, 30, 57), (4, 3, 30), (4, 57, 30)):
        assert np.linalg.norm(tips - end, axis=1).min() < 4


def test_a_tip_beside_the_thickest_place_is_reached():
    mask = np.zeros((11, 12, 60), bool)
    mask[3:8, 3:8, 3:57] = True
    mask[2:9, 2:9, 49:54] = True
    size = (1.0, 1.0, 1.0)
    radius = distances(mask, size)
    nodes, _ = find_lines(mask, radius, size, np.array([[5, 5, 3]]))
    assert nodes[:, 2].max() == 56
    assert radius[tuple(nodes.T)].max() == radius.max()


def test_cavities():
    mask = np.zeros((20, 21, 22), bool)
    mask[2:18, 2:19, 2:20] = True
    mask[8:12, 8:13, 8:14] = False
    assert fill_cavities(mask)[2:18, 2:19, 2:20].all()
    assert fill_cavities(mask).sum() == 16 * 17 * 18
    assert distances(mask, (1, 1, 1)).max() == 8
    open_ = np.ones((5, 5, 5), bool)
    open_[2, 2, 2:] = False  # reaches the border
    np.testing.assert_array_equal(fill_cavities(open_), open_)
    nodes, _ = find_lines(mask, distances(mask, (1, 1, 1)), (1, 1, 1), np.zeros((0, 3), int))
    assert mask[tuple(nodes.T)].all()


def test_straightened_lines_have_their_length():
    steps = np.stack([np.arange(90), np.round(np.arange(90) * 0.4), np.zeros(90)], axis=1)
    edges = np.stack([np.arange(89), np.arange(1, 90)], axis=1)
    kept = straighten(steps, edges, 1.0)
    assert len(kept) < 5
    assert length(steps, kept) == pytest.approx(np.hypot(89, 36), rel=1e-3)
    assert length(steps, edges) > 1.04 * length(steps, kept)


def test_key_of_the_highest_id():
    assert key(HIGH) == b'\xff' * 7 + b'\xfe'
