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


def test_no_example_begins_without_a_label(folder, caplog):
    """Whatever such voxels weigh: partitions of older installations have them where -1 was an object."""
    labels = marked(folder)
    whole = sample.labels()
    for weight in (0.0, 0.25, 1.0):
        named = {'label_volumes': labels, 'unlabelled_weight': weight, **PLAIN}
        with source(folder, Zyx(3, 3, 3), **named) as examples:
            assert set(by_center(examples)) == {BESIDE}
            assert examples.unlabelled >= 2
            assert examples.skipped == 0
            examples.labelled_voxels()
        assert caplog.text.count('has no label in its centre') == 1
        assert 'leaves the volume' not in caplog.text
        assert f'{whole[:3].size} of {whole.size} voxels' in caplog.text
        caplog.clear()


def test_what_leaves_the_volume_is_counted_by_itself(folder):
    labels = marked(folder)
    with source(folder, Zyx(5, 3, 3), label_volumes=labels, **PLAIN) as examples:
        assert set(by_center(examples)) == {BESIDE}  # sections -1 … 3 leave the volume
        assert examples.unlabelled == 0
        assert examples.skipped >= 2


def test_a_stream_goes_on_exactly_where_coordinates_were_skipped(folder):
    places = [(x, y, z) for x in (9, 17) for y in (6, 13) for z in (1, 2, 9, 12)]
    labels = marked(folder)
    sample.write_coordinates(folder / 'coordinates.tfrecord', places)
    with source(folder, Zyx(3, 3, 3), label_volumes=labels) as examples:
        take(examples, 11)
        state = examples.get_state()
        expected = take(examples, 13)
        end = examples.get_state()
    with source(folder, Zyx(3, 3, 3), label_volumes=labels) as examples:
        examples.set_state(state)
        found = take(examples, 13)
        assert examples.get_state() == end
        assert 16 <= examples.unlabelled <= 32
        again = examples.load(found[-1].number, found[-1].center, found[-1].volume)
        np.testing.assert_array_equal(again.image, expected[-1].image)
        with pytest.raises(UserError, match=r'17,13,1 of volume .* is not labelled'):
            examples.load(0, Xyz(*INSIDE), 'v')
    for one, other in zip(found, expected, strict=True):
        assert (one.center, one.number, one.walk_seed) == (
            other.center,
            other.number,
            other.walk_seed,
        )
        np.testing.assert_array_equal(one.labels, other.labels)
    del state['unlabelled']  # of an earlier version
    with source(folder, Zyx(3, 3, 3), label_volumes=labels) as examples:
        examples.set_state(state)
        assert next(examples).number == expected[0].number


@pytest.mark.parametrize(
    ('value', 'dtype', 'named'),
    [(-1, np.int16, {}), (2**64 - 1, np.uint64, {}), (200, np.uint8, {'unlabelled': 200})],
)
@pytest.mark.parametrize('weight', [1, 0.25, 0])
def test_unlabelled_voxels_have_the_weight_that_is_asked_for(folder, value, dtype, named, weight):
    sample.write_coordinates(folder / 'coordinates.tfrecord', [(17, 13, 3)])
    labels = sample.labels().astype(dtype)
    labels[:3] = value
    labels = put(folder, 'marked', labels)
    weights = {} if weight == 1 else {'unlabelled_weight': weight}
    with source(
        folder, Zyx(5, 3, 3), label_volumes=labels, **named, **weights, **PLAIN
    ) as examples:
        example = next(examples)
    assert (example.labels[:2] == np.float32(0.05)).all()
    assert (example.weights[:2] == np.float32(weight)).all()
    assert (example.weights[2:] == 1).all()


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
