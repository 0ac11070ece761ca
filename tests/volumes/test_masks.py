"""Masks of volumes, of the image and of coordinates, against NumPy."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from ffn.inference import inference_pb2
from ffn.utils import protos
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.masks import ChannelCondition, Mask, MaskBuilder, coordinate_mask
from ffn.volumes.volume import VolumeSource

SHAPE_ZYX = (6, 7, 9)
TISSUE = np.random.default_rng(0).integers(0, 5, (2, *SHAPE_ZYX), np.uint8)
BOX = Box(Xyz(2, 1, 3), Xyz(5, 4, 2))
FIRST, SECOND = TISSUE[(slice(None), *BOX.slices_zyx)]
Z, Y, X = np.indices(SHAPE_ZYX)[(slice(None), *BOX.slices_zyx)]


def parse(text: str) -> list[Mask]:
    """Masks from the text format of MaskConfigs."""
    messages = protos.parse_text(text, inference_pb2.MaskConfigs(), 'masks').masks
    return [Mask.from_proto(message) for message in messages]


def built(text: str, image: np.ndarray | None = None, box: Box = BOX) -> np.ndarray | None:
    with MaskBuilder() as builder:
        return builder.build(parse(text), box, image)


@pytest.fixture
def volume(tmp_path) -> str:
    """Path of a file that holds two channels, and the first alone."""
    with h5py.File(tmp_path / 'tissue.h5', 'w') as file:
        file['both'], file['first'] = TISSUE, TISSUE[0]
    return str(tmp_path / 'tissue.h5')


CHANNELS = [
    ('channels { channel: 0 values: 3 }', FIRST == 3),
    ('channels { channel: 1 values: 3 values: 0 }', (SECOND == 3) | (SECOND == 0)),
    ('channels { values: 3 }', FIRST == 3),
    ('channels { channel: 1 min_value: 2 }', SECOND >= 2),
    ('channels { channel: 1 max_value: 2 }', SECOND <= 2),
    ('channels { channel: 1 min_value: 1 max_value: 2 }', (SECOND == 1) | (SECOND == 2)),
    ('channels { channel: 0 min_value: 1.5 max_value: 2.5 }', FIRST == 2),
    ('channels { channel: 0 min_value: 0 }', np.ones(FIRST.shape, bool)),
    ('channels { channel: 0 values: 3 invert: true }', FIRST != 3),
    ('channels { channel: 0 min_value: 2 invert: true }', FIRST < 2),
    ('channels { channel: 0 values: 3 } channels { channel: 1 max_value: 0 }',
     (FIRST == 3) | (SECOND == 0)),
    ('channels { channel: 0 values: 3 invert: true } channels { channel: 1 values: 2 }',
     (FIRST != 3) | (SECOND == 2)),
    ('channels { channel: 0 values: 1 } channels { channel: 0 min_value: 3 }',
     (FIRST == 1) | (FIRST >= 3)),
]  # fmt: skip


@pytest.mark.parametrize('invert', [False, True])
@pytest.mark.parametrize(('channels', 'expected'), CHANNELS)
def test_channels_of_volume_and_image(volume, channels, expected, invert):
    whole = 'invert: true' if invert else ''
    of_volume = built(
        f'masks {{ volume {{ mask {{ hdf5: "{volume}:both" }} {channels} }} {whole} }}'
    )
    of_image = built(f'masks {{ image {{ {channels} }} {whole} }}', np.stack([FIRST, SECOND]))
    for mask in (of_volume, of_image):
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, expected ^ invert)


@pytest.mark.parametrize(
    ('condition', 'said'),
    [
        ('values: 1 min_value: 3', 'channel 1 of a mask has both values and min_value; '),
        ('values: 1 max_value: 0', 'channel 1 of a mask has both values and max_value; '),
        ('min_value: 3 max_value: 1', 'min_value 3 of channel 1 of a mask is greater than its max'),
        ('min_value: nan', 'min_value of channel 1 of a mask is nan; expected a number'),
        ('max_value: nan', 'max_value of channel 1 of a mask is nan; expected a number'),
    ],
)
def test_conditions_that_select_nothing_or_are_not_used(condition, said):
    with pytest.raises(UserError, match=said):
        built(f'masks {{ image {{ channels {{ channel: 1 {condition} }} }} }}', FIRST)


def test_volume_and_image_without_channels(volume):
    mask = built(
        f'masks {{ volume {{ mask {{ hdf5: "{volume}:first" }} channels {{ values: 3 }} }} }}'
    )
    np.testing.assert_array_equal(mask, FIRST == 3)
    image = FIRST / np.float32(2)
    mask = built('masks { image { channels { min_value: 0.75 max_value: 1.5 } } }', image)
    np.testing.assert_array_equal(mask, (image >= 0.75) & (image <= 1.5))


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('x == 4', X == 4),
        ('(z > 3) & (y < 2) | (x >= 5)', (Z > 3) & (Y < 2) | (X >= 5)),
        ('np.hypot(x - 4, y - 3) < 1.5', np.hypot(X - 4, Y - 3) < 1.5),
        ('x + 10 * y - 100 * z', X + 10 * Y - 100 * Z != 0),
        ('x - 4', X != 4),
        ('1', np.ones(X.shape, bool)),
        ('False', np.zeros(X.shape, bool)),
    ],
)
def test_coordinates_are_absolute(text, expected):
    mask = coordinate_mask(text, BOX)
    assert mask.dtype == bool
    assert mask.flags.writeable
    np.testing.assert_array_equal(mask, expected)
    config = f'masks {{ coordinate_expression {{ expression: "{text}" }} invert: true }}'
    np.testing.assert_array_equal(built(config), ~expected)


@pytest.mark.parametrize('text', ['np.where(x > 3)', 'np.clip(x)', 'open("a")', 'x +', ''])
def test_bad_expressions(text):
    with pytest.raises(UserError, match='coordinate expression'):
        coordinate_mask(text, BOX)


def test_several_masks_are_joined_after_inverting(volume):
    text = f'''
      masks {{ volume {{ mask {{ hdf5: "{volume}:both" }} channels {{ channel: 1 values: 2 }} }} }}
      masks {{ image {{ channels {{ min_value: 2 }} }} invert: true }}
      masks {{ coordinate_expression {{ expression: "x == 4" }} }}'''
    image = FIRST.astype(np.float32)
    np.testing.assert_array_equal(built(text, image), (SECOND == 2) | (image < 2) | (X == 4))
    assert built('') is None


BITS64 = 2**64 - 1


@pytest.mark.parametrize(
    ('dtype', 'voxels', 'values', 'expected'),
    [
        ('u1', [0, 44, 255], [255], [0, 0, 1]),
        ('>u2', [1, 256, 300], [300, 1], [1, 0, 1]),
        ('i8', [-1, 0, 2**62 + 1], [2**62 + 1], [0, 0, 1]),
        ('u8', [BITS64 - 1, BITS64, 3], [BITS64, 3], [0, 1, 1]),
        ('f4', [0.5, 2.0, np.nan], [2], [0, 1, 0]),
        ('?', [False, True], [1], [0, 1]),
        ('u1', [0, 44, 255], [300], [0, 0, 0]),
        ('u1', [0, 44, 255], [300, 0], [1, 0, 0]),
        ('i1', [-128, 1, 127], [128], [0, 0, 0]),
        ('i4', [-1, 0, 1], [BITS64], [0, 0, 0]),
        ('i8', [-1, 0, 1], [BITS64], [0, 0, 0]),
        ('f4', [2**24, 1], [2**24 + 1], [0, 0]),
        ('?', [False, True], [7], [0, 0]),
    ],
)  # fmt: skip
def test_values_that_the_type_cannot_hold_match_nothing(dtype, voxels, values, expected):
    image = np.array(voxels, dtype)[np.newaxis, np.newaxis]
    channel = ' '.join(f'values: {value}' for value in values)
    mask = built(f'masks {{ image {{ channels {{ {channel} }} }} }}', image)
    np.testing.assert_array_equal(mask, np.array(expected, bool)[np.newaxis, np.newaxis])


@pytest.mark.parametrize('dtype', ['f2', 'f4', 'f8'])
@pytest.mark.parametrize('limit', [0.1, 0.3, 0.7])
def test_what_equals_a_limit_is_within_it(limit, dtype):
    config = inference_pb2.MaskChannelConfig(min_value=limit, max_value=limit)
    voxels = np.array(
        [limit, np.float32(limit), limit + 0.01, 1e300 if dtype == 'f8' else 9], dtype
    )
    selected = ChannelCondition.from_proto(config).apply(voxels.reshape(1, 1, 2, 2), 'v')
    assert selected.ravel().tolist() == [True, True, False, False]


@pytest.mark.parametrize('dtype', [np.int64, np.uint64])
def test_ranges_of_ids_are_exact(dtype):
    """As floats, 2^53 + 1 would lie at both limits."""
    voxels = np.array([0, 2**53 - 1, 2**53, 2**53 + 1, 2**62 + 1], dtype).reshape(1, 1, 1, 5)
    limit = float(2**53)
    most, least = ChannelCondition(max_value=limit), ChannelCondition(min_value=2 * limit)
    assert most.apply(voxels, 'v').ravel().tolist() == [True, True, True, False, False]
    assert least.apply(voxels, 'v').ravel().tolist() == [False, False, False, False, True]
    assert ChannelCondition(max_value=np.inf).apply(voxels, 'v').all()
    half = ChannelCondition(min_value=-0.5, max_value=2.0**53 - 1.5)
    assert half.apply(voxels, 'v').ravel().tolist() == [True, False, False, False, False]


@pytest.mark.parametrize('dtype', ['u1', 'i1', 'i8', 'f4'])
def test_ranges_that_the_type_cannot_hold(dtype):
    image = np.arange(5, dtype=dtype)[np.newaxis, np.newaxis]
    for text, expected in (
        ('min_value: 300', False),
        ('min_value: -300', True),
        ('max_value: 300', True),
        ('max_value: -300', False),
    ):
        mask = built(f'masks {{ image {{ channels {{ {text} }} }} }}', image)
        assert (mask == expected).all()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('masks {}', 'a mask has no source; set volume, image or coordinate_expression'),
        ('masks { invert: true }', 'a mask has no source'),
        ('masks { image { channels { channel: 2 values: 1 } } }', 'channel 2 of 2 does not exist'),
        ('masks { image { channels { channel: -1 values: 1 } } }', 'channel -1 of 2 does not'),
        ('masks { image { channels { channel: 1 } } }',
         'image mask: channel 1 has neither values nor a range'),
        ('masks { image { channels { channel: 1 invert: true } } }', 'neither values nor a range'),
        ('masks { image {} }', 'image mask selects no channel; expected channels'),
        ('masks { volume { channels { values: 1 } } }', 'mask is not set; expected mask'),
        ('masks { volume { mask { hdf5: "absent.h5:a" } channels { values: 1 } } }',
         'no such file: absent.h5'),
        ('masks { volume { mask { hdf5: "PATH:both" } } }', 'tissue.h5:both selects no channel'),
        ('masks { volume { mask { hdf5: "PATH:first" } channels { channel: 1 values: 1 } } }',
         'mask .*tissue.h5:first: channel 1 of 1 does not exist'),
    ],
)  # fmt: skip
def test_errors(volume, text, message):
    with pytest.raises(UserError, match=message):
        built(text.replace('PATH', volume), np.stack([FIRST, SECOND]))


def test_box_that_the_volume_does_not_cover(volume):
    text = f'masks {{ volume {{ mask {{ hdf5: "{volume}:both" }} channels {{ values: 1 }} }} }}'
    with pytest.raises(UserError, match=r'is not inside .*tissue\.h5:both, which covers'):
        built(text, box=BOX.grow(Xyz(0, 0, 2)))


def test_image_mask_without_image():
    with pytest.raises(UserError, match='made from the image is given where there is no image'):
        built('masks { image { channels { values: 1 } } }')


def test_volumes_are_opened_once_and_closed(volume, monkeypatch):
    opened = []
    open_source = VolumeSource.open

    def spy(source):
        opened.append(open_source(source))
        return opened[-1]

    monkeypatch.setattr(VolumeSource, 'open', spy)
    channel = 'channels { channel: 0 values: 3 }'
    text = f'masks {{ volume {{ mask {{ hdf5: "{volume}:both" }} {channel} }} }}'
    with MaskBuilder() as builder:
        for _ in range(3):
            builder.build(parse(text * 2), BOX)
        assert len(opened) == 1
    with pytest.raises((ValueError, RuntimeError, OSError)):
        opened[0].read(BOX)


def test_large_integers_in_floats_are_compared_exactly():
    config = inference_pb2.MaskChannelConfig(max_value=2**24)
    voxels = np.array([2.0**24, 2.0**24 + 1, 2.0**53, -1], np.float64)
    selected = ChannelCondition.from_proto(config).apply(voxels.reshape(1, 1, 2, 2), 'v')
    assert selected.ravel().tolist() == [True, False, False, True]
