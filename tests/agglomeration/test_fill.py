"""Empty voxels go to the objects around them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ffn.agglomeration.fill import Filled, Filling, fill
from ffn.cli import fill as command
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.volumes.volume import VolumeSource, open_volume

SHAPE = (20, 26, 34)
HUGE = 2**63 + 5


def sample(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells with dark membranes between them: the cells, what a network could find of them, and the image."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (12, 3)) * SHAPE
    grid = np.indices(SHAPE).reshape(3, -1).T
    distances = np.sort(np.linalg.norm(grid[:, None] - points, axis=2), axis=1)
    cells = np.linalg.norm(grid[:, None] - points, axis=2).argmin(axis=1).reshape(SHAPE) + 1
    membrane = (distances[:, 1] - distances[:, 0]).reshape(SHAPE)
    image = 255 * np.clip(membrane / 6, 0, 1) + rng.normal(0, 3, SHAPE)
    found = np.where(membrane > 5, cells, 0).astype(np.uint64)
    return cells, found, np.clip(image, 0, 255).astype(np.uint8)


def test_objects_meet_at_the_membrane_and_not_in_the_middle() -> None:
    labels, image = np.zeros((5, 6, 16), np.uint64), np.full((5, 6, 16), 200, np.uint8)
    labels[..., :2], labels[..., 13:] = HUGE, 7
    image[..., 4] = 20
    filled = fill(labels, image, Filling(smoothing=0))
    assert set(np.unique(filled)) == {7, HUGE}
    assert (filled[..., :4] == HUGE).all()
    assert (filled[..., 5:] == 7).all()


def test_more_of_the_cells_is_right() -> None:
    cells, found, image = sample()
    filled = fill(found, image, Filling(smoothing=0.5))
    known = np.isin(cells, np.unique(found))
    assert (filled == cells)[known].mean() > 0.97 > 0.9 > (found == cells)[known].mean()


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    reach=st.floats(1, 9),
    voxel_size=st.tuples(*[st.sampled_from([4.0, 8.0, 20.0])] * 3),
)
def test_what_is_filled(seed: int, reach: float, voxel_size: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(SHAPE) < 0.003, rng.integers(1, 9, SHAPE), 0)
    image = rng.integers(0, 255, SHAPE, np.uint8)
    filled = fill(labels, image, Filling(max_distance=reach), voxel_size)
    assert (filled[labels > 0] == labels[labels > 0]).all()
    edges = np.array(voxel_size[::-1]) / min(voxel_size)
    for one in np.unique(labels)[1:]:
        distance = ndimage.distance_transform_edt(labels != one, sampling=edges)
        assert distance[filled == one].max() < reach + 1e-3  # of float32
    distance = ndimage.distance_transform_edt(labels == 0, sampling=edges)
    clear = abs(distance - reach) > 1e-3
    alone = fill(labels > 0, image, Filling(max_distance=reach), voxel_size)
    np.testing.assert_array_equal((alone > 0)[clear], (distance <= reach)[clear])


def long_process() -> tuple[np.ndarray, np.ndarray]:
    """A bright process between two objects, of which a third is only a stump at its end; labels and image."""
    labels, image = np.zeros((9, 15, 200), np.uint8), np.full((9, 15, 200), 40, np.uint8)
    labels[:, :3], labels[:, 12:], labels[3:6, 6:9, :4] = 2, 3, 1
    image[labels > 0], image[2:7, 5:10], image[:, 10:12] = 180, 180, 20
    return labels, image


def test_an_object_grows_no_farther_along_what_is_near_another() -> None:
    labels, image = long_process()
    filled = fill(labels, image, Filling(max_distance=16))
    distance = ndimage.distance_transform_edt(labels != 1)
    assert 15 < distance[filled == 1].max() <= 16
    assert (filled[2:7, 5:10, 20:] == 2).all()
    filled = fill(labels, image, Filling(max_distance=4))
    assert distance[filled == 1].max() == 4
    # Nobody who is near enough reaches the middle: the membrane is nearer, and the process is 5 wide.
    distance = ndimage.distance_transform_edt(labels == 0)
    np.testing.assert_array_equal(filled > 0, distance <= 4)


def test_what_an_object_has_behind_another_counts_as_well() -> None:
    labels, image = np.zeros((1, 1, 20), np.uint8), np.full((1, 1, 20), 200, np.uint8)
    labels[..., :3], labels[..., 3], labels[..., 14:] = 1, 2, 1
    image[..., 4] = 20
    filled = fill(labels, image, Filling(max_distance=6, smoothing=0))
    assert (filled[..., 5:] == 1).all()


@pytest.mark.parametrize(
    ('sections', 'limit'), [(1, 1.1), (3, 3.3), (7, 7.7), (13, 14.3), (17, 18.7)]
)
def test_what_is_as_far_as_asked_is_filled(sections: int, limit: float) -> None:
    """Distances of 32 bits are off in the last digits, and the limit is not."""
    labels = np.zeros((22, 4, 3), np.uint8)
    labels[0] = 1
    filled = fill(labels, np.ones(labels.shape), Filling(limit, 0), (4, 4, 4.4))
    assert filled[:, 1, 1].sum() == 1 + sections


def test_what_means_not_labelled_is_empty() -> None:
    labels = np.array([[[1, 0, 2**64 - 1, 1]]], np.uint64)
    assert (fill(labels, np.ones(labels.shape), Filling()) == 1).all()


@pytest.mark.parametrize('value', [0, 5])
def test_nothing_to_fill(value: int) -> None:
    labels = np.full((3, 4, 5), value, np.int16)
    assert (fill(labels, np.zeros((3, 4, 5)), Filling()) == value).all()


def test_bad_input() -> None:
    with pytest.raises(UserError, match=r'\(3, 4, 5\), and the image \(5, 4, 3\)'):
        fill(np.zeros((3, 4, 5), int), np.zeros((5, 4, 3)), Filling())
    for bad in ({'max_distance': 0}, {'max_distance': float('inf')}, {'smoothing': -1}):
        with pytest.raises(UserError, match=f'{next(iter(bad))} is .*; expected'):
            Filling(**bad)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    _, found, image = sample()
    with h5py.File(tmp_path / 'volumes.h5', 'w') as file:
        file['labels'], file['image'], file['small'] = found, image, image[1:]
    return tmp_path


def test_blocks_see_what_is_around_them(volumes: Path) -> None:
    _, found, image = sample()
    box, filling = Box(Xyz(0, 0, 0), Xyz(*SHAPE[::-1])), Filling(4.0, 0.5)
    filled = Filled(VolumeSource(f'{volumes}/volumes.h5:image'), box, None, filling)
    whole, differing = fill(found, image, filling), 0
    with open_volume(f'{volumes}/volumes.h5:labels') as volume:
        for block in blocks(box, Xyz(17, 13, 10)):
            differing += (filled.read(volume, block) != whole[block.slices_zyx]).sum()
    assert differing < 0.005 * (found == 0).sum()


@pytest.mark.parametrize('reach', [4.0, 16.0])
def test_blocks_do_not_cut_a_long_process(tmp_path: Path, reach: float) -> None:
    labels, image = long_process()
    with h5py.File(tmp_path / 'volumes.h5', 'w') as file:
        file['labels'], file['image'] = labels, image
    box, filling = Box.of_shape(labels.shape), Filling(reach)
    filled = Filled(VolumeSource(f'{tmp_path}/volumes.h5:image'), box, None, filling)
    whole, differing = fill(labels, image, filling), 0
    with open_volume(f'{tmp_path}/volumes.h5:labels') as volume:
        for block in blocks(box, Xyz(64, 64, 64)):
            differing += (filled.read(volume, block) != whole[block.slices_zyx]).sum()
    assert differing < 0.005 * (labels == 0).sum()


def test_labels_below_0_are_empty(volumes: Path) -> None:
    labels = np.full((4, 5, 6), -1, np.int32)
    labels[..., 3:] = 9
    with h5py.File(volumes / 'volumes.h5', 'a') as file:
        file['signed'] = labels
    box = Box(Xyz(0, 0, 0), Xyz(6, 5, 4))
    filled = Filled(VolumeSource(f'{volumes}/volumes.h5:image'), box, None, Filling(1.0))
    with open_volume(f'{volumes}/volumes.h5:signed') as volume:
        np.testing.assert_array_equal(filled.read(volume, box)[0, 0], [0, 0, 9, 9, 9, 9])
        empty = filled.read(volume, Box(Xyz(0, 0, 0), Xyz(1, 5, 4)))
    assert not empty.any()


@pytest.mark.parametrize('output', ['filled.h5:labels', 'zarr://filled.zarr'])
def test_the_command(volumes: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.chdir(volumes)
    _, found, image = sample()
    arguments = ['--labels=volumes.h5:labels', '--image=volumes.h5:image', '--folder=records']
    arguments += ['--quiet', f'--output_volume={output}', '--smoothing=0.5', '--max_distance=5']
    box = 'start { x:2 y:3 z:4 } size { x:30 y:20 z:15 }'
    for _ in range(2):
        command.main([*arguments, f'--bounding_box={box}', '--voxel_size=6,6,6'])
    at = slice(4, 19), slice(3, 23), slice(2, 32)
    with open_volume(output) as volume:
        written = volume.read(Box.from_zyx((0, 0, 0), (19, 23, 32)))
    np.testing.assert_array_equal(written[at], fill(found[at], image[at], Filling(5.0, 0.5)))
    written[at] = 0
    assert not written.any()
    with h5py.File('volumes.h5', 'a') as file:  # as another program writes it anew
        file['image'][...] = image[::-1]
    command.main([*arguments, f'--bounding_box={box}', '--voxel_size=6,6,6'])
    with open_volume(output) as volume:
        written = volume.read(Box.from_zyx((4, 3, 2), (15, 20, 30)))
    np.testing.assert_array_equal(written, fill(found[at], image[::-1][at], Filling(5.0, 0.5)))
    if output.startswith('zarr'):
        again = [*arguments, f'--bounding_box={box}', '--voxel_size=4,4,40']
        with pytest.raises(UserError, match='exists with voxels of x,y,z 6,6,6 nm'):
            command.main(again)


def test_an_image_that_does_not_cover_the_labels(volumes: Path) -> None:
    with pytest.raises(UserError, match=r'--image covers .*; give --bounding_box'):
        command.main(
            [
                f'--labels={volumes}/volumes.h5:labels',
                f'--image={volumes}/volumes.h5:small',
                f'--output_volume={volumes}/filled.h5:labels',
                f'--folder={volumes}/records',
            ]
        )
