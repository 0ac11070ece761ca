"""Volumes in a viewer, as a browser shows them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

pytest.importorskip('neuroglancer')
from ffn.proofreading.things import agree, open_layer
from ffn.proofreading.viewer import Viewer

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


def test_what_is_below_the_mouse(volume, browser):
    found = []
    with Viewer() as viewer:
        for layer in agree([open_layer(f'{volume}:{n}', k) for n, k in KINDS.items()], None):
            viewer.add(layer)
        viewer.neuroglancer.actions.add('take', found.append)
        with viewer.neuroglancer.config_state.txn() as config:
            config.input_event_bindings.viewer['keyt'] = 'take'
        with browser.open(viewer) as view:
            for panel in ('xy', 'xz', 'yz'):
                middle = [int(n) for n in viewer.neuroglancer.state.position]
                for place in ((20, 30, 25), (70, 50, 55), (95, 15, 41)):
                    off_plane = 'xyz'.index(({*'xyz'} - {*panel}).pop())
                    voxel = [*place]
                    voxel[off_plane] = middle[off_plane]
                    view.press('KeyT', voxel, panel)
                    view.wait_until(lambda: found)
                    state = found.pop()
                    assert np.floor(state.mouse_position).astype(int).tolist() == voxel
                    expected = ids(*np.subtract(voxel, START))
                    assert state.selected_values['labels'].value == expected
            picture = view.picture()
            view.save('volume.png')
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


KINDS = {'raw': 'image', 'labels': 'labels'}
