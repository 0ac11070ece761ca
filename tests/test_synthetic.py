"""The generated sample: what makes it look like neuropil, measured."""

from __future__ import annotations

import subprocess
import sys

import cc3d
import edt
import h5py
import numpy as np
import pytest
from scipy import ndimage

from ffn.cli.synthetic import main
from ffn.synthetic.neurites import RADII
from ffn.synthetic.sample import MEMBRANE_RADIUS, MIN_VOLUME, Sample, generate
from ffn.utils.errors import UserError

SIZE = (48, 64, 80)
SECTIONS = (24, 64, 80)
THICK = (3, 1, 1)


@pytest.fixture(scope='module')
def isotropic() -> Sample:
    return generate(SIZE, seed=1)


@pytest.fixture(scope='module')
def sectioned() -> Sample:
    return generate(SECTIONS, seed=3, voxel_size_zyx=THICK)


@pytest.fixture(params=['isotropic', 'sectioned'])
def sample(request) -> Sample:
    return request.getfixturevalue(request.param)


@pytest.fixture
def voxel(sample) -> tuple[int, int, int]:
    """Physical size of the sample's voxels, z, y, x."""
    return THICK if sample.image.shape == SECTIONS else (1, 1, 1)


def coordinates(labels: np.ndarray, voxel: tuple[int, int, int]) -> list[np.ndarray]:
    """Physical z, y, x of the voxels of each object."""
    return [np.argwhere(labels == i) * voxel for i in range(1, int(labels.max()) + 1)]


def edges_per_voxel(labels: np.ndarray) -> list[float]:
    """How often one meets the surface of an object along z, y and x."""
    return [float(np.diff(labels > 0, axis=axis).mean()) for axis in range(3)]


def test_types_and_shapes(isotropic, sectioned):
    for sample, size in ((isotropic, SIZE), (sectioned, SECTIONS)):
        assert (sample.image.dtype, sample.labels.dtype) == (np.uint8, np.uint32)
        assert sample.image.shape == sample.labels.shape == size


def test_a_seed_makes_the_same_again(isotropic):
    again = generate(SIZE, seed=1)
    np.testing.assert_array_equal(again.image, isotropic.image)
    np.testing.assert_array_equal(again.labels, isotropic.labels)


def test_another_seed_makes_another_sample(isotropic):
    other = generate(SIZE, seed=2)
    assert np.mean(other.image != isotropic.image) > 0.9
    assert np.mean((other.labels > 0) != (isotropic.labels > 0)) > 0.2


def test_no_global_random_state_is_used_or_touched():
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    first = generate((16, 18, 20), seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.random.seed(6)
    np.testing.assert_array_equal(generate((16, 18, 20), seed=0).image, first.image)


def test_every_label_is_one_object_of_some_size(sample, voxel):
    labels = sample.labels
    ids, counts = np.unique(labels, return_counts=True)
    assert ids.tolist() == list(range(len(ids)))
    assert len(ids) > 10
    assert counts[1:].min() >= MIN_VOLUME / np.prod(voxel)
    assert cc3d.connected_components(labels, connectivity=6).max() == ids[-1]


def test_objects_fill_the_volume_but_for_thin_membranes(sample, voxel):
    membrane = sample.labels == 0
    assert 0.1 < membrane.mean() < 0.3
    assert np.bincount(sample.labels.ravel())[1:].max() < 0.25 * membrane.size
    distance = ndimage.distance_transform_edt(membrane, sampling=voxel)
    assert np.percentile(distance[membrane], 99) <= MEMBRANE_RADIUS + max(voxel)


def test_every_object_touches_others(sample, voxel):
    # Nothing but a membrane lies between an object and its nearest neighbour.
    labels = sample.labels
    neighbours = []
    for i in range(1, int(labels.max()) + 1):
        distance = ndimage.distance_transform_edt(labels != i, sampling=voxel)
        near = labels[(distance > 0) & (distance <= 2 * MEMBRANE_RADIUS + max(voxel))]
        neighbours.append(len(np.unique(near[near > 0])))
    assert min(neighbours) >= 1
    assert np.median(neighbours) >= 4


def test_membranes_are_darker_than_cytoplasm(sample, voxel):
    image, labels = sample.image, sample.labels
    deep = edt.edt(labels, anisotropy=voxel) > 3
    membrane = image[labels == 0]
    assert image[deep].mean() - membrane.mean() > 40
    # Around each single object as well, whatever its own tone.
    for i in range(1, int(labels.max()) + 1):
        assert image[labels == i].mean() > membrane.mean() + 15


def test_image_has_texture_and_noise(sample):
    assert 20 < sample.image.std() < 60
    inside = edt.edt(sample.labels) > 3
    step = np.diff(sample.image.astype(np.int16), axis=2)[inside[..., 1:] & inside[..., :-1]]
    assert 5 < step.std() < 30
    # Blur: neighbours are alike, voxels far from each other are not.
    image = sample.image - sample.image.mean()
    alike = [np.mean(image[..., n:] * image[..., :-n]) / image.var() for n in (1, 8)]
    assert alike[0] > 0.6
    assert alike[1] < 0.3


def test_organelles_darken_the_inside_of_some_objects(isotropic):
    deep = edt.edt(isotropic.labels, black_border=False) > 4
    smooth = ndimage.uniform_filter(isotropic.image.astype(np.float32), 3)
    assert 0.003 < np.mean(smooth[deep] < 130) < 0.3


def test_neurites_are_long_and_thin(sample, voxel):
    labels = sample.labels
    depth = edt.edt(labels, anisotropy=voxel, black_border=False)
    thickness, length, elongation = [], [], []
    for i, points in enumerate(coordinates(labels, voxel), 1):
        thickness.append(2 * depth[labels == i].max())
        length.append(np.ptp(points, axis=0).max())
        spread = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))
        elongation.append(spread[-1] / spread[0])
    # Where two lines of one neurite run side by side it is thicker than either.
    assert RADII[0] < np.median(thickness) < 2 * RADII[1]
    # Many are cut short by the faces of so small a sample.
    assert np.percentile(np.divide(length, thickness), 75) > 2
    assert np.median(elongation) > 2
    assert max(length) > 0.9 * min(np.multiply(labels.shape, voxel))


def test_no_axis_is_preferred(isotropic):
    edges = edges_per_voxel(isotropic.labels)
    assert max(edges) < 1.3 * min(edges)


def test_thick_sections_meet_surfaces_more_often_along_z(sectioned):
    along_z, along_y, along_x = edges_per_voxel(sectioned.labels)
    assert along_z > 1.5 * max(along_y, along_x)
    assert along_y == pytest.approx(along_x, rel=0.3)


@pytest.mark.parametrize('seed', range(8))
def test_smallest_size_holds_an_object(seed):
    labels = generate((16, 18, 20), seed).labels
    assert labels.shape == (16, 18, 20)
    assert labels.max() >= 1


@pytest.mark.parametrize('size', [(15, 64, 64), (64, 15, 64), (64, 64, 0), (64, 64, -1)])
def test_too_small(size):
    with pytest.raises(UserError, match=r'too small.*16 or more'):
        generate(size, seed=1)


@pytest.mark.parametrize('voxel_size', [(0, 1, 1), (1, 1, -2.5)])
def test_voxel_size_must_be_positive(voxel_size):
    with pytest.raises(UserError, match='must be positive'):
        generate((16, 18, 20), seed=1, voxel_size_zyx=voxel_size)


def test_command_writes_image_and_labels(tmp_path):
    output = tmp_path / 'sample.h5'
    command = [sys.executable, '-m', 'ffn.synthetic', '--size=20,18,16', '--seed=13']
    done = subprocess.run(
        [*command, f'--output={output}'], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, '')
    expected = generate((16, 18, 20), seed=13)
    assert f'{expected.labels.max()} objects' in done.stdout
    with h5py.File(output) as file:
        assert sorted(file) == ['image', 'labels']
        assert (file['image'].dtype, file['labels'].dtype) == (np.uint8, np.uint32)
        np.testing.assert_array_equal(file['image'], expected.image)
        np.testing.assert_array_equal(file['labels'], expected.labels)


def test_command_takes_sizes_as_xyz_and_keeps_other_datasets(tmp_path):
    output = tmp_path / 'sample.h5'
    with h5py.File(output, 'w') as file:
        file['mine'] = np.arange(5)
        file['image'] = np.zeros(3)
    main(['--size=40,32,16', '--seed=4', '--voxel_size=1,1,3', f'--output={output}'])
    with h5py.File(output) as file:
        assert sorted(file) == ['image', 'labels', 'mine']
        expected = generate((16, 32, 40), seed=4, voxel_size_zyx=THICK)
        np.testing.assert_array_equal(file['labels'], expected.labels)
        np.testing.assert_array_equal(file['image'], expected.image)
        for name in ('image', 'labels'):
            assert file[name].attrs['resolution'].tolist() == [3, 1, 1]  # z, y, x nanometres
    main(['--size=40,32,16', '--seed=4', '--voxel_size=8,8,24', f'--output={output}'])
    with h5py.File(output) as file:  # proportions count, whatever the size
        np.testing.assert_array_equal(file['labels'], expected.labels)
        np.testing.assert_array_equal(file['image'], expected.image)
        assert file['labels'].attrs['resolution'].tolist() == [24, 8, 8]
    main(['--size=40,32,16', '--seed=4', f'--output={output}'])
    with h5py.File(output) as file:
        assert 'resolution' not in file['image'].attrs


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--size=64,64'], '--size'),
        (['--size=64,64,8'], 'too small'),
        (['--size=20,20,20', '--voxel_size=1,1'], 'three positive numbers'),
        (['--size=20,20,20', '--voxel_size=1,1,thick'], "'1,1,thick'"),
        (['--size=20,20,20', '--voxel_size=1,0,1'], "'1,0,1'; expected three positive"),
        (
            ['--size=20,21,22', '--voxel_size=0.5,2,2.5'],
            '2.5,2,0.5 have 20 times the volume of a cube',
        ),
        (['--size=20,20,20', '--seed=-1'], 'seed is -1; expected 0 or more'),
    ],
)
def test_mistakes_of_the_command_are_one_line(tmp_path, arguments, message):
    output = tmp_path / 'sample.h5'
    with pytest.raises(UserError, match=message) as caught:
        main([*arguments, f'--output={output}'])
    assert '\n' not in str(caught.value)
    assert not list(tmp_path.iterdir())
