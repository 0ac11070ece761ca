"""Pictures of a place where a segmentation errs."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.utils.geometry import Xyz
from ffn.visualization.case_pictures import as_gray, case_picture, encode_png, window
from ffn.volumes.volume import Volume

TILE, STEP = 291, 297  # pixels of a plane, and from one to the next
RED, YELLOW = (250, 0, 0), (255, 255, 0)
OUTSIDE = [60, 60, 70]


def volumes():
    """Truth: object 5 for x < 40, else 6. Segment 2**40 for y < 30. Image: brightness is z."""
    shape = (60, 70, 80)
    truth, found = np.zeros(shape, np.uint8), np.zeros(shape, np.uint64)
    truth[..., :40], truth[..., 40:] = 5, 6
    found[:, :30] = 2**40
    image = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None], shape)
    return Volume('t', truth, {}), Volume('s', found, {}), Volume('i', image, {})


AT = Xyz(40, 30, 20)


def draw(at=AT, image=True, **more):
    truth, found, gray = volumes()
    picture = case_picture(
        truth, found, gray if image else None, at, {6: YELLOW}, {2**40: RED}, **more
    )
    assert picture.size == (3 * TILE + 12, 2 * TILE + 6)
    return np.asarray(picture)


def tile(sheet, row, column):
    """A plane by voxels of 3 pixels; the middle one is (48, 48)."""
    part = sheet[row * STEP :, column * STEP :][:TILE, :TILE]
    return part[1::3, 1::3]


def test_the_planes_go_through_the_voxel():
    sheet = draw()
    xy, xz, yz = (tile(sheet, 0, column) for column in range(3))
    assert (xy[20:40, 10:40] == 20).all()
    # In xz and yz, z goes down: row 48 is z = 20; x and y go to the right: column 48 is 40 and 30.
    for plane in (xz, yz):
        assert plane[50, 30].tolist() == [22] * 3
        assert plane[20 + 10, 20].tolist() == [2] * 3
        assert plane[20, 20].tolist() == OUTSIDE
    assert xz[50, 7].tolist() == OUTSIDE  # x = -1
    assert xz[50, 9].tolist() == [22] * 3
    assert yz[50, 17].tolist() == OUTSIDE  # y = -1
    assert yz[50, 19].tolist() == [22] * 3


def test_areas_and_outlines():
    xy, xz, yz = (tile(draw(), 1, column) for column in range(3))
    half = [(20 + 250) // 2, 10, 10]  # of the image, and of red
    assert xy[30, 20].tolist() == half
    assert xy[60, 20].tolist() == [20] * 3
    # Object 6 begins at x = 40, column 48; 5 has no colour of its own.
    # Beside the cross, which is in the middle of it.
    assert (draw()[STEP:][60:120, 144] == YELLOW).all()
    assert (draw()[STEP:][160:250, 144] == YELLOW).all()
    assert xy[30, 47].tolist() != list(YELLOW)
    assert xy[30, 52].tolist() == half
    assert (draw()[STEP:][90:120, STEP + 144] == YELLOW).all()
    assert xz[40, 20].tolist() == [12] * 3  # y = 30, where no segment is
    assert yz[40, 30].tolist() == [(12 + 250) // 2, 6, 6]
    assert yz[40, 60].tolist() == [12] * 3


def test_the_cross_leaves_the_voxel_free():
    for row in (0, 1):
        part = draw()[row * STEP :][:TILE, :TILE]
        assert (part[145, 10:100] == 255).all()
        assert (part[10:100, 145] == 255).all()
        assert not (part[145, 140:150] == 255).all()


def test_without_an_image_and_outside_of_everything():
    assert tile(draw(image=False), 0, 0)[60, 20].tolist() == [120] * 3
    outside = draw(Xyz(500, 0, 0))
    assert tile(outside, 0, 0)[20, 20].tolist() == OUTSIDE


def test_thick_sections_are_as_high_as_they_are():
    box = window(Xyz(100, 100, 100), (4, 4, 40))
    assert (box.size, box.start) == (Xyz(97, 97, 11), Xyz(52, 52, 95))
    sheet = draw(voxel_size_xyz=(4, 4, 40))
    _, xz, _ = (tile(sheet, 0, column) for column in range(3))
    # 97 rows are 11 sections, 15 to 25.
    assert [int(xz[row, 20, 0]) for row in (0, 47, 96)] == [15, 20, 25]


def test_other_types_of_image():
    inside = np.ones((1, 1, 101), bool)
    gray = as_gray(np.linspace(-3, 7, 101).reshape(1, 1, 101), inside)
    assert (gray.dtype, gray[0, 0, 0], gray[0, 0, -1]) == (np.uint8, 0, 255)
    assert gray[0, 0, 50] == pytest.approx(127, abs=2)
    same = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    np.testing.assert_array_equal(as_gray(same, same > 0), same)


@pytest.mark.parametrize('stray', [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_no_matter_for_the_others(stray):
    image = np.linspace(-3, 7, 120, dtype=np.float32).reshape(4, 5, 6)
    inside = np.ones(image.shape, bool)
    expected = as_gray(image, inside).astype(int)
    image[1, 2, 3] = stray
    gray = as_gray(image, inside)
    assert gray[1, 2, 3] == (255 if stray > 0 else 0)
    others = np.ones(image.shape, bool)
    others[1, 2, 3] = False
    np.testing.assert_allclose(gray[others], expected[others], atol=2)
    assert not as_gray(np.full((2, 3, 4), np.nan), inside[:2, :3, :4]).any()


def test_a_mask_is_black_and_white():
    mask = np.arange(60).reshape(3, 4, 5) % 3 == 0
    np.testing.assert_array_equal(as_gray(mask, np.ones(mask.shape, bool)), mask * 255)


def test_png():
    assert encode_png(case_picture(*volumes(), Xyz(1, 1, 1), {}, {})).startswith(b'\x89PNG')
