"""Voxels without a label are no object and no place to train, in partitions and in training."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.training.sampling.partition_config import PartitionConfig
from ffn.training.sampling.partitions import compute_partitions
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes.volume import Volume
from tests.training import sample
from tests.training.input.test_examples import PLAIN, put, source, take
from tests.training.sampling.test_partitions import blobs, computed, direct


@pytest.mark.parametrize('blocks', [2**25, 5000])
@pytest.mark.parametrize(
    ('dtype', 'attrs', 'unlabelled', 'marks'),
    [
        ('i4', {}, None, [-1, -7]),
        ('u8', {}, None, [2**64 - 1]),
        ('>u8', {}, None, [2**64 - 1]),
        ('u4', {'unlabelled': 2**32 - 1}, None, [2**32 - 1]),
        ('u1', {}, 255, [255]),
        ('i2', {}, 9, [9, -1]),
    ],
)
def test_what_is_not_labelled_is_no_object_and_no_place_to_train(
    dtype, attrs, unlabelled, marks, blocks, caplog
):
    labels = blobs(np.random.default_rng(3), (20, 22, 130), 5, np.int64)
    without = labels.copy()
    rows = 2 + np.arange(len(marks))
    without[rows, 3:9, 4:70] = 0
    stored = without.astype(dtype)
    for z, mark in zip(rows, marks, strict=True):
        stored[z, 3:9, 4:70] = mark
    config = PartitionConfig((0.2, 0.6), Xyz(2, 3, 1), min_size=30, unlabelled=unlabelled)
    found = np.full(labels.shape, 77, np.uint8)
    for box, part in compute_partitions(Volume('train', stored, attrs), config, blocks):
        found[box.slices_zyx] = part
    expected = np.full(labels.shape, 77, np.uint8)
    inside = Box.of_shape(labels.shape).shrink(config.lom_radius).slices_zyx
    expected[inside] = direct(without, config)
    expected[rows, 3:9, 4:70] = 255
    np.testing.assert_array_equal(found, expected)
    number = len(marks) * 6 * 66
    assert f'train: {number} of {labels.size} voxels' in caplog.text
    assert caplog.text.count('not labelled') == 1


def test_32_bits_are_labels_unless_the_volume_says_no():
    labels = np.full((5, 6, 7), 2**32 - 1, np.uint32)
    config = PartitionConfig((0.5,), Xyz(1, 1, 1), min_size=1)
    assert (computed(labels, config) == 2).all()


@pytest.fixture
def folder(tmp_path):
    sample.write_sample(tmp_path)
    return tmp_path


INSIDE, BESIDE = (17, 13, 1), (5, 4, 12)


def marked(folder, value=-1, dtype=np.int64):
    """Volumes and coordinates: the first sections have no label, and one of two coordinates lies there."""
    sample.write_coordinates(folder / 'coordinates.tfrecord', [INSIDE, BESIDE])
    labels = sample.labels().astype(dtype)
    labels[:3] = value
    return put(folder, 'marked', labels)


def by_center(examples, count=6):
    return {tuple(example.center): example for example in take(examples, count)}


def test_unlabelled_voxels_count_as_background_by_default(folder, caplog):
    labels = marked(folder)
    with source(folder, Zyx(3, 3, 3), label_volumes=labels, **PLAIN) as examples:
        found = by_center(examples)
        examples.labelled_voxels()
    assert (found[INSIDE].labels == np.float32(0.05)).all()
    assert (found[INSIDE].weights == 1).all()
    whole = sample.labels()
    assert f'{whole[:3].size} of {whole.size} voxels' in caplog.text


@pytest.mark.parametrize(
    ('value', 'dtype', 'named'),
    [(-1, np.int16, {}), (2**64 - 1, np.uint64, {}), (200, np.uint8, {'unlabelled': 200})],
)
def test_unlabelled_voxels_have_the_weight_that_is_asked_for(folder, value, dtype, named):
    labels = marked(folder, value, dtype)
    named = {'label_volumes': labels, 'unlabelled_weight': 0.25, **named, **PLAIN}
    with source(folder, Zyx(5, 3, 3), **named) as examples:
        found = by_center(examples)
    # Sections -1 … 3 around section 1 would leave the volume, those around section 12 are all labelled.
    assert set(found) == {BESIDE}
    assert (found[BESIDE].weights == 1).all()
    with source(folder, Zyx(3, 3, 3), **named) as examples:
        found = by_center(examples)
    assert (found[INSIDE].weights == np.float32(0.25)).all()


def test_with_weight_0_no_example_begins_without_a_label(folder, caplog):
    labels = marked(folder)
    named = {'label_volumes': labels, 'unlabelled_weight': 0.0, **PLAIN}
    with source(folder, Zyx(3, 3, 3), **named) as examples:
        assert set(by_center(examples)) == {BESIDE}
        assert examples.skipped >= 2
    assert caplog.text.count('has no label in its centre') == 1
    assert 'leaves the volume' not in caplog.text


def test_only_voxels_without_a_label_lose_their_weight(folder):
    sample.write_coordinates(folder / 'coordinates.tfrecord', [(5, 4, 3)])
    labels = sample.labels().astype(np.int32)
    labels[:3] = -2
    labels[3, 4, 5], labels[4, 4, 5] = 9, 0
    named = {'label_volumes': put(folder, 'marked', labels), 'unlabelled_weight': 0.0, **PLAIN}
    with source(folder, Zyx(3, 3, 3), **named) as examples:
        example = next(examples)
    assert (example.weights[0] == 0).all()
    assert (example.weights[1:] == 1).all()
    assert example.labels[1, 1, 1] == np.float32(0.95)
    assert example.labels[2, 1, 1] == np.float32(0.05)


@pytest.mark.parametrize('weight', [-0.5, float('nan'), float('inf')])
def test_a_weight_is_a_number_from_0(folder, weight):
    with pytest.raises(UserError, match='--unlabelled_weight'):
        source(folder, unlabelled_weight=weight)
