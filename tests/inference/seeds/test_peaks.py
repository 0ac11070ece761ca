import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.feature import peak_local_max

from ffn.inference.seeds import peaks
from ffn.inference.seeds.registry import make_policy
from tests.inference.seeds.views import noise_image, view


@pytest.fixture(scope='module')
def golden(goldens_dir, data_dir):
    golden = np.load(goldens_dir / 'seeds.npz')
    begin, size = golden['crop_start_zyx'], golden['crop_size_zyx']
    z, y, x = (slice(b, b + n) for b, n in zip(begin, size))
    sections = sorted((data_dir / 'fib25/training_sample2/grayscale_maps').glob('*.png'))[z]
    image = np.stack([np.asarray(Image.open(section)) for section in sections])[:, y, x]
    return golden, (image.astype(np.float32) - golden['image_mean']) / golden['image_stddev']


@pytest.mark.parametrize(
    ('name', 'policy', 'voxel_size', 'occupied'),
    [
        ('peaks', 'PolicyPeaks', None, None),
        ('peaks_anisotropic', 'PolicyPeaks', 'peaks_voxel_size_zyx', None),
        ('peaks2d', 'PolicyPeaks2d', None, None),
        ('fill_empty', 'PolicyFillEmptySpace', None, 'fill_empty_occupied'),
    ],
)
@pytest.mark.parametrize('unit', [1, 10, 0.01])  # nm, µm: thresholds count voxels all the same
def test_golden_points(golden, name, policy, voxel_size, occupied, unit):
    arrays, image = golden
    shape_of_voxel = np.ones(3) if voxel_size is None else arrays[voxel_size]
    seen = view(
        image,
        segmentation=None if occupied is None else arrays[occupied],
        margin=arrays['margin_zyx'].tolist(),
        voxel_size=(unit * shape_of_voxel).astype(np.float32).tolist(),
    )
    assert np.array_equal(list(make_policy(seen, policy, '')), arrays[name])


@pytest.mark.parametrize('unit', [1, 1e-3, 0.3])
def test_distances_are_in_shortest_edges(unit):
    """Voxels of 20 x 8 x 12 units: 2.5, 1 and 1.5 edges of 8."""
    free = np.ones((7, 9, 11), bool)
    free[0, 0, 0] = False
    far = peaks.distance(free, tuple((np.array([20, 8, 12]) * unit).tolist()))
    assert far[3, 0, 0] == 7.5
    assert far[0, 8, 0] == 8
    assert far[0, 4, 2] == 5
    assert far[2, 0, 8] == 13
    # Nothing but the border: 4 edges of 20 in z, 5 of 8 in y, 6 of 12 in x.
    assert peaks.distance(np.ones((7, 9, 11), bool), (20, 8, 12))[3, 4, 5] == 5


def test_empty_space_is_half_an_edge_wide_at_least_whatever_the_unit():
    """One empty voxel, 1 edge away from what is full; 0.004 in micrometres, 4 in nanometres."""
    segmentation = np.ones((9, 10, 11), np.int32)
    segmentation[4, 5, 6] = 0
    for voxel_size in ((0.004, 0.004, 0.04), (4, 4, 40), (1, 1, 10)):
        seen = view(np.zeros((9, 10, 11)), segmentation=segmentation, voxel_size=voxel_size)
        assert list(make_policy(seen, 'PolicyFillEmptySpace', '')) == [(4, 5, 6)]
    segmentation[4, 5, 6] = -1  # a seed that was rejected is not empty
    seen = view(np.zeros((9, 10, 11)), segmentation=segmentation)
    assert list(make_policy(seen, 'PolicyFillEmptySpace', '')) == []


@pytest.mark.parametrize('voxel_size', [(40, 4, 4), (0.04, 0.004, 0.004), (1, 1, 7)])
def test_peaks2d_counts_voxels_whatever_their_size(voxel_size):
    image = np.zeros((2, 30, 41))
    image[:, :, 3:8] = image[:, :, 21:24] = 3
    args = {'min_distance': 2}
    expected = list(make_policy(view(image), 'PolicyPeaks2d', args))
    assert len(expected) > 3
    assert list(make_policy(view(image, voxel_size=voxel_size), 'PolicyPeaks2d', args)) == expected


@pytest.mark.parametrize('shape', [(1, 5, 7), (2, 3, 4), (3, 9, 4), (40, 7, 11), (6, 30)])
def test_gradients_are_those_of_a_plain_computation(shape, monkeypatch):
    monkeypatch.setattr(peaks, '_WORKERS', 3)
    image = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    expected = ndimage.generic_gradient_magnitude(image, ndimage.sobel)
    np.testing.assert_array_equal(peaks._gradient(image), expected)


@pytest.mark.parametrize('min_distance', [1, 2, 3])
def test_of_equally_high_maxima_the_same_are_kept(min_distance):
    height = np.zeros((11, 12, 25))
    height[5, 5, [4, 6, 9, 15, 20]] = height[6, 8, 9] = 3
    height[5, 6, [3, 21]] = 2
    expected = peak_local_max(height, min_distance=min_distance, threshold_abs=0.5, threshold_rel=0)
    found = peaks._local_maxima(height, min_distance, 0.5)
    np.testing.assert_array_equal(found, expected)
    assert len(found) > 1


def test_peaks_are_those_of_a_plain_computation():
    """Word by word: edges, their distance, noise, and what is blocked."""
    rng = np.random.default_rng(4)
    image = ndimage.gaussian_filter(rng.normal(size=(17, 26, 33)), 2).astype(np.float32)
    segmentation = np.zeros(image.shape, np.int32)
    segmentation[3:6, 8:20, 4:9], segmentation[10, 4, 20] = 2, -1
    mask, seed_mask = np.zeros((2, *image.shape), bool)
    mask[:, :, 28:] = seed_mask[12:, 14:, :11] = True

    gradient = ndimage.generic_gradient_magnitude(image, ndimage.sobel)
    edge = gradient > ndimage.gaussian_filter(gradient, 49 / 6, mode='reflect')
    edge |= mask | seed_mask
    height = ndimage.distance_transform_edt(~edge, (2.5, 1, 1)).astype(np.float32)
    height = height + np.random.RandomState(42).rand(*image.shape) * 1e-4
    height[(segmentation != 0) | mask] = -1
    peaks = peak_local_max(height, min_distance=3, threshold_abs=0, threshold_rel=0)

    seen = view(
        image,
        segmentation=segmentation,
        mask=mask,
        seed_mask=seed_mask,
        voxel_size=(25, 10, 10),
    )
    assert list(make_policy(seen, 'PolicyPeaks', '')) == sorted(map(tuple, peaks.tolist()))


@pytest.mark.parametrize('policy', ['PolicyPeaks', 'PolicyPeaks2d'])
def test_a_constant_image_has_no_seeds_and_nothing_is_computed(policy, monkeypatch):
    monkeypatch.setattr(peaks, 'edges', None)  # calling it would fail
    for value in (0, 3.5):
        assert list(make_policy(view(np.full((9, 20, 24), value)), policy, '')) == []


def test_a_constant_section_of_another_image_has_seeds():
    image = np.zeros((2, 20, 24))
    image[1, 3, 4] = 1
    seeds = list(make_policy(view(image), 'PolicyPeaks2d', ''))
    assert [z for z, _, _ in seeds].count(0) == 1


def test_masked_and_segmented_places_get_no_peaks():
    image = np.zeros((16, 24, 42))
    for x in (8, 20, 32):
        image[:, :, x : x + 2] = -3
    free = list(make_policy(view(image), 'PolicyPeaks', ''))
    assert {x < 20 for _, _, x in free} == {True, False}
    mask = np.zeros(image.shape, bool)
    mask[:, :, :21] = True
    right = list(make_policy(view(image, mask=mask), 'PolicyPeaks', ''))
    assert right
    assert all(x > 21 for _, _, x in right)
    left = list(make_policy(view(image, segmentation=~mask * 4), 'PolicyPeaks', ''))
    assert left
    assert all(x < 20 for _, _, x in left)


def test_peaks_of_sections_are_those_of_a_plain_computation():
    rng = np.random.default_rng(6)
    image = ndimage.gaussian_filter(rng.normal(size=(4, 40, 53)), (0, 3, 3)).astype(np.float32)
    segmentation, mask = np.zeros(image.shape, np.int32), np.zeros(image.shape, bool)
    segmentation[1, 8:20, 4:19] = 2
    mask[:3, 24:, 30:] = True

    expected = []
    for z in range(4):
        gradient = ndimage.generic_gradient_magnitude(image[z], ndimage.sobel)
        edge = gradient > ndimage.gaussian_filter(gradient, 49 / 6, mode='reflect')
        height = ndimage.distance_transform_edt(~(edge | mask[z])).astype(np.float32)
        height = height + np.random.RandomState(42).rand(40, 53) * 1e-4
        height[(segmentation[z] != 0) | mask[z]] = -1
        peaks = peak_local_max(height, min_distance=7, threshold_abs=2.5, threshold_rel=0)
        expected += sorted((z, y, x) for y, x in peaks.tolist())

    seen = view(image, segmentation=segmentation, mask=mask, voxel_size=(40, 4, 6))
    assert len(expected) > 8
    assert list(make_policy(seen, 'PolicyPeaks2d', '')) == expected


def test_what_is_masked_for_seeds_is_an_edge_in_3d_only():
    """Between edges at x 11 and 39, the middle is 25; between a seed mask up to 20 and 39, 29.5."""
    image = np.zeros((16, 24, 52))
    image[:, :, 10] = image[:, :, 40] = 3
    seed_mask = np.zeros(image.shape, bool)
    seed_mask[:, :, :21] = True

    def middles(policy, seed_mask):
        points = make_policy(view(image, seed_mask=seed_mask), policy, '')
        return {x for _, _, x in points if 20 < x < 39}

    assert middles('PolicyPeaks', None) == {25}
    assert middles('PolicyPeaks', seed_mask) == {29, 30}
    assert middles('PolicyPeaks2d', None) == middles('PolicyPeaks2d', seed_mask) == {25}
    masked = view(image, seed_mask=np.ones(image.shape, bool))
    assert list(make_policy(masked, 'PolicyPeaks', '')) == []


def test_nothing_where_everything_is_edge():
    image = noise_image()
    assert list(make_policy(view(image, mask=np.ones(image.shape, bool)), 'PolicyPeaks', '')) == []


def test_an_empty_canvas_has_peaks_all_the_same():
    points = list(make_policy(view(np.zeros((15, 17, 19))), 'PolicyFillEmptySpace', ''))
    assert points
    assert all(z == 7 for z, _, _ in points)


def test_seeds_of_peaks2d_descend_when_asked():
    image = noise_image((6, 40, 50))
    up = list(
        make_policy(view(image), 'PolicyPeaks2d', '{"min_distance": 3, "threshold_abs": 0.5}')
    )
    down = list(
        make_policy(
            view(image),
            'PolicyPeaks2d',
            '{"min_distance": 3, "threshold_abs": 0.5, "sort_cmp": "descending"}',
        )
    )
    assert len({z for z, _, _ in up}) < len(up)
    assert up == sorted(up)
    assert down == up[::-1]  # y and x fall, too
