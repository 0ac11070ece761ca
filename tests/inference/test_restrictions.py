import h5py
import numpy as np
import pytest
from google.protobuf import text_format

from ffn.inference import inference_pb2
from ffn.inference.restrictions import find_nothing, make_restrictor
from ffn.inference.serialization import masking_config
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.masks import MaskBuilder

BOX = Box(Xyz(20, 10, 5), Xyz(30, 24, 12))
FOV = Xyz(9, 7, 5)
IMAGE = np.arange(30 * 24 * 12, dtype=np.uint16).reshape(BOX.size.zyx)


def restrictor(text, box=BOX, image=None):
    request = text_format.Parse(text, inference_pb2.InferenceRequest())
    image = np.zeros(box.size.zyx, np.uint8) if image is None else image
    with MaskBuilder() as masks:
        return make_restrictor(masking_config(request), box, image, FOV, masks)


def test_without_masks_everything_is_allowed():
    free = restrictor('')
    assert free.allows((0, 0, 0))
    assert free.allows_seed((0, 0, 0))
    assert not find_nothing(IMAGE, free, FOV)


def test_masks_work_without_a_shift_mask():
    masked = restrictor('masks { coordinate_expression { expression: "(x >= 30) & (z < 9)" } }')
    assert masked.allows((0, 0, 9))
    assert not masked.allows((0, 0, 10))
    assert not masked.allows((3, 0, 10))
    assert masked.allows((4, 0, 10))
    assert masked.allows_seed((0, 0, 10))


def test_seed_masks_only_forbid_seeds():
    image = np.zeros(BOX.size.zyx, np.uint8)
    image[2, 3, 4] = 9
    masked = restrictor(
        'seed_masks { image { channels { min_value: 5 max_value: 10 } } }', image=image
    )
    assert not masked.allows_seed((2, 3, 4))
    assert masked.allows_seed((2, 3, 5))
    assert masked.allows((2, 3, 4))


def test_a_shift_mask_that_ends_within_the_subvolume_is_told(shifts, caplog):
    restrictor(text_of(shifts, 6))
    assert 'nothing counts as shifted' not in caplog.text
    restrictor(text_of(shifts, 6), Box(Xyz(20, 10, 5), Xyz(90, 24, 12)))
    assert 'elsewhere nothing counts as shifted' in caplog.text


def test_shifts_that_are_no_numbers(tmp_path):
    with h5py.File(tmp_path / 'nan.h5', 'w') as file:
        file['shift'] = np.full((2, 20, 15, 25), np.nan, np.float32)
    with pytest.raises(UserError, match='no finite numbers'):
        restrictor(text_of(tmp_path / 'nan.h5', 6))


@pytest.mark.parametrize(
    ('masks', 'seed_masks', 'found'),
    [
        ('x > 0', '', 'masked'),
        ('', 'x > 0', 'masked'),
        ('x < 30', 'x >= 30', 'masked'),
        # Where the field of view fits: x 24..45, y 13..30, z 7..14.
        ('(x >= 24) & (x < 46) & (y >= 13) & (y < 31)', '', 'masked'),
        ('(z >= 7) & (z < 9)', '(z >= 9) & (z < 15)', 'masked'),
        ('z < 9', 'z > 9', ''),
        ('(x >= 24) & (x < 45)', '', ''),
        ('(x >= 25) & (x < 46)', '', ''),
    ],
)
def test_masks_that_leave_nothing(masks, seed_masks, found):
    expressions = {'masks': masks, 'seed_masks': seed_masks}
    text = ' '.join(
        f'{name} {{ coordinate_expression {{ expression: "{one}" }} }}'
        for name, one in expressions.items()
        if one
    )
    assert find_nothing(IMAGE, restrictor(text), FOV) == found


@pytest.fixture
def shifts(tmp_path):
    """A shift of -6 along y at coarse voxel x 8, y 4, z 10: x 32..35, y 16..19."""
    array = np.zeros((2, 20, 15, 25), np.int16)
    array[1, 10, 4, 8] = -6
    path = tmp_path / 'shifts.h5'
    with h5py.File(path, 'w') as file:
        file['shift'] = array
        file['one'] = array[0]
    return path


def reach(masked):
    """Absolute x,y,z ranges of positions that are forbidden, relative to the canvas."""
    forbidden = [p for p in np.ndindex(*BOX.size.zyx) if not masked.allows(p)]
    first, last = np.min(forbidden, axis=0), np.max(forbidden, axis=0)
    corner = np.array(BOX.start.zyx)
    assert len(forbidden) == np.prod(last - first + 1)
    return (first + corner)[::-1].tolist(), (last + corner)[::-1].tolist()


def text_of(shifts, threshold, extra='', dataset='shift'):
    return (
        f'shift_mask {{ hdf5: "{shifts}:{dataset}" }} shift_mask_scale: 4 '
        f'shift_mask_threshold: {threshold} {extra}'
    )


def test_shifts_forbid_fields_of_view_that_touch_them(shifts):
    # The FOV reaches 4, 3, 2 voxels to both sides.
    assert reach(restrictor(text_of(shifts, 6))) == ([28, 13, 8], [39, 22, 12])
    assert restrictor(text_of(shifts, 7)).allows((5, 8, 13))


@pytest.mark.parametrize('shift', [-128, np.uint8(200), np.float32(-128)])
def test_shifts_of_any_type_have_a_magnitude(tmp_path, shift):
    dtype = np.int8 if isinstance(shift, int) else shift.dtype
    array = np.zeros((2, 20, 15, 25), dtype)
    array[1, 10, 4, 8] = shift
    with h5py.File(tmp_path / 'shifts.h5', 'w') as file:
        file['shift'] = array
    masked = restrictor(text_of(tmp_path / 'shifts.h5', 128))
    assert reach(masked) == ([28, 13, 8], [39, 22, 12])


def test_a_shift_mask_fov_replaces_the_field_of_view(shifts):
    fov = 'shift_mask_fov { start { x: -2 y: -1 z: 0 } size { x: 4 y: 2 z: 1 } }'
    assert reach(restrictor(text_of(shifts, 6, fov))) == ([31, 16, 10], [37, 20, 10])


def test_shifts_outside_the_subvolume_forbid_what_reaches_them(shifts):
    whole = restrictor(text_of(shifts, 6))
    start = Xyz(28, 13, 8)  # ends before the shift, whose places from 28,13,8 on are forbidden
    part = restrictor(text_of(shifts, 6), box=Box(start, Xyz(3, 3, 2)))
    for position in np.ndindex(2, 3, 3):
        there = np.add(position, start.zyx) - np.array(BOX.start.zyx)
        assert not whole.allows(tuple(there))
        assert not part.allows(position)


def test_a_shift_mask_needs_two_channels_and_the_subvolume(shifts):
    with pytest.raises(UserError, match='expected 2 channels'):
        restrictor(text_of(shifts, 6, dataset='one'))
    with pytest.raises(UserError, match='does not touch the subvolume'):
        restrictor(text_of(shifts, 6), box=Box(Xyz(200, 0, 0), BOX.size))
