"""Volumes that examples come from: loss weights, several volumes, their types and formats."""

import h5py
import numpy as np
import pytest

from ffn.training.augmentation.augment import augment
from ffn.training.augmentation.config import parse_augmentation
from ffn.training.augmentation.margin import required_margin
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from tests.training import sample
from tests.training.input.test_examples import PLAIN, SIZE, check_equal, put, source, take
from tests.volumes.test_tensorstores import WRITERS, write_precomputed


@pytest.fixture
def folder(tmp_path):
    sample.write_sample(tmp_path)
    return tmp_path


def test_loss_weights_are_cut_where_image_and_labels_are(folder):
    values = np.random.default_rng(1).random(sample.SHAPE_ZYX, np.float32)
    with source(folder, loss_weight_volumes=put(folder, 'w', values), **PLAIN) as examples:
        for example in take(examples, 10):
            x, y, z = example.center
            expected = values[z - 2 : z + 3, y - 3 : y + 4, x - 4 : x + 5]
            np.testing.assert_array_equal(example.weights, expected)
            assert example.weights.dtype == np.float32


@pytest.mark.parametrize('augmentation', ['', '{"rotation_3d": {}, "elastic": {"amplitude": 2}}'])
def test_loss_weights_move_with_the_labels(folder, augmentation):
    """The weights are the labels themselves."""
    weights = put(folder, 'w', sample.labels().astype(np.float32))
    with source(
        folder,
        Zyx(5, 9, 9),
        loss_weight_volumes=weights,
        augmentation=parse_augmentation(augmentation),
    ) as examples:
        varied = 0
        for example in take(examples, 20):
            own = sample.labels()[example.center.zyx]
            assert own > 0
            np.testing.assert_array_equal(example.weights == own, example.labels > 0.5)
            varied += len(np.unique(example.labels)) > 1
    assert varied > 5


def test_weights_may_be_integers_and_of_some_volumes_only(folder):
    path = f'{folder}/volume.h5'
    weights = put(folder, 'w', np.full(sample.SHAPE_ZYX, 3, np.uint8))
    write_two_volumes(folder)
    with source(
        folder,
        data_volumes={'v': f'{path}:raw', 'u': f'{path}:raw'},
        loss_weight_volumes=weights,
        label_volumes={'v': f'{path}:labels', 'u': f'{path}:labels'},
    ) as examples:
        drawn = take(examples, 60)
        assert {(e.volume, *np.unique(e.weights)) for e in drawn} == {('v', 3.0), ('u', 1.0)}
        expected = {name: sum(e.volume == name for e in drawn) for name in ('v', 'u')}
        assert examples.counts() == expected
        assert list(examples.counts()) == ['v', 'u']
        assert expected['v'] > expected['u'] > 0


def write_two_volumes(folder):
    names = {'a': 'v', 'b': 'v', 'c': 'u'}
    for part, name in names.items():
        sample.write_coordinates(folder / part, sample.CENTERS_XYZ, name)
    parts = [(folder / part).read_bytes() for part in names]
    (folder / 'coordinates.tfrecord').write_bytes(b''.join(parts))  # GZIP members follow each other


@pytest.mark.parametrize('value', [np.nan, np.inf, -0.5])
def test_loss_weights_that_are_none(folder, value):
    values = np.ones(sample.SHAPE_ZYX, np.float32)
    values[12] = value
    with source(folder, loss_weight_volumes=put(folder, 'w', values)) as examples:
        with pytest.raises(UserError, match=r"loss weights of volume 'v' hold .* around x,y,z"):
            take(examples, 40)


def test_loss_weights_of_another_shape(folder):
    weights = put(folder, 'w', np.ones((24, 28, 33), np.float32))
    with pytest.raises(UserError, match=r"'v': the loss weights cover .*; they must be equal"):
        source(folder, loss_weight_volumes=weights)


def test_what_comes_from_beyond_the_border_has_weight_0(folder):
    """As if the volume went on for ever, its last voxels repeated."""
    config = parse_augmentation('{"rotation_3d": {}}')
    margin = required_margin(config, SIZE)
    assert min(margin) >= 2
    widths = [(m, m) for m in margin]
    image, labels = (np.pad(a, widths, 'edge') for a in (sample.image(), sample.labels()))
    inside = np.pad(np.ones(sample.SHAPE_ZYX, np.float32), widths)
    corner = [(4, 3, 2), (29, 24, 21)]
    sample.write_coordinates(folder / 'coordinates.tfrecord', [*corner, (17, 14, 12)])
    with source(folder, seed=3, augmentation=config, **PLAIN) as examples:
        for example in take(examples, 9):
            z, y, x = (c + m for c, m in zip(example.center.zyx, margin))
            block = tuple(
                slice(c - m - (n - 1) // 2, c + m + n // 2 + 1)
                for c, m, n in zip((z, y, x), margin, SIZE)
            )
            normalized = (image[block].astype(np.float32) - 140) / 50
            expected = augment(
                normalized,
                labels[block],
                inside[block],
                SIZE,
                config,
                np.random.default_rng((3, example.number)),
            )
            np.testing.assert_allclose(example.image, expected[0], atol=1e-5)
            own = labels[z, y, x]
            np.testing.assert_array_equal(example.labels > 0.5, (expected[1] == own) & (own > 0))
            np.testing.assert_array_equal(example.weights, expected[2])
            at_corner = tuple(example.center) in corner
            assert (example.weights == 0).any() == at_corner
            assert example.weights[2, 3, 4] == 1


def test_images_of_different_types_do_not_share_a_normalization(folder):
    path = f'{folder}/volume.h5'
    other = put(folder, 'raw', sample.image().astype(np.uint16) * 256)['v']
    volumes = {
        'data_volumes': {'v': f'{path}:raw', 'u': other},
        'label_volumes': {'v': f'{path}:labels', 'u': f'{path}:labels'},
    }
    with pytest.raises(UserError, match=r'uint8.*uint16.*--image_offset_scale_map'):
        source(folder, **volumes)
    write_two_volumes(folder)
    offset_scale = {'u': (140.0 * 256, 50.0 * 256)}
    with source(folder, offset_scale=offset_scale, **volumes, **PLAIN) as examples:
        for example in take(examples, 20):
            value = sample.image()[example.center.zyx]
            assert example.image[2, 3, 4] == pytest.approx((value - 140.0) / 50, abs=1e-5)


def test_one_of_several_volumes_may_have_the_label_that_is_none(folder, caplog):
    path, labels = f'{folder}/volume.h5', sample.labels()
    labels[:3] = 77
    both = {
        'data_volumes': {'v': f'{path}:raw', 'u': f'{path}:raw'},
        'label_volumes': {'v': f'{path}:labels', 'u': put(folder, 'labels', labels)['v']},
    }
    for label, absent in ((77, 0), (78, 2)):
        caplog.clear()
        with source(folder, **both, unlabelled=label) as examples:
            examples.labelled_voxels()
        assert caplog.text.count(f'has the label {label} that --unlabelled names') == absent


def test_labelled_voxels_are_counted(folder, monkeypatch):
    path = f'{folder}/volume.h5'
    labels = sample.labels()
    labels[:3] = -1
    other = put(folder, 'labels', labels)['v']
    both = {
        'data_volumes': {'v': f'{path}:raw', 'u': f'{path}:raw'},
        'label_volumes': {'v': f'{path}:labels', 'u': other},
    }
    expected = np.count_nonzero(sample.labels()) + np.count_nonzero(labels > 0)
    with source(folder, **both) as examples:
        assert examples.labelled_voxels() == expected
    # One that is left out is not counted, and not even opened.
    absent = {flag: volumes | {'w': 'none.h5:none'} for flag, volumes in both.items()}
    weights = {'v': 2, 'u': 0, 'w': 0}
    with source(folder, **absent, volume_weights=weights) as examples:
        assert examples.labelled_voxels() == np.count_nonzero(sample.labels())
    monkeypatch.setattr('ffn.training.input.patches._CACHED_BYTES', labels.nbytes - 1)
    with source(folder, **both) as examples:
        assert examples.labelled_voxels() is None


@pytest.mark.parametrize('scheme', ['zarr2', 'zarr3', 'n5', 'precomputed'])
def test_other_formats_give_the_same_examples(folder, scheme):
    weights = np.random.default_rng(0).random(sample.SHAPE_ZYX, np.float32)
    arrays = {'raw': sample.image(), 'labels': sample.labels().astype(np.uint64), 'w': weights}
    for name, array in arrays.items():
        WRITERS[scheme](folder / scheme / name, array)
    own = {name: {'v': f'{scheme}://{folder}/{scheme}:{name}'} for name in arrays}
    with source(folder, loss_weight_volumes=put(folder, 'w', weights)) as examples:
        expected = take(examples, 6)
    with source(
        folder, data_volumes=own['raw'], label_volumes=own['labels'], loss_weight_volumes=own['w']
    ) as examples:
        for one, other in zip(take(examples, 6), expected):
            check_equal(one, other)


@pytest.mark.parametrize('what', ['data_volumes', 'label_volumes'])
def test_missing_chunks_can_be_an_error(folder, what):
    """A training with black blocks would go on without a word."""
    array = sample.image() if what == 'data_volumes' else sample.labels()
    with h5py.File(folder / 'sparse.h5', 'w') as file:
        chunks = tuple(-(-n // 2) for n in array.shape)
        sparse = file.create_dataset('v', array.shape, array.dtype, chunks=chunks)
        first = next(sparse.iter_chunks())
        sparse[first] = array[first]
    with pytest.raises(UserError, match=r'sparse.h5:v: 7 of the 8 chunks .*--missing=error'):
        source(folder, **{what: {'v': f'{folder}/sparse.h5:v'}}, missing='error')


def test_coordinates_are_absolute_in_a_volume_with_an_offset(folder):
    offset = (100, 2000, 30)
    for name, array in (('raw', sample.image()), ('labels', sample.labels().astype(np.uint64))):
        write_precomputed(folder / 'moved' / name, array, offset)
    with source(folder, **PLAIN) as examples:
        expected = take(examples, 6)
    moved = [[c + o for c, o in zip(center, offset)] for center in sample.CENTERS_XYZ]
    sample.write_coordinates(folder / 'coordinates.tfrecord', moved)
    own = {name: {'v': f'precomputed://{folder}/moved:{name}'} for name in ('raw', 'labels')}
    with source(folder, data_volumes=own['raw'], label_volumes=own['labels'], **PLAIN) as examples:
        for one, other in zip(take(examples, 6), expected):
            assert tuple(one.center) == tuple(c + o for c, o in zip(other.center, offset))
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.labels, other.labels)


def test_labels_may_be_a_crop_that_says_where_it_lies(folder, caplog):
    """The image reaches beyond the labels, so that augmentation sees tissue instead of repeated voxels."""
    offset, crop = (2, 3, 1), np.s_[1:22, 3:25, 2:30]
    write_precomputed(folder / 'image', sample.image())
    write_precomputed(folder / 'crop', sample.labels().astype(np.uint64)[crop], offset)
    volumes = {'data_volumes': {'v': f'precomputed://{folder}/image'}}
    with source(folder, **volumes, label_volumes={'v': f'precomputed://{folder}/crop'}) as examples:
        assert examples.find_voxel_size(None) == (8, 8, 33)
        assert not [r for r in caplog.records if 'contradict' in r.getMessage()]
        assert examples.find_voxel_size((8, 8, 30)) == (8, 8, 30)
    message = caplog.records[-1].getMessage()
    assert 'x,y,z 8,8,30 nm (--voxel_size), but x,y,z 8,8,33 nm (precomputed://' in message
    with source(folder, **volumes, label_volumes={'v': f'{folder}/volume.h5:labels'}) as whole:
        expected = {tuple(e.center): e for e in take(whole, 9)}
    plain = {**PLAIN, **volumes}
    with source(folder, label_volumes={'v': f'precomputed://{folder}/crop'}, **plain) as examples:
        for example in take(examples, 9):
            if tuple(example.center) in expected:
                x, y, z = example.center
                cut = sample.image()[z - 2 : z + 3, y - 3 : y + 4, x - 4 : x + 5]
                np.testing.assert_allclose(example.image, (cut - 140.0) / 50, atol=1e-5)
    # Without an offset, it is not known of which part of the image they are.
    bare = put(folder, 'bare', sample.labels()[crop])
    with pytest.raises(UserError, match='labels lie inside and say where'):
        source(folder, **volumes, label_volumes=bare)
