"""Pictures of a flood, on arrays set by hand whose sizes differ along the axes."""

import math

import numpy as np
import pytest

from ffn.utils.geometry import Xyz
from ffn.visualization import flood
from ffn.visualization.flood import (
    FIELD_OF_VIEW,
    OBJECT,
    OTHER,
    START,
    FloodView,
    object_size,
    shade,
    to_palette,
)
from ffn.visualization.overlay import label_colors
from tests.inference.oracle import object_mask, oracle_canvas

SHAPE_ZYX = (20, 26, 38)
CORNER_ZYX = (100, 200, 300)
FOV = Xyz(9, 7, 4)
SCALE = 8
START_ZYX, POSITION_ZYX, THROUGH_ZYX = (4, 8, 15), (9, 14, 24), (11, 20, 31)


@pytest.fixture
def canvas():
    """An image of noise, a mask that is the object in one block and something else in another."""
    image = np.random.default_rng(1).integers(60, 200, SHAPE_ZYX)
    canvas = oracle_canvas(image, corner_zyx=CORNER_ZYX)
    canvas.seed[3:13, 5:21, 8:33] = -6
    canvas.seed[5:12, 7:22, 10:32] = 6
    canvas.visited = (5, 6, 10), (17, 20, 30)
    return canvas


def make_view(canvas, fov=FOV, start_zyx=START_ZYX, through_zyx=THROUGH_ZYX, **options):
    return FloodView(canvas, fov, start_zyx, through_zyx=through_zyx, scale=SCALE, **options)


def cut(volume, through_zyx):
    """[y, x], [z, x] and [z, y] through a voxel, one voxel after the other."""
    z, y, x = through_zyx
    depth, height, width = volume.shape
    return (
        np.array([[volume[z, j, i] for i in range(width)] for j in range(height)]),
        np.array([[volume[k, y, i] for i in range(width)] for k in range(depth)]),
        np.array([[volume[k, j, x] for j in range(height)] for k in range(depth)]),
    )


def tiles(view, picture):
    """The planes in a picture, pixel for pixel."""
    sizes = [
        (plane.shape[0] * SCALE, plane.shape[1] * SCALE)
        for plane in cut(np.zeros(SHAPE_ZYX), (0, 0, 0))
    ]
    return [
        picture[top : top + height, left : left + width]
        for (top, left), (height, width) in zip(view.corners, sizes, strict=True)
    ]


def middles(tile):
    """The pixel in the middle of every voxel, where no frame is drawn: int [rows, columns, 3]."""
    return tile[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE].astype(int)


def has(picture, color):
    return (picture == color).all(axis=-1)


def far_from_start(shape, row, column):
    """Where the cross is not: bool [rows, columns] of voxels."""
    rows, columns = np.indices(shape)
    return (abs(rows - row) > 1) | (abs(columns - column) > 1)


STARTS = [(START_ZYX[1], START_ZYX[2]), (START_ZYX[0], START_ZYX[2]), (START_ZYX[0], START_ZYX[1])]


@pytest.mark.parametrize('follow', [False, True])
def test_each_plane_shows_its_cut_of_the_image(canvas, follow):
    canvas.seed[:] = np.nan
    view = make_view(canvas, follow=follow)
    picture = view.moment(1, POSITION_ZYX)
    expected = cut(view.gray(canvas.image), POSITION_ZYX if follow else THROUGH_ZYX)
    for tile, gray, start in zip(tiles(view, picture), expected, STARTS, strict=True):
        seen = far_from_start(gray.shape, *start)
        assert len(np.unique(gray)) > 50
        for channel in range(3):
            np.testing.assert_array_equal(middles(tile)[..., channel][seen], gray[seen])
        # Every voxel is a square.
        assert tile.shape[:2] == (gray.shape[0] * SCALE, gray.shape[1] * SCALE)


def test_the_planes_go_through_the_start_by_default(canvas):
    view = FloodView(canvas, FOV, START_ZYX, scale=SCALE)
    gray = cut(view.gray(canvas.image), START_ZYX)
    tile = tiles(view, view.labels(canvas.segmentation, ''))[1]
    seen = far_from_start(gray[1].shape, *STARTS[1])
    np.testing.assert_array_equal(middles(tile)[..., 0][seen], gray[1][seen])


def test_the_mask_is_coloured_where_it_is_and_nowhere_else(canvas):
    view = make_view(canvas)
    picture = view.moment(1, POSITION_ZYX)
    logits = cut(canvas.seed, THROUGH_ZYX)
    for tile, logit, start in zip(tiles(view, picture), logits, STARTS, strict=True):
        seen = far_from_start(logit.shape, *start)
        red, green, blue = np.moveaxis(middles(tile), -1, 0)
        grown, other = logit > 0, logit < 0
        assert np.count_nonzero(grown & seen) > 20
        assert np.count_nonzero(other & seen) > 4
        np.testing.assert_array_equal((red > blue + 80)[seen], grown[seen])
        np.testing.assert_array_equal((blue > red + 20)[seen], other[seen])
        unseen = np.isnan(logit) & seen
        assert np.array_equal(red[unseen], blue[unseen])
        assert np.array_equal(red[unseen], green[unseen])


def test_the_colour_grows_with_the_probability():
    gray = np.full((1, 5), 128, np.uint8)
    drawn = shade(gray, np.array([[np.nan, 0, 0.5, 0.8, 1]]))[0].astype(int)
    assert drawn[0].tolist() == [128, 128, 128]
    assert np.all(np.diff(drawn[1:, 0]) > 0)
    assert np.all(np.diff(drawn[1:, 2]) < 0)
    # The image shows through.
    assert shade(gray // 2, np.ones((1, 5)))[0, 0, 0] < drawn[4, 0] - 20


@pytest.mark.parametrize('fov', [FOV, Xyz(4, 9, 7), Xyz(3, 4, 5)])
def test_the_field_of_view_is_framed_where_it_is(canvas, fov):
    view = make_view(canvas, fov)
    picture = view.moment(1, POSITION_ZYX)
    first = dict(zip('zyx', (p - n // 2 for p, n in zip(POSITION_ZYX, fov.zyx, strict=True))))
    size = dict(zip('zyx', fov.zyx))
    through = dict(zip('zyx', THROUGH_ZYX))
    for tile, (down, right, across) in zip(tiles(view, picture), ('yxz', 'zxy', 'zyx')):
        rows, columns = np.nonzero(has(tile, FIELD_OF_VIEW))
        begin = first[down] * SCALE, first[right] * SCALE
        end = begin[0] + size[down] * SCALE, begin[1] + size[right] * SCALE
        edge = np.minimum.reduce(
            [rows - begin[0], columns - begin[1], end[0] - 1 - rows, end[1] - 1 - columns]
        )
        assert edge.min() == 0
        assert edge.max() == 1
        whole = 4 * (size[down] + size[right]) * SCALE - 16
        if first[across] <= through[across] < first[across] + size[across]:
            assert len(rows) == whole
        else:  # in front of the plane or behind it: dashed, all around
            assert 0.4 * whole < len(rows) < 0.6 * whole
            for sides in (rows - begin[0], columns - begin[1], end[0] - rows, end[1] - columns):
                assert np.count_nonzero(sides <= 2) > size['x'] + size['y'] + size['z'] / 2


def test_the_frame_moves_with_the_field_of_view(canvas):
    view = make_view(canvas)
    before, after = (
        [np.argwhere(has(t, FIELD_OF_VIEW)) for t in tiles(view, view.moment(1, position))]
        for position in (POSITION_ZYX, (12, 12, 29))
    )
    moved = [(b.min(axis=0) - a.min(axis=0)) / SCALE for a, b in zip(before, after)]
    np.testing.assert_array_equal(np.rint(moved), [(-2, 5), (3, 5), (3, -2)])


def test_the_start_is_marked(canvas):
    view = make_view(canvas, through_zyx=(START_ZYX[0], 20, 31))
    counts = []
    for tile, start in zip(tiles(view, view.labels(canvas.segmentation, '')), STARTS):
        marked = np.argwhere(has(tile, START))
        center = (marked.min(axis=0) + marked.max(axis=0)) / 2
        np.testing.assert_allclose(center, np.array(start) * SCALE + SCALE / 2, atol=1.5)
        counts.append(len(marked))
    # Only the first plane goes through it.
    assert counts[0] > 1.5 * max(counts[1:])
    assert min(counts[1:]) > 10


def test_the_start_may_be_at_the_border(canvas):
    view = make_view(canvas, start_zyx=(0, 25, 0), through_zyx=(0, 25, 0))
    for tile in tiles(view, view.moment(1, POSITION_ZYX)):
        # Both bars, as far as they are inside.
        assert (np.ptp(np.argwhere(has(tile, START)), axis=0) > SCALE).all()


def test_text_says_step_place_and_axes(canvas, monkeypatch):
    lines = []
    write = flood._write
    monkeypatch.setattr(
        flood, '_write', lambda draw, corner, text: lines.append(text) or write(draw, corner, text)
    )
    make_view(canvas).moment(17, POSITION_ZYX)
    voxels = 7 * 15 * 22
    assert lines == [
        f'step 17: {voxels} voxels',
        'field of view at x,y,z 324,214,109',
        'object',
        'not object',
        'field of view',
        'start',
        'xy at z=111',
        'x right, y down',
        'xz at y=220',
        'x right, z down',
        'yz at x=331',
        'y right, z down',
    ]
    lines.clear()
    make_view(canvas).labels(canvas.segmentation, 'all')
    assert lines[:2] == ['all', 'start at x,y,z 315,208,104']


def test_all_pictures_have_one_size_and_the_text_fits(canvas):
    for shape, scale, width in (
        (SHAPE_ZYX, None, 864),
        (SHAPE_ZYX, 1, 402),
        ((9, 11, 13), None, 402),
        ((100, 120, 140), None, 848),
        ((12, 300, 900), None, 2148),
    ):
        some = oracle_canvas(np.zeros(shape, np.uint8), corner_zyx=(10**5,) * 3)
        some.seed[2:4, 2:4, 2:4] = 1
        some.visited = (2, 3, 4), (5, 6, 7)
        view = FloodView(some, FOV, (5, 5, 6), scale=scale, follow=True)
        picture = view.moment(10**6, (4, 5, 6))
        assert picture.dtype == np.uint8
        assert picture.shape[1] == width
        assert view.moment(1, (5, 6, 7)).shape == picture.shape
        assert view.labels(some.segmentation, 'x').shape == picture.shape
        # Nothing is cut off at the right, and planes and their names do not touch.
        assert (picture[:, -6:] == 255).all()
        for _, left in view.corners:
            assert (picture[view.corners[0][0] - 34 :, left - 6 : left - 1] == 255).all()


def test_an_object_is_drawn_in_the_colour_of_its_mask(canvas):
    mask = canvas.seed > 0
    view = make_view(canvas)
    drawn = tiles(view, view.labels(mask, 'object'))
    for tile, inside, start in zip(drawn, cut(mask, THROUGH_ZYX), STARTS):
        seen = far_from_start(inside.shape, *start)
        red, _, blue = np.moveaxis(middles(tile), -1, 0)
        np.testing.assert_array_equal((red > blue + 60)[seen], inside[seen])
    labels = np.where(mask, 7, 0)
    tile = tiles(view, view.labels(labels, 'objects'))[0]
    assert has(tile, label_colors(np.array(7))).any()


def test_a_mask_is_what_would_become_a_segment(canvas):
    canvas.segmentation[:, :9] = 3
    expected = np.zeros(SHAPE_ZYX, bool)
    expected[5:12, 9:22, 10:32] = True
    np.testing.assert_array_equal(object_mask(canvas), expected)
    assert object_size(canvas) == np.count_nonzero(expected)
    canvas.seed[6, 12, 14] = canvas.options.segment_threshold - 0.01
    assert object_size(canvas) == np.count_nonzero(expected) - 1


def test_the_palette_keeps_colours(canvas):
    picture = make_view(canvas).moment(1, POSITION_ZYX)
    image = to_palette(picture)
    assert image.mode == 'P'
    drawn = np.asarray(image.convert('RGB')).astype(int)
    assert np.abs(drawn - picture).max() <= 12
    for color in (OBJECT, OTHER, FIELD_OF_VIEW, START):
        np.testing.assert_array_equal(has(drawn, color), has(picture, color))


def test_an_image_of_one_value_can_be_drawn():
    canvas = oracle_canvas(np.full(SHAPE_ZYX, 7))
    canvas.visited = (5, 6, 10), (5, 6, 10)
    assert np.ptp(make_view(canvas).gray(canvas.image)) == 0
    make_view(canvas).moment(1, POSITION_ZYX)


def test_an_image_with_nan_is_not_black():
    image = np.random.default_rng(1).normal(0, 1, SHAPE_ZYX).astype(np.float32)
    image[0, 0, 0] = np.nan
    canvas = oracle_canvas(image)
    gray = make_view(canvas).gray(canvas.image)
    assert gray[0, 0, 0] == 0
    assert 100 < gray.mean() < 155


@pytest.mark.parametrize('thickness', [30, 10, 9])
def test_proportions_hold_at_one_pixel_a_voxel(thickness):
    """Sections of 30 nm over pixels of 8 nm are 3.75 pixels thick, not 4; those of 9 nm more than one."""
    image = np.full(SHAPE_ZYX, 60, np.uint8)
    image[6:10] = 200
    canvas = oracle_canvas(image, corner_zyx=CORNER_ZYX, voxel_size_zyx=(thickness, 8, 8))
    canvas.seed[8, 10, 14] = 1
    canvas.visited = (8, 10, 14), (8, 10, 14)
    view = FloodView(canvas, FOV, (8, 10, 14), scale=1)
    picture = view.labels(canvas.segmentation, 'proportions')
    top, left = view.corners[1]
    ratio = thickness / 8
    drawn = picture[top : top + round(SHAPE_ZYX[0] * ratio), left + 2]
    bright = np.flatnonzero((drawn > 200).all(axis=-1))
    assert bright[0] == math.ceil(6 * ratio)
    assert bright[-1] + 1 == math.ceil(10 * ratio)


def test_planes_have_the_proportions_of_the_voxels():
    """Sections 4.5 times as thick as pixels are wide: a bright cube of voxels becomes a tall box."""
    image = np.full(SHAPE_ZYX, 60, np.uint8)
    image[6:10, 8:16, 12:22] = 200
    canvas = oracle_canvas(image, corner_zyx=CORNER_ZYX, voxel_size_zyx=(36, 8, 8))
    canvas.seed[8, 10, 14] = 1
    canvas.visited = (8, 10, 14), (8, 10, 14)
    view = FloodView(canvas, FOV, (8, 10, 14), scale=2)
    assert view.pixels_zyx == (9, 2, 2)
    picture = view.labels(canvas.segmentation, 'proportions')
    for (top, left), (down, right) in zip(view.corners, ((1, 2), (0, 2), (0, 1))):
        height, width = (round(SHAPE_ZYX[a] * view.pixels_zyx[a]) for a in (down, right))
        bright = (picture[top : top + height, left : left + width] > 200).all(axis=-1)
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        sides = {0: (6, 10), 1: (8, 16), 2: (12, 22)}
        for axis, found in ((down, rows), (right, columns)):
            first, stop = (n * view.pixels_zyx[axis] for n in sides[axis])
            assert (found[0], found[-1] + 1) == (first, stop)
