"""Volumes in a viewer, as a browser shows them."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

pytest.importorskip('neuroglancer')
import neuroglancer

from ffn.proofreading.viewing.agreement import agree
from ffn.proofreading.viewing.sources import ServedArray
from ffn.proofreading.viewing.things import open_layer, open_thing
from ffn.proofreading.viewing.viewer import Viewer
from ffn.utils.geometry import Xyz

START, SIZE = (10, 4, 20), (90, 60, 40)  # x, y, z
VOXEL = (5.0, 10.0, 20.0)


def ids(x, y, z):
    """Labels of voxels that are counted from 0: each value of each axis has a digit."""
    return (1 + x // 30 + 10 * (1 + y // 20) + 100 * (1 + z // 10)) * 10**15 + 1


@pytest.fixture(scope='module')
def volume(tmp_path_factory):
    """Path of a file with raw and labels: int64, -1 where nothing is labelled."""
    path = tmp_path_factory.mktemp('volume') / 'volume.h5'
    z, y, x = np.mgrid[: SIZE[2], : SIZE[1], : SIZE[0]]
    labels = ids(x, y, z)
    labels[:, :5] = -1
    with h5py.File(path, 'w') as file:
        file['raw'] = (100 + x / 2 + 30 * (y < 10) + 20 * (z < 20)).astype(np.uint8)
        file['labels'] = labels.astype(np.int64)
        for dataset in file.values():
            dataset.attrs['resolution'] = VOXEL[::-1]
            dataset.attrs['offset'] = [s * v for s, v in zip(START, VOXEL)][::-1]
    return path


@pytest.fixture
def viewer(volume):
    """A viewer that shows both; its key T calls what is in `taken`."""
    with Viewer() as viewer:
        layers = [
            open_layer(f'{volume}:{n}', k) for n, k in (('raw', 'image'), ('labels', 'labels'))
        ]
        for layer in agree(layers, None):
            viewer.add(layer)
        yield viewer


def test_what_is_below_the_mouse(viewer, browser):
    found = []
    viewer.on_key('keyt', 'take', found.append)
    viewer.on_key('shift+keys', 'save-state', lambda _: found.append('saved'))
    places = {'xy': (20, 30, None), 'xz': (70, None, 45), 'yz': (None, 15, 44)}
    with browser.open(viewer) as view:
        middle = np.floor(viewer.neuroglancer.state.position).astype(int).tolist()
        assert middle == [s + n // 2 for s, n in zip(START, SIZE)]
        for panel, place in places.items():
            voxel = [m if p is None else p for p, m in zip(place, middle)]
            view.press('KeyT', voxel, panel)
            view.wait_until(lambda: found)
            state = found.pop()
            assert np.floor(state.mouse_position).astype(int).tolist() == voxel
            assert state.selected_values['labels'].value == ids(*np.subtract(voxel, START))
        view.page.keyboard.press('Shift+KeyS')
        view.wait_until(lambda: found == ['saved'])
        colours = np.unique(view.picture().reshape(-1, 3), axis=0)
        view.save('volume.png')
    assert len(colours) > 100


@pytest.mark.slow
def test_what_changes_is_drawn_again(viewer, browser):
    array = np.zeros(SIZE[::-1], np.uint32)
    served = ServedArray(array.T, START, VOXEL, labels=True)
    with viewer.neuroglancer.txn() as state:
        state.layers['labels'].visible = False
        state.layers.append(name='growing', layer=neuroglancer.SegmentationLayer(source=served))
    with browser.open(viewer) as view:
        before = view.picture()
        array[:] = 3
        served.invalidate()
        view.wait_until(lambda: (view.picture() != before).mean() > 0.05)


@pytest.mark.slow
def test_a_message(viewer, browser):
    with browser.open(viewer) as view:
        viewer.tell('the volume is damaged', seconds=1)
        message = view.page.get_by_text('the volume is damaged')
        view.wait_until(message.is_visible)
        view.wait_until(lambda: not message.is_visible())


@pytest.mark.slow
def test_places_skeletons_and_a_saved_state(volume, browser, tmp_path):
    (tmp_path / 'places.csv').write_text(
        'segment,x,y,z,accepted\n1,55,34,40,1.0\n2,60,34,40,0.0\n3,45,34,40,\n'
    )
    scores = {'missing': [{'id': 9, 'voxels': 30, 'missing': 20, 'at_xyz': [50, 40, 40]}]}
    (tmp_path / 'scores.json').write_text(json.dumps(scores))
    (tmp_path / '7.swc').write_text('1 0 250 300 780 1 -1\n2 0 300 400 820 1 1\n')
    names = (f'{volume}:raw', *(str(tmp_path / n) for n in ('places.csv', 'scores.json', '7.swc')))

    def fill(viewer):
        for layer in agree([layer for name in names for layer in open_thing(name)], None):
            viewer.add(layer)

    with Viewer() as viewer:
        fill(viewer)
        with browser.open(viewer) as view:
            picture = view.picture().astype(int)
            view.save('places.png')
            viewer.look_at(Xyz(30, 30, 30))
            view.wait_until(lambda: viewer.neuroglancer.state.position[0] == 30.5)
            moved = view.picture()
            saved = viewer.state()
    # Accepted, not accepted, neither; and an error. Axes and the frame of the volume have other colours.
    for color in ((26, 230, 51), (255, 51, 51), (255, 224, 0), (255, 64, 64)):
        assert (np.abs(picture - color).max(axis=-1) < 8).sum() > 20
    with Viewer() as viewer:
        fill(viewer)
        viewer.set_state(saved)
        with browser.open(viewer) as view:
            assert (view.picture() == moved).mean() > 0.99
