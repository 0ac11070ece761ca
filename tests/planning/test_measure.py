"""What is measured of an image and its labels."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.planning import measure as planning_measure
from ffn.planning.measure import measure
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from tests.planning.samples import SHAPE, blocks, write


def test_what_is_measured(tmp_path):
    image, labels = blocks()
    found = measure(*write(tmp_path / 'v.h5', image, labels, resolution=(33, 8, 8)), quiet=True)
    assert found.voxel_size.xyz == (8, 8, 33)
    assert (found.mean, found.stddev) == pytest.approx((120, 20))
    assert found.box == Box.of_shape(SHAPE)
    assert found.sizes.tolist() == [2 * 4 * 5, 28 * 40 * 110 - 30, 28 * 55 * 110 - 2 * 4 * 5]
    assert found.largest_id == 2**40
    assert found.unlabelled == 28 * 110 + 30
    assert found.labelled + found.unlabelled == labels.size
    assert found.components == {7: 1, 2**40: 1, 9: 1}
    # Around the small object labels touch; along y is background between the large ones.
    touching = 2 * 2 * (5 + 4)
    assert found.touching == pytest.approx(touching / (28 * 110 + touching))


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_the_image_is_sampled_along_every_axis_where_it_is_labelled(tmp_path, monkeypatch, axis):
    """Here it is shaded along one of them, and padded in front."""
    monkeypatch.setattr(planning_measure, '_SAMPLE', Xyz(8, 4, 3))
    shape = (
        48,
        64,
        128,
    )  # 16 blocks along each axis: 64 of them, every 64th, are in one place along x
    place = np.indices(shape, sparse=True)[axis] / shape[axis]
    image = np.broadcast_to(np.where(place < 0.3, 0, 60 + 100 * place), shape).astype(np.uint8)
    labels = np.broadcast_to(np.where(place < 0.3, 0, 1), shape).astype(np.uint8).copy()
    labels[:, ::5] = 0  # membranes, which are part of the image
    found = measure(*write(tmp_path / 'v.h5', image, labels), quiet=True)
    labelled = image[np.broadcast_to(place >= 0.3, shape)]
    assert found.mean == pytest.approx(labelled.mean(), abs=8)
    assert found.stddev == pytest.approx(labelled.std(), rel=0.2)


def test_labels_are_read_once_however_sparse_they_are(tmp_path, monkeypatch):
    """And the image only where they are; but for the middle, which is examined for components."""
    monkeypatch.setattr(planning_measure, '_SAMPLE', Xyz(8, 4, 2))
    monkeypatch.setattr(planning_measure, '_BLOCK', Xyz(32, 32, 8))
    monkeypatch.setattr(planning_measure, '_MIDDLE', Xyz(1, 1, 1))
    monkeypatch.setattr(planning_measure, '_SAMPLES', 5)
    labels = np.zeros(SHAPE, np.uint32)
    labels[:, 50:53, 70:75] = 3
    image = np.where(labels > 0, 150, 90).astype(np.uint8)
    image[9, 51, 71] = 151
    names, voxels = write(tmp_path / 'v.h5', image, labels), {}

    def counted(volume, box, read=planning_measure.Volume.read):
        values = read(volume, box)
        voxels[volume.name] = voxels.get(volume.name, 0) + values.size
        return values

    monkeypatch.setattr(planning_measure.Volume, 'read', counted)
    found = measure(*names, quiet=True)
    assert 150 <= found.mean < 150.1
    assert voxels[names[1]] == labels.size + 1
    assert voxels[names[0]] <= 5 * 8 * 4 * 2


@pytest.mark.parametrize(
    ('padding', 'touching'),
    [
        (np.s_[0, 0, :1], 1),
        (np.s_[:, :6], 1),
        (np.s_[..., 40:], 1),
        (np.s_[:, :, 5:6], 43 / (43 + 20)),  # a membrane
    ],
)
def test_padding_lies_between_no_objects(tmp_path, padding, touching):
    """Neither 0 nor what is not labelled."""
    _, y, x = np.indices((10, 20, 44))
    for value in (0, -1):
        labels = 1 + (x >= 6) + 2 * (y >= 8)
        labels[padding] = value
        names = write(tmp_path / 'v.h5', np.zeros(labels.shape, np.uint8), labels)
        assert measure(*names, quiet=True).touching == pytest.approx(touching)


def test_labels_that_do_not_fit(tmp_path):
    image, labels = blocks()
    for stack, marked in ((image[:20], labels), (image, labels[:20])):  # as ffn train has it
        with pytest.raises(UserError, match='the labels lie inside and say where'):
            measure(*write(tmp_path / 'v.h5', stack, marked), quiet=True)
    with pytest.raises(UserError, match='holds no object: all of it is background'):
        measure(*write(tmp_path / 'v.h5', image, labels * 0), quiet=True)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_images_with_values_that_are_no_numbers(tmp_path, value):
    image, labels = blocks()
    image = image.astype(np.float32)
    image[20, 70:] = value
    with pytest.raises(UserError, match=r'v\.h5:raw.* no numbers in box .*start x,y,z'):
        measure(*write(tmp_path / 'v.h5', image, labels, resolution=(33, 8, 8)), quiet=True)
