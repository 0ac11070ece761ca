"""Examples: how patches are cut, normalized, labelled, ordered and resumed."""

import gc
import itertools
import threading
import time

import h5py
import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from ffn.training.augmentation.augment import augment
from ffn.training.augmentation.config import parse_augmentation
from ffn.training.input.coordinate_stream import coordinate_dataset
from ffn.training.input.examples import ExampleSource, Stopped
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, Zyx
from tests.training import sample

SIZE = Zyx(5, 7, 9)
PLAIN = {'permutable_axes': (), 'reflectable_axes': ()}
AUGMENTATION = (
    '{"rotation_3d": {}, "elastic": {"amplitude": 2}, "noise": {}, "missing_section": {}}'
)


@pytest.fixture
def folder(tmp_path):
    sample.write_sample(tmp_path)
    return tmp_path


def source(folder, size=SIZE, seed=0, ahead=4, **kwargs):
    return ExampleSource(sample.data_config(folder, **kwargs), size, seed, ahead)


def take(examples, count):
    return list(itertools.islice(examples, count))


def put(folder, name, array):
    with h5py.File(folder / 'other.h5', 'a') as file:
        file[name] = array
    return {'v': f'{folder}/other.h5:{name}'}


def test_patches_start_at_centre_minus_half(folder):
    """The image tells where it is from: a number per voxel."""
    where = np.arange(np.prod(sample.SHAPE_ZYX), dtype=np.int32).reshape(sample.SHAPE_ZYX)
    images = put(folder, 'where', where)
    with source(folder, data_volumes=images, image_mean=0.0, image_stddev=1.0, **PLAIN) as examples:
        for example in take(examples, 40):
            x, y, z = example.center
            expected = where[z - 2 : z + 3, y - 3 : y + 4, x - 4 : x + 5]
            np.testing.assert_array_equal(example.image, expected)
            labels = sample.labels()[z - 2 : z + 3, y - 3 : y + 4, x - 4 : x + 5]
            np.testing.assert_array_equal(example.labels > 0.5, labels == sample.labels()[z, y, x])


def test_even_sizes_start_at_the_same_rule(folder):
    where = np.arange(np.prod(sample.SHAPE_ZYX), dtype=np.int32).reshape(sample.SHAPE_ZYX)
    images = put(folder, 'where', where)
    with source(
        folder, Zyx(4, 6, 8), data_volumes=images, image_mean=0.0, image_stddev=1.0, **PLAIN
    ) as examples:
        x, y, z = (example := next(examples)).center
        np.testing.assert_array_equal(
            example.image, where[z - 1 : z + 3, y - 2 : y + 4, x - 3 : x + 5]
        )


def test_arrays_are_normalized_float32(folder):
    with source(folder, **PLAIN) as examples:
        example = next(examples)
        x, y, z = example.center
    for array in (example.image, example.labels, example.weights):
        assert array.dtype == np.float32
        assert array.shape == SIZE
    assert example.image[2, 3, 4] == pytest.approx((sample.image()[z, y, x] - 140.0) / 50)
    assert set(np.unique(example.labels)) <= {np.float32(0.95), np.float32(0.05)}
    assert (example.weights == 1).all()
    assert example.volume == 'v'


def test_a_volume_may_have_its_own_normalization(folder):
    with source(folder, offset_scale={'v': (100.0, 10.0)}, **PLAIN) as examples:
        example = next(examples)
        x, y, z = example.center
    assert example.image[2, 3, 4] == pytest.approx((sample.image()[z, y, x] - 100.0) / 10)


def test_centre_in_background_is_no_object(folder):
    sample.write_coordinates(folder / 'coordinates.tfrecord', [(5, 4, 2), (17, 13, 1), (17, 3, 10)])
    labels = sample.labels()
    labels[:2] = 0
    labels[2:, :, :] = -3
    negative = put(folder, 'negative', labels)
    with source(folder, Zyx(3, 3, 3), label_volumes=negative, **PLAIN) as examples:
        for example in take(examples, 6):
            assert (example.labels == np.float32(0.05)).all()


def test_same_seed_same_examples_in_the_same_order(folder):
    runs = []
    for seed, ahead in ((3, 1), (3, 7), (4, 7)):
        with source(folder, seed=seed, ahead=ahead) as examples:
            runs.append(take(examples, 30))
    for one, other in zip(runs[0], runs[1]):
        assert one.center == other.center
        np.testing.assert_array_equal(one.image, other.image)
    assert [e.center for e in runs[0]] != [e.center for e in runs[2]]


def test_every_pass_over_the_coordinates_has_all_of_them(folder):
    dataset = coordinate_dataset([str(folder / 'coordinates.tfrecord')], seed=1)
    records = [(tuple(xyz), name) for _, xyz, name in take(dataset.as_numpy_iterator(), 108)]
    passes = [records[start : start + 36] for start in (0, 36, 72)]
    for one in passes:
        assert sorted(one) == sorted((center, b'v') for center in sample.CENTERS_XYZ)
    assert passes[0] != passes[1] != passes[2]


def test_coordinates_out_of_bounds_are_skipped_and_counted(folder):
    inside, outside = (17, 14, 12), [(3, 14, 12), (17, 14, 23), (17, 26, 12), (-5, 14, 12)]
    sample.write_coordinates(folder / 'coordinates.tfrecord', [inside, *outside, (4, 3, 2)])
    warnings = []
    with source(folder, ahead=1, **PLAIN) as examples:
        logging.get_absl_logger().addFilter(lambda record: warnings.append(record) or True)
        seen = {example.center for example in take(examples, 20)}
        assert seen == {Xyz(*inside), Xyz(4, 3, 2)}
        assert 30 <= examples.skipped <= 44
    logging.get_absl_logger().filters.clear()
    assert len(warnings) == 3  # of two reasons, and how many


@pytest.mark.parametrize('records', [3, 200])
@pytest.mark.parametrize('begun', [False, True])
def test_all_coordinates_out_of_bounds(folder, records, begun):
    """Also where a training goes on that has used others before."""
    with source(folder) as examples:
        take(examples, 3)
        state = examples.get_state()
    sample.write_coordinates(folder / 'coordinates.tfrecord', [(1, 1, 1)] * records)
    with source(folder) as examples:
        if begun:
            examples.set_state(state)
        with pytest.raises(UserError, match=r'2000 coordinates in a row, .* out of bounds'):
            next(examples)


def test_a_long_search_can_be_stopped(folder, monkeypatch):
    """While coordinates are skipped that were used before, and where many in a row are of no use."""
    monkeypatch.setattr('ffn.training.input.coordinate_stream._BLOCK', 8)
    monkeypatch.setattr('ffn.training.input.skipped._GIVE_UP_AFTER', 4)
    stop = threading.Event()
    outside = [(1, 1, 1)] * 60
    sample.write_coordinates(folder / 'coordinates.tfrecord', [(17, 14, 12), *outside])
    with ExampleSource(sample.data_config(folder), SIZE, 0, 1, stop=stop) as examples:
        monkeypatch.setattr('ffn.training.input.skipped._GIVE_UP_AFTER', 400)
        next(examples)
        monkeypatch.setattr('ffn.training.input.skipped._GIVE_UP_AFTER', 4)
        before = examples.skipped
        stop.set()
        with pytest.raises(Stopped):
            take(examples, 2)
        assert examples.skipped - before <= 70
        examples.seek(100)
        with pytest.raises(Stopped):
            next(examples)
        assert examples.position == 100


def test_names_that_the_volumes_lack(folder):
    """One of many is told at the start, not when it turns up; and, should files change, then as well."""
    path = folder / 'coordinates.tfrecord'
    with source(folder) as examples:
        sample.write_coordinates(path, sample.CENTERS_XYZ, 'elsewhere')
        with pytest.raises(UserError, match=r"'elsewhere'.*\bv\b"):
            next(examples)
    with pytest.raises(UserError, match=r"36 of the 36 .* lack: 'elsewhere'; they have v"):
        source(folder)


def test_no_coordinates(folder):
    sample.write_coordinates(folder / 'coordinates.tfrecord', [])
    with pytest.raises(UserError, match='no coordinates'):
        source(folder)


def test_damaged_and_foreign_coordinate_files(folder):
    path = folder / 'coordinates.tfrecord'
    rng = np.random.default_rng(0)
    many = rng.integers(5, 15, (5000, 3)).tolist()
    sample.write_coordinates(path, many)
    whole = path.read_bytes()
    with tf.io.TFRecordWriter(str(folder / 'foreign'), 'GZIP') as writer:
        writer.write(b'\xff\xfe no Example')
    with tf.io.TFRecordWriter(str(folder / 'other'), 'GZIP') as writer:
        writer.write(tf.train.Example().SerializeToString())
    contents = {
        'cut in the middle': whole[: len(whole) // 2],
        'cut at the end': whole[:-12],
        'no gzip': b'center 1 2 3\n' * 50,
        'no Example': (folder / 'foreign').read_bytes(),
        'an Example without center': (folder / 'other').read_bytes(),
        'empty file': b'',
    }
    for what, content in contents.items():
        path.write_bytes(content)
        with (
            pytest.raises(UserError, match=r'coordinates\.tfrecord') as raised,
            source(folder, Zyx(3, 3, 3)) as examples,
        ):
            take(examples, 2 * len(many))
        assert '\n' not in str(raised.value), what


def test_image_and_labels_of_different_shape(folder):
    other = put(folder, 'image', sample.image()[:, :-1])
    with pytest.raises(UserError, match=r'24,28,34.*24,27,34|24,27,34.*24,28,34'):
        source(folder, data_volumes=other)


def test_labels_of_floating_type(folder):
    other = put(folder, 'labels', sample.labels().astype(np.float32))
    with pytest.raises(UserError, match='float32'):
        source(folder, label_volumes=other)


def test_volume_smaller_than_the_patch(folder):
    with pytest.raises(UserError, match='25'):
        source(folder, Zyx(25, 7, 9))


def test_volumes_without_partner(folder):
    path = f'{folder}/volume.h5'
    with pytest.raises(UserError, match=r'label_volumes.*w'):
        sample.data_config(folder, data_volumes={'v': f'{path}:raw', 'w': f'{path}:raw'})
    with pytest.raises(UserError, match=r'data_volumes.*w'):
        sample.data_config(folder, label_volumes={'v': f'{path}:labels', 'w': f'{path}:labels'})
    with pytest.raises(UserError, match=r'offset_scale.*w'):
        sample.data_config(folder, offset_scale={'w': (1.0, 2.0)})


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_images_with_values_that_are_no_numbers(folder, value):
    image = sample.image().astype(np.float32)
    image[12] = value
    broken = put(folder, 'broken', image)
    with source(folder, data_volumes=broken) as examples:
        with pytest.raises(UserError, match=r"'v'.*no numbers around x,y,z"):
            take(examples, 40)


def check_equal(one, other):
    assert (one.center, one.volume, one.number) == (other.center, other.volume, other.number)
    assert one.walk_seed == other.walk_seed
    for name in ('image', 'labels', 'weights'):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_volumes_too_large_for_memory_give_the_same_examples(folder, monkeypatch):
    with source(folder) as examples:
        expected = take(examples, 10)
    monkeypatch.setattr('ffn.training.input.patches._CACHED_BYTES', 0)
    with source(folder) as examples:
        for one, other in zip(take(examples, 10), expected):
            check_equal(one, other)


def test_an_example_can_be_loaded_again(folder):
    """What chance changes in it depends on the seed and its number alone."""
    config = {'augmentation': parse_augmentation(AUGMENTATION)}
    with source(folder, seed=2, **config) as examples:
        drawn = take(examples, 12)
    with source(folder, seed=2, ahead=1, **config) as examples:
        for example in reversed(drawn):
            again = examples.load(example.number, example.center, example.volume)
            check_equal(again, example)
        example = drawn[0]
        other = examples.load(example.number + 1, example.center, example.volume)
        assert not np.array_equal(other.image, example.image)
        with pytest.raises(UserError, match="no volume 'gone' any more"):
            examples.load(0, example.center, 'gone')
    with source(folder, seed=3, **config) as examples:
        again = examples.load(example.number, example.center, example.volume)
        assert not np.array_equal(again.image, example.image)


def test_it_goes_on_from_any_position(folder):
    config = {'augmentation': parse_augmentation(AUGMENTATION)}
    with source(folder, **config) as examples:
        first = take(examples, 5)
        state = examples.get_state()
        rest = take(examples, 10)
    assert [example.number for example in first + rest] == list(range(15))
    with source(folder, **config) as examples:
        examples.set_state(state)
        for one, other in zip(take(examples, 10), rest):
            check_equal(one, other)
        assert examples.counts() == {'v': 15}
    with source(folder, seed=1) as examples, pytest.raises(ValueError, match='--seed was 0'):
        examples.set_state(state)


def test_closed_it_loads_nothing_more(folder, monkeypatch):
    """Its threads would read volumes that are closed."""
    loads = []

    def slow(*args):
        loads.append(1)
        time.sleep(0.02)
        return augment(*args)

    monkeypatch.setattr('ffn.training.input.examples.augment', slow)
    with source(folder, ahead=100) as examples:
        next(examples)
    count = len(loads)
    assert 1 <= count < 90
    time.sleep(0.2)
    assert len(loads) == count


def test_closed_it_leaves_no_iterator_behind(folder):
    """Each has buffers and threads."""

    def iterators():
        gc.collect()
        return sum(type(each).__name__ == 'OwnedIterator' for each in gc.get_objects())

    before = iterators()
    with source(folder) as examples:
        next(examples)
        assert iterators() > before
    assert iterators() == before


def test_no_iterator_waits_for_a_thread_that_tunes(folder, monkeypatch):
    tuned = []

    def iterate(dataset, original=tf.data.Dataset.__iter__):
        tuned.append(dataset.options().autotune.enabled)
        return original(dataset)

    monkeypatch.setattr(tf.data.Dataset, '__iter__', iterate)
    with source(folder, skip_corrupt_records=True) as examples:
        next(examples)
    assert len(tuned) >= 4  # records, counts, coordinates, examples
    assert set(tuned) == {False}
