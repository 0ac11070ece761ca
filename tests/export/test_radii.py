"""Radii and lengths of bodies do not depend on where blocks lie."""

import json

import numpy as np
import pytest

from ffn.cli import export
from ffn.distributed.local_pools import InProcess
from ffn.export import radii, skeletons
from ffn.export.by_segment import make
from ffn.export.radii import Surroundings, greatest_radius
from ffn.export.scales import plan_scales
from ffn.export.skeletons import SOMA_RADIUS, SkeletonConfig, Skeletons
from ffn.utils.geometry import Box, Xyz
from tests.export.shapes import START, ball, exported, measures_of, store

BLOCK, RADIUS, VOXEL = Xyz(38, 36, 34), 20, (10.0, 10.0, 10.0)


@pytest.mark.parametrize('background', [0, 9])
@pytest.mark.parametrize(
    'centre', [(21, 22, 23), (33, 22, 23), (34, 36, 38), (30, 33, 45)], ids=str
)
def test_a_body_anywhere_on_the_grid_of_blocks(tmp_path, monkeypatch, centre, background):
    """In a block, on a face, at the corner of eight, off it."""
    monkeypatch.setattr(skeletons, '_BLOCK', BLOCK)
    labels = np.full((62, 66, 70), background, np.uint64)
    labels[ball(labels.shape, centre, RADIUS)] = 7
    pyramid = exported(tmp_path, labels, voxel_size=VOXEL)
    maker = Skeletons(pyramid, SkeletonConfig(True, voxel=10))
    assert maker.level == 0
    deepest = [
        Surroundings.read(pyramid, 0, block).radii(7, block).max() for block in maker.blocks()
    ]
    assert len(deepest) == 8
    assert max(deepest) == pytest.approx(RADIUS * 10, abs=10)
    if background == 0:
        make(maker, InProcess(), quiet=True)
        length, radius = measures_of(maker.folder)[7]
        assert length == 0
        assert radius == pytest.approx(RADIUS * 10, abs=10)


@pytest.mark.parametrize('corner', [(0, 0), (0, 17), (2, 1)], ids=str)
def test_a_neurite_along_a_plane_between_blocks_has_one_line(tmp_path, monkeypatch, corner):
    """It winds about the edge of four blocks, in the middle of a face, and beside the edge."""
    labels = np.zeros((62, 66, 110), np.uint64)
    z, y = BLOCK.z - corner[0], BLOCK.y - corner[1]
    for x in range(8, 102):
        at = z + 3 * np.sin(x / 9), y + 3 * np.cos(x / 13), x
        labels[ball(labels.shape, at, 4)] = 7
    lengths = []
    for name, block in (('one', Xyz(200, 200, 200)), ('many', BLOCK)):
        monkeypatch.setattr(skeletons, '_BLOCK', block)
        pyramid = exported(tmp_path / name, labels, voxel_size=VOXEL)
        maker = Skeletons(pyramid, SkeletonConfig(True, voxel=10))
        make(maker, InProcess(), quiet=True)
        lengths.append(measures_of(maker.folder)[7][0])
    assert lengths[1] == pytest.approx(lengths[0], rel=0.15)


def test_distances_are_those_of_the_whole_volume(tmp_path):
    """A sheet that is cut along its surface, and a bar that is cut across, beside a body."""
    labels = np.zeros((40, 50, 90), np.uint64)
    labels[10:22, 5:45, 8:80] = 3
    labels[30:36, 20:27, :] = 5
    labels[28:, 30:, 50:] = 4
    pyramid = exported(tmp_path, labels, voxel_size=VOXEL, max_scales=1)
    block = Box.from_zyx((START.z + 9, START.y + 4, START.x + 7), (12, 30, 25))
    around = Surroundings.read(pyramid, 0, block)
    np.testing.assert_array_equal(around.inside, labels[9:21, 4:34, 7:32])
    found = around.radii(3, block)
    depth = np.minimum(np.arange(40) - 9, 22 - np.arange(40))  # in the middle of the sheet
    np.testing.assert_allclose(found[1:, 15, 17], 10 * depth[10:21])
    assert found.max() == 60


def test_what_few_scales_do_not_measure_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(radii, '_LAST_MARGIN', 8)
    monkeypatch.setattr(skeletons, '_BLOCK', Xyz(24, 24, 24))
    labels = np.full((20, 23, 70), 3, np.uint64)
    labels[:, :, 0] = 0
    spec = store(tmp_path, labels, voxel_size=VOXEL)
    command = ['--labels', spec, '--quiet', '--skeletons', '--skeleton_voxel', '10']
    for scales, told in ((1, True), (2, False)):
        caplog.clear()
        output = tmp_path / f'view_{scales}'
        export.main(
            [*command, '--output', str(output), '--scales', str(scales), '--soma_radius', '150']
        )
        assert ('--soma_radius is 150 nm, and radii of up to 80 nm are' in caplog.text) == told
        info = json.loads((output / 'labels' / 'segment_properties' / 'info').read_text())
        tags = {p['id']: p['values'] for p in info['inline']['properties']}['tags']
        assert tags == ([[]] if told else [[0]])


def test_somata_are_found_by_default_at_any_resolution():
    box = Box(Xyz(0, 0, 0), Xyz(5000, 4000, 3000))
    for size in ((4, 4, 4), (8, 8, 8), (20, 20, 20), (8, 8, 40), (30, 30, 30)):
        scales = plan_scales(box, size)
        assert greatest_radius(scales, 0) > 2 * SOMA_RADIUS
    assert greatest_radius(plan_scales(box, (8, 8, 8), 1), 0) == 512
