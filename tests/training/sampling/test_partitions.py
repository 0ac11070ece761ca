"""Partitions against a direct count and reference values, and mistakes of the user."""

from __future__ import annotations

import logging

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.inference import inference_pb2
from ffn.training.sampling.label_blocks import split
from ffn.training.sampling.partitions import (
    PartitionConfig,
    compute_partitions,
    write_partitions,
)
from ffn.utils import protos
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.masks import Mask
from ffn.volumes.volume import Volume
from tests.real_data import PARTITION_COUNTS, THRESHOLDS, training2_labels


def direct(labels: np.ndarray, config: PartitionConfig) -> np.ndarray:
    """The definition, voxel by voxel: windows of labels compared with the label in their middle."""
    box = tuple(2 * r + 1 for r in config.lom_radius.zyx)
    none = (labels < 0) | (labels.astype(object) == 2**64 - 1)
    labels = np.where(none, 0, labels)
    middle = labels[Box.of_shape(labels.shape).shrink(config.lom_radius).slices_zyx]
    windows = np.lib.stride_tricks.sliding_window_view(labels, box)
    fractions = (windows == middle[..., None, None, None]).sum(axis=(3, 4, 5)) / np.prod(box)
    classes = 1 + sum((fractions >= t).astype(int) for t in config.thresholds)
    ids, sizes = np.unique(labels, return_counts=True)
    kept = set(ids[sizes >= config.min_size].tolist()) - {0}
    if config.id_whitelist:
        kept &= set(config.id_whitelist)
    partitions = np.where(np.isin(middle, np.array(list(kept), labels.dtype)), classes, 0)
    inside = Box.of_shape(labels.shape).shrink(config.lom_radius).slices_zyx
    return np.where(none[inside], 255, partitions).astype(np.uint8)


def computed(labels: np.ndarray, config: PartitionConfig, **kwargs) -> np.ndarray:
    """compute_partitions with its blocks put together; 77 where no block was."""
    out = np.full(labels.shape, 77, np.uint8)
    for box, partitions in compute_partitions(Volume('labels', labels, {}), config, **kwargs):
        out[box.slices_zyx] = partitions
    return out[Box.of_shape(labels.shape).shrink(config.lom_radius).slices_zyx]


def blobs(rng: np.random.Generator, shape_zyx, number: int, dtype=np.int32) -> np.ndarray:
    """Labels 0..number - 1 in boxes that overlap and touch."""
    labels = np.zeros(shape_zyx, dtype)
    for label in range(number):
        corner = [rng.integers(0, n) for n in shape_zyx]
        size = [rng.integers(1, n + 1) for n in shape_zyx]
        labels[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = label
    return labels


@st.composite
def problems(draw):
    """Small volumes with sides and radii that differ, down to the smallest that can be computed."""
    radius = Xyz(*(draw(st.integers(0, 4)) for _ in range(3)))
    shape = [2 * r + 1 + draw(st.integers(0, 7)) for r in radius.zyx]
    labels = blobs(np.random.default_rng(draw(st.integers(0, 99))), shape, draw(st.integers(1, 8)))
    thresholds = draw(st.lists(st.floats(0, 1.1), min_size=1, max_size=6, unique=True).map(sorted))
    whitelist = draw(st.lists(st.integers(1, 8), max_size=3))
    min_size = draw(st.sampled_from([0, 1, 20, 200]))
    return labels, PartitionConfig(
        tuple(thresholds), radius, id_whitelist=tuple(whitelist), min_size=min_size
    )


@settings(max_examples=150, deadline=None)
@given(problems())
def test_equals_direct_count(problem):
    labels, config = problem
    np.testing.assert_array_equal(computed(labels, config), direct(labels, config))


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, 12)] * 3), st.data())
def test_thresholds_meet_float64_fractions_exactly(radius, data):
    fractions = np.arange(np.prod([2 * r + 1 for r in radius]) + 1) / np.prod(
        [2 * r + 1 for r in radius]
    )
    fraction = float(data.draw(st.sampled_from(fractions.tolist())))
    around = [np.nextafter(fraction, -1), fraction, np.nextafter(fraction, 2)]
    limits = PartitionConfig(tuple(around), Xyz(*radius)).count_limits
    np.testing.assert_array_equal(limits, np.searchsorted(fractions, around, side='left'))


def test_class_boundaries():
    labels = np.array([[[3, 3, 3, 0, 3, 0, 0]]])
    config = PartitionConfig((0.4, 2 / 3, 0.9), Xyz(1, 0, 0), min_size=1)
    # Fractions 1, 2/3 (on the threshold), -, 1/3.
    np.testing.assert_array_equal(computed(labels, config), [[[4, 3, 0, 1, 0]]])


def test_a_segment_of_exactly_min_size_is_kept():
    labels = np.array([[[1, 1, 1, 2, 2, 0]]])
    for min_size, expected in ((2, [1, 1, 1, 1, 1, 0]), (3, [1, 1, 1, 0, 0, 0]), (4, [0] * 6)):
        config = PartitionConfig((2.0,), Xyz(0, 0, 0), min_size=min_size)
        np.testing.assert_array_equal(computed(labels, config), [[expected]])


@pytest.mark.parametrize('min_size', [1, 400])
def test_blocks_make_no_difference(min_size):
    labels = blobs(np.random.default_rng(3), (300, 12, 140), 30)
    config = PartitionConfig((0.1, 0.5, 0.9), Xyz(5, 3, 4), min_size=min_size)
    assert len(split(Box.of_shape(labels.shape), config.lom_radius, 10)) == 8
    np.testing.assert_array_equal(
        computed(labels, config, block_voxels=10), computed(labels, config)
    )


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(1, 400)] * 3), st.integers(1, 10**7))
def test_split_tiles_the_box(size, limit):
    box = Box(Xyz(5, -6, 7), Xyz(*size))
    parts = split(box, Xyz(3, 2, 1), limit)
    assert sum(np.prod(part.size) for part in parts) == np.prod(size)
    assert all(box.contains(part) for part in parts)
    assert all(a.intersection(b) is None for i, a in enumerate(parts) for b in parts[:i])
    for part in parts:
        assert np.prod(part.grow(Xyz(3, 2, 1)).size) <= limit or max(part.size) < 128


@pytest.mark.parametrize('dtype', ['i1', 'u1', 'i2', '>i4', 'u4', 'i8', '>u8', 'u8'])
def test_every_integer_type_and_its_extremes(dtype):
    info = np.iinfo(dtype)
    names = np.array([0, info.min or 7, info.max, 1, info.max - 1], dtype)
    labels = names[blobs(np.random.default_rng(5), (9, 11, 13), 5, np.int64)]
    config = PartitionConfig((0.2, 0.6), Xyz(2, 3, 1), min_size=1)
    np.testing.assert_array_equal(computed(labels, config), direct(labels, config))
    chosen = PartitionConfig(
        (0.2, 0.6), Xyz(2, 3, 1), id_whitelist=(int(names[1]), int(info.max)), min_size=1
    )
    np.testing.assert_array_equal(computed(labels, chosen), direct(labels, chosen))


def test_as_many_labels_as_the_type_holds():
    labels = np.arange(-128, 128).repeat(8).reshape(16, 16, 8).astype(np.int8)
    config = PartitionConfig((0.2,), Xyz(1, 1, 1), min_size=1)
    np.testing.assert_array_equal(computed(labels, config), direct(labels, config))


def test_bool_labels():
    labels = blobs(np.random.default_rng(1), (9, 10, 11), 2).astype(bool)
    config = PartitionConfig((0.2, 0.6), Xyz(1, 2, 1), min_size=1)
    np.testing.assert_array_equal(computed(labels, config), direct(labels.astype(int), config))


def test_whitelist_names_what_is_not_there(caplog):
    labels = np.full((5, 6, 7), 44, np.uint8)
    config = PartitionConfig((0.5,), Xyz(1, 1, 1), id_whitelist=(300, 3), min_size=1)
    with caplog.at_level(logging.WARNING, 'absl'):
        assert not computed(labels, config).any()  # 300 is 44 modulo 256
    assert 'has the label 300, 3' in caplog.text


def test_nothing_large_enough_is_said(caplog):
    config = PartitionConfig((0.5,), Xyz(1, 1, 1), min_size=1000)
    with caplog.at_level(logging.WARNING, 'absl'):
        assert not computed(np.ones((5, 6, 7), int), config).any()
    assert '--min_size' in caplog.text


def test_what_min_size_makes_background_is_said(caplog):
    labels = np.zeros((5, 6, 7), np.uint16)
    labels[0, 0, :4], labels[1, :, :6], labels[3, 1, 1:5], labels[4, 5, 6] = 300, 2, 9, 4
    config = PartitionConfig((0.5,), Xyz(1, 1, 1), min_size=5)
    with caplog.at_level(logging.INFO, 'absl'):
        computed(labels, config)
    # 4 + 4 + 1 of 4 + 36 + 4 + 1 voxels
    assert (
        '--min_size 5 makes 3 of 4 objects background, 20.0 % of the labelled voxels' in caplog.text
    )


def test_spheres_are_absolute_and_include_their_border():
    labels = np.ones((12, 14, 16), int)
    spheres = ((105.0, 206.0, 307.0, 3.0), (100.0, 200.0, 300.0, 2.5), (0.0, 0.0, 0.0, 9.0))
    config = PartitionConfig((0.5,), Xyz(1, 2, 3), exclusion_regions=spheres, min_size=1)
    volume = Volume('labels', labels, {}, origin_zyx=(300, 200, 100))
    ((box, partitions),) = compute_partitions(volume, config)
    assert box == Box(Xyz(101, 202, 303), Xyz(14, 10, 6))
    for index in np.ndindex(partitions.shape):
        position = np.add(index[::-1], box.start)
        inside = any(np.sum((position - s[:3]) ** 2) <= s[3] ** 2 for s in spheres)
        assert partitions[index] == (255 if inside else 2)
    assert partitions[307 - 303, 206 - 202, 108 - 101] == 255
    assert partitions[307 - 303, 206 - 202, 109 - 101] == 2


def parse_masks(text: str) -> tuple[Mask, ...]:
    """Masks from the text format of MaskConfigs."""
    messages = protos.parse_text(text, inference_pb2.MaskConfigs(), 'masks').masks
    return tuple(map(Mask.from_proto, messages))


@pytest.mark.parametrize('block_voxels', [2**20, 10])
def test_masks_exclude_voxels_with_a_masked_voxel_in_their_box(block_voxels):
    labels = np.ones((200, 14, 16), int)
    config = PartitionConfig(
        (0.5,),
        Xyz(1, 2, 3),
        min_size=1,
        masks=parse_masks(
            'masks { coordinate_expression { expression: "(x==8)&(y==7)&(z==99)" } }'
        ),
    )
    partitions = computed(labels, config, block_voxels=block_voxels)
    expected = np.full(labels.shape, 2, np.uint8)
    expected[99 - 3 : 99 + 4, 7 - 2 : 7 + 3, 8 - 1 : 8 + 2] = 255
    np.testing.assert_array_equal(partitions, expected[3:-3, 2:-2, 1:-1])


def test_mask_from_a_volume(tmp_path):
    rng = np.random.default_rng(2)
    tissue = (rng.random((10, 12, 14)) < 0.004).astype(np.uint8) * 9
    with h5py.File(tmp_path / 'mask.h5', 'w') as file:
        file['tissue'] = tissue
    text = f'''masks {{ volume {{ mask {{ hdf5: "{tmp_path}/mask.h5:tissue" }}
        channels {{ channel: 0 values: 9 }} }} }}'''
    config = PartitionConfig((0.5,), Xyz(1, 0, 2), masks=parse_masks(text), min_size=1)
    windows = np.lib.stride_tricks.sliding_window_view(tissue == 9, (5, 1, 3))
    masked = windows.any(axis=(3, 4, 5))
    assert 0 < masked.sum() < masked.size
    partitions = computed(np.ones(tissue.shape, int), config)
    np.testing.assert_array_equal(partitions == 255, masked)


def labels_file(tmp_path, labels: np.ndarray, **attrs) -> str:
    """Writes labels; returns 'path:dataset'."""
    with h5py.File(tmp_path / 'labels.h5', 'w') as file:
        file['stack'] = labels
        file['stack'].attrs.update(attrs)
    return f'{tmp_path}/labels.h5:stack'


SMALL = PartitionConfig((0.2, 0.6), Xyz(1, 2, 3), min_size=1)


def test_file_written(tmp_path):
    labels = blobs(np.random.default_rng(4), (12, 70, 16), 6)
    counts = write_partitions(labels_file(tmp_path, labels), f'{tmp_path}/out.h5:group/af', SMALL)
    with h5py.File(tmp_path / 'out.h5') as file:
        dataset = file['group/af']
        assert (dataset.dtype, dataset.shape) == (np.uint8, labels.shape)
        assert dataset.chunks == (12, 64, 16)
        assert dataset.compression == 'gzip'
        whole, attrs = dataset[:], dict(dataset.attrs)
    inner = whole[3:-3, 2:-2, 1:-1].copy()
    np.testing.assert_array_equal(inner, direct(labels, SMALL))
    whole[3:-3, 2:-2, 1:-1] = 255
    assert (whole == 255).all()
    np.testing.assert_array_equal(attrs['bounding_boxes'], [[[1, 2, 3], [14, 66, 6]]])
    np.testing.assert_array_equal(attrs['partition_counts'], np.unique(inner, return_counts=True))
    np.testing.assert_array_equal(attrs['partition_counts'], counts)
    assert 'origin_xyz' not in attrs


@pytest.mark.parametrize('begins', [{}, {'resolution': [33, 9, 8], 'offset': [330, 0, 80]}])
def test_bounding_boxes_of_the_input_are_shrunk_and_empty_ones_dropped(tmp_path, begins):
    """They are absolute, wherever the array begins."""
    spec = labels_file(
        tmp_path,
        np.ones((12, 14, 16), int),
        bounding_boxes=[[[0, 0, 0], [16, 14, 12]], [[4, 4, 4], [2, 9, 9]]],
        bounding_boxes_more=[[[3, 2, 1], [9, 10, 11]]],
        other=3,
        **begins,
    )
    write_partitions(spec, f'{tmp_path}/out.h5:af', SMALL)
    with h5py.File(tmp_path / 'out.h5') as file:
        np.testing.assert_array_equal(
            file['af'].attrs['bounding_boxes'],
            [[[1, 2, 3], [14, 10, 6]], [[4, 4, 4], [7, 6, 5]]],
        )


def test_other_datasets_stay_and_the_old_one_is_replaced(tmp_path):
    spec = labels_file(tmp_path, np.ones((12, 14, 16), int))
    with h5py.File(tmp_path / 'labels.h5', 'a') as file:
        file['image'] = np.arange(5)
        file['af'] = np.zeros(3)
    write_partitions(spec, f'{tmp_path}/labels.h5:af', SMALL)
    with h5py.File(tmp_path / 'labels.h5') as file:
        assert set(file) == {'stack', 'image', 'af'}
        np.testing.assert_array_equal(file['image'], np.arange(5))
        assert file['af'].shape == (12, 14, 16)


def test_missing_chunks_of_a_mask_are_refused(tmp_path):
    spec = labels_file(tmp_path, np.ones((7, 8, 9), np.uint8))
    with h5py.File(tmp_path / 'mask.h5', 'w') as file:
        file.create_dataset('m', (7, 8, 9), np.uint8, chunks=(7, 4, 9))[:, :4] = 1
    volume = f'mask {{ hdf5: "{tmp_path}/mask.h5:m" }} channels {{ values: 1 }}'
    config = PartitionConfig(
        (0.5,), Xyz(1, 1, 1), masks=parse_masks(f'masks {{ volume {{ {volume} }} }}'), min_size=1
    )
    write_partitions(spec, f'{tmp_path}/out.h5:af', config)
    with pytest.raises(UserError, match=r'mask.h5:m: 1 of the 2 chunks .*--missing=error'):
        write_partitions(spec, f'{tmp_path}/out.h5:af', config, missing='error')


def test_a_failed_run_loses_nothing(tmp_path):
    spec = labels_file(tmp_path, np.ones((12, 14, 16), int))
    write_partitions(spec, f'{tmp_path}/out.h5:af', SMALL)
    before = (tmp_path / 'out.h5').read_bytes()
    missing = parse_masks(
        'masks { volume { mask { hdf5: "absent.h5:m" } channels { values: 1 } } }'
    )
    broken = PartitionConfig((0.5,), Xyz(1, 1, 1), masks=missing)
    with pytest.raises(UserError, match=r'absent\.h5'):
        write_partitions(spec, f'{tmp_path}/out.h5:af', broken)
    assert (tmp_path / 'out.h5').read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['labels.h5', 'out.h5']


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'thresholds': (0.1, 0.3, 0.2)}, r'0\.1,0\.3,0\.2; expected ascending'),
        ({'thresholds': (0.1, 0.1)}, 'ascending'),
        ({'thresholds': (float('nan'),)}, 'finite'),
        ({'thresholds': ()}, 'has 0 values'),
        ({'thresholds': tuple(np.linspace(0, 1, 254))}, 'has 254 values; expected 1 to 253'),
        ({'lom_radius': Xyz(1, -1, 1)}, 'x,y,z 1,-1,1'),
        ({'min_size': -1}, '--min_size is -1'),
        ({'exclusion_regions': ((1, 2, 3, -4),)}, 'holds 1,2,3,-4; expected x,y,z and a radius'),
        ({'exclusion_regions': ((1, 2, 3, 4), (1, float('nan'), 3, 4))}, 'holds 1,nan,3,4;'),
        ({'exclusion_regions': ((1, 2, 3, float('inf')),)}, 'holds 1,2,3,inf;'),
    ],
)
def test_configuration_errors(fields, message):
    with pytest.raises(UserError, match=message):
        PartitionConfig(**{'thresholds': (0.5,), 'lom_radius': Xyz(1, 1, 1), **fields})


def test_radius_too_large_prints_both_orders(tmp_path):
    config = PartitionConfig((0.5,), Xyz(2, 3, 6))
    with pytest.raises(UserError, match=r'x,y,z 2,3,6 \(z,y,x 6,3,2\).*z,y,x 12,14,16'):
        write_partitions(
            labels_file(tmp_path, np.ones((12, 14, 16), int)), f'{tmp_path}/o.h5:a', config
        )
    assert not (tmp_path / 'o.h5').exists()


@pytest.mark.parametrize(
    ('labels', 'attrs', 'output', 'message'),
    [
        (np.ones((9, 9, 9), np.float32), {}, 'o.h5:a', 'float32; labels must be integers'),
        (np.ones((2, 9, 9, 9), int), {}, 'o.h5:a', 'has 2 channels'),
        (np.ones((9, 9), int), {}, 'o.h5:a', r'expected 3-d'),
        (np.ones((9, 9, 9), int), {}, 'o.h5', 'expected path:dataset'),
        (np.ones((9, 9, 9), int), {}, 'labels.h5:/stack', 'is the input'),
        (np.ones((9, 9, 9), int), {}, 'labels.h5:.//stack', 'is the input'),
        (np.ones((9, 9, 9), int), {'bounding_boxes': [1, 2, 3]}, 'o.h5:a', 'does not hold boxes'),
    ],
)
def test_input_and_output_errors(tmp_path, labels, attrs, output, message):
    spec = labels_file(tmp_path, labels, **attrs)
    with pytest.raises(UserError, match=message):
        write_partitions(spec, f'{tmp_path}/{output}', SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ['labels.h5']


def test_golden_crop(data_dir, goldens_dir):
    golden = np.load(goldens_dir / 'partitions.npz')
    crop = Box.from_zyx(golden['crop_start_zyx'], golden['crop_size_zyx'])
    labels = training2_labels(data_dir)[crop.slices_zyx]
    config = PartitionConfig(
        THRESHOLDS,
        Xyz(*golden['lom_radius_xyz'].tolist()),
        min_size=int(golden['min_size']),
        exclusion_regions=(tuple(golden['exclusion_xyzr'].tolist()),),
    )
    np.testing.assert_array_equal(computed(labels, config), golden['partitions'])
    assert (golden['partitions'] == 255).any()


@pytest.mark.parametrize('block_voxels', [2**25, 2**21])
def test_whole_sample_volume(data_dir, block_voxels):
    config = PartitionConfig(THRESHOLDS, Xyz(24, 24, 24))
    partitions = computed(training2_labels(data_dir), config, block_voxels=block_voxels)
    assert tuple(np.bincount(partitions.ravel()).tolist()) == PARTITION_COUNTS
