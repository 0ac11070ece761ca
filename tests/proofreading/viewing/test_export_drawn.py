"""Meshes and skeletons of an export, as the neuroglancer package's client reads and draws them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('neuroglancer')
import neuroglancer

from ffn.cli import export
from ffn.proofreading.viewing.things import open_thing
from ffn.proofreading.viewing.viewer import Viewer
from tests.export.shapes import START, ball, store

pytestmark = pytest.mark.slow
SHAPE_ZYX, SIDE = (70, 90, 110), 130
SIZE = (700, 600)
HIGH = 2**63 + 5


@pytest.fixture(scope='module')
def labels():
    """A ball, a slab with a hole, a diagonal row of dots."""
    labels = np.zeros(SHAPE_ZYX, np.uint64)
    labels[ball(SHAPE_ZYX, (30, 40, 36), 25)] = 7
    labels[50:64, 20:80, 66:106] = HIGH
    labels[50:64, 40:60, 76:96] = 0
    for n in range(8):
        labels[4 : 4 + 6, 4 + 10 * n : 10 + 10 * n, 66 + 5 * n : 72 + 5 * n] = 9
    return labels


@pytest.fixture(scope='module')
def folder(labels, tmp_path_factory):
    """An export of them, in shards, with chunks that are smaller than objects."""
    folder = tmp_path_factory.mktemp('drawn')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('ffn.export.meshes._SHARD', 4000)
        export.main(
            [
                *(
                    '--output',
                    str(folder / 'view'),
                    '--meshes',
                    '--mesh_chunk',
                    '16',
                    '--skeletons',
                ),
                *('--labels', store(folder, labels, voxel_size=(8.0, 8.0, 8.0)), '--quiet'),
            ]
        )
    assert len(list((folder / 'view/labels/mesh').glob('*.shard'))) > 1
    return folder


def drawn(browser, folder, change, name):
    """What the 3-d panel shows, seen along z: bool [y, x] pixels that are not background, the middle one, pixels of a voxel."""
    with Viewer() as viewer:
        for layer in open_thing(str(folder / 'view')):
            viewer.add(layer)
        with viewer.neuroglancer.txn() as state:
            state.layout = neuroglancer.DataPanelLayout('3d', orthographic_projection=True)
            state.show_slices = state.show_axis_lines = state.show_scale_bar = False
            state.show_default_annotations = False
            state.projection_scale = SIDE
            state.position = [a + n / 2 for a, n in zip(START, SHAPE_ZYX[::-1])]
            change(state.layers['labels'].layer)
        with browser.open(viewer, SIZE) as view:
            picture = view.picture()
            view.save(name)
            panel = view.page.locator('.neuroglancer-rendered-data-panel').bounding_box()
    middle = (panel['y'] + panel['height'] / 2, panel['x'] + panel['width'] / 2)
    background = picture[int(middle[0]), -3]
    return (picture != background).any(axis=2), middle, panel['height'] / SIDE


@pytest.mark.parametrize('segments', [[7], [HIGH], [9], [7, 9, HIGH]])
def test_meshes_cover_what_their_voxels_cover(browser, folder, labels, segments):
    def change(layer):
        layer.segments = segments
        layer.skeleton_rendering.mode3d = 'lines'

    name = f'meshes-{len(segments)}-{segments[0]}.png'
    found, centre, pixels = drawn(browser, folder, change, name)
    expected = np.isin(labels, np.array(segments, np.uint64)).any(axis=0)
    assert np.count_nonzero(found) == pytest.approx(expected.sum() * pixels**2, rel=0.06)
    middle = np.array(SHAPE_ZYX[1:]) / 2
    places = np.argwhere(expected)[:: max(expected.sum() // 40, 1)]
    for y, x in (((places + 0.5 - middle) * pixels) + centre).astype(int).tolist():
        assert found[y - 4 : y + 5, x - 4 : x + 5].any(), (y, x)
