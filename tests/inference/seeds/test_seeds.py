from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.feature import peak_local_max

from ffn.inference import storage
from ffn.inference.seeds import peaks
from ffn.inference.seeds.policy import SeedPolicy
from ffn.inference.seeds.registry import POLICIES, make_policy
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx


def view(
    image, *, segmentation=None, mask=None, seed_mask=None, margin=(0, 0, 0), voxel_size=(1, 1, 1)
):
    if segmentation is None:
        segmentation = np.zeros(image.shape, np.int32)
    return SimpleNamespace(
        image=image.astype(np.float32),
        segmentation=segmentation.astype(np.int32),
        mask=mask,
        seed_mask=seed_mask,
        margin_zyx=Zyx(*margin),
        corner_zyx=Zyx(3, 2, 1),
        voxel_size_zyx=tuple(voxel_size),
    )


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


def noise_image(shape=(12, 20, 28)):
    return np.random.default_rng(5).normal(size=shape)


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


def test_policy_max_goes_through_all_voxels_by_intensity():
    image = noise_image((3, 4, 5))
    points = list(make_policy(view(image), 'PolicyMax', ''))
    values = [image[p] for p in points]
    assert len(set(points)) == 60
    assert values == sorted(values, reverse=True)


def test_policy_max_orders_equal_voxels_by_position():
    image = np.arange(3 * 4 * 50).reshape(3, 4, 50) % 2 - 0.5
    points = list(make_policy(view(image), 'PolicyMax', ''))
    bright, dark = points[:300], points[300:]
    assert {x % 2 for _, _, x in bright} == {1}
    assert bright == sorted(bright)
    assert dark == sorted(dark)


def test_intensity_peaks_avoid_the_mask():
    image = np.zeros((14, 16, 18))
    image[5, 6, 7] = image[9, 10, 11] = 5
    mask = np.zeros(image.shape, bool)
    mask[8:] = True
    assert list(make_policy(view(image, mask=mask), 'PolicyMaxPeaks', '')) == [(5, 6, 7)]
    assert set(make_policy(view(image), 'PolicyMaxPeaks', '')) >= {(5, 6, 7), (9, 10, 11)}


def test_image_peaks_in_3d_come_before_those_of_sections():
    image = np.zeros((14, 16, 18))
    image[6, 8, 9], image[7, 8, 9], image[7, 8, 12] = 5, 4, 3
    points = list(make_policy(view(image), 'PolicyImagePeaks3D2D', ''))
    assert points[0] == (6, 8, 9)
    assert points[1:] == [(6, 8, 9), (7, 8, 9), (7, 8, 12)]


def test_image_peaks_are_all_maxima_unless_a_threshold_is_given():
    image = np.full((11, 12, 23), -9.0)
    image[5, 5, 5], image[5, 6, 11], image[5, 5, 17] = -4, 2, 6  # 6 apart
    dark, middle, bright = (5, 5, 5), (5, 6, 11), (5, 5, 17)

    def peaks(args):
        found = list(make_policy(view(image), 'PolicyImagePeaks3D2D', args))
        first, second = found[: len(found) // 2], found[len(found) // 2 :]
        assert first == second  # in 3-d, and in section 5
        return first

    assert peaks({}) == [dark, bright, middle]
    assert peaks({'threshold_abs': -4}) == [bright, middle]
    assert peaks({'threshold_rel': 0.3}) == [bright, middle]
    assert peaks({'threshold_rel': 0.5}) == [bright]


def test_disk_peaks_are_greatest_within_a_disk():
    image = np.zeros((3, 16, 20))
    # Diagonal neighbours do not lie in a disk of radius 1; they are near, so that the greater one counts.
    image[1, 7, 8], image[1, 8, 9], image[1, 7, 14] = 2, 3, 2
    image[1, 2, 10] = 3  # closer than 3 to the border
    image[2, 5, 5], image[2, 10, 8], image[2, 10, 12] = 1, 2, 0.9
    policy = 'PolicyImagePeaks2DDisk'
    assert list(make_policy(view(image), policy, '')) == [(1, 7, 14), (1, 8, 9), (2, 10, 8)]


def test_grids():
    image = np.zeros((20, 24, 30))
    points = list(make_policy(view(image), 'PolicyGrid3d', '{"step": 10, "offsets": [0, 5]}'))
    assert points[:3] == [(0, 0, 0), (0, 0, 10), (0, 0, 20)]
    assert len(points) == 2 * 3 * 3 + 2 * 2 * 3
    assert (5, 5, 5) in points
    points = list(make_policy(view(image), 'PolicyGrid2d', '{"step": 10, "offsets": [5]}'))
    assert len(points) == 20 * 2 * 3
    assert points[0] == (0, 5, 5)


def test_dense_seeds():
    image = np.zeros((8, 9, 10))
    image[2:6, 2:7, 2:8] = 1
    assert len(list(make_policy(view(image), 'PolicyDenseSeeds', ''))) == 4 * 5 * 6
    assert (
        len(list(make_policy(view(image), 'PolicyDenseSeeds', '{"num_erosions": 1}'))) == 2 * 3 * 4
    )
    inverse = list(make_policy(view(image), 'PolicyDenseSeeds', '{"invert": true}'))
    assert len(inverse) == 720 - 4 * 5 * 6


def test_seeds_of_an_earlier_run_come_by_falling_id(tmp_path):
    origins = {i: storage.OriginInfo((i, i + 1, i + 2), 4, 0.5) for i in (1, 2, 5)}
    storage.save_result(tmp_path, (3, 2, 1), np.zeros((12, 20, 28), np.int32), origins, b'', {}, {})
    policy = make_policy(
        view(noise_image()), 'PolicyInvertOrigins', {'segmentation_dir': str(tmp_path)}
    )
    assert list(policy) == [(5, 6, 7), (2, 3, 4), (1, 2, 3)]


def test_reversed_and_sequential():
    seen = view(noise_image())
    forward = list(make_policy(seen, 'PolicyGrid3d', '{"step": 7}'))
    backward = list(
        make_policy(seen, 'ReverseCoords', '{"policy_to_reverse": "PolicyGrid3d", "step": 7}')
    )
    assert backward == forward[::-1]
    both = make_policy(
        seen,
        'SequentialPolicies',
        '{"policies": [["PolicyGrid3d", {"step": 7}], ["PolicyMaxPeaks", {}]]}',
    )
    forward_both = forward + list(make_policy(seen, 'PolicyMaxPeaks', ''))
    assert list(both) == forward_both
    reversed_both = make_policy(
        seen,
        'ReverseCoords',
        '{"policy_to_reverse": "SequentialPolicies",'
        ' "policies": [["PolicyGrid3d", {"step": 7}], ["PolicyMaxPeaks", {}]]}',
    )
    assert list(reversed_both) == forward_both[::-1]


@pytest.mark.parametrize(
    ('name', 'args'), [('PolicyGrid3d', '{"step": 0}'), ('PolicyPeaks2d', '{"min_distance": "a"}')]
)
def test_arguments_that_only_show_later(name, args):
    with pytest.raises(UserError, match=f'{name} cannot compute its points'):
        next(make_policy(view(noise_image()), name, args))


@pytest.mark.parametrize('name', sorted(POLICIES))
def test_every_policy_resumes_where_it_was(name, tmp_path):
    args = {
        'ReverseCoords': {'policy_to_reverse': 'PolicyPeaks'},
        'SequentialPolicies': {'policies': [['PolicyGrid3d', {}], ['PolicyPeaks', {}]]},
        'PolicyInvertOrigins': {'segmentation_dir': str(tmp_path)},
        'PolicyPeaks2d': {'min_distance': 3, 'threshold_abs': 0.5},
    }.get(name, {})
    origins = {i: storage.OriginInfo((i, i, i), 1, 0.0) for i in range(3, 9)}
    storage.save_result(tmp_path, (3, 2, 1), np.zeros((4, 5, 6), np.int32), origins, b'', {}, {})
    seen = view(noise_image((14, 22, 30)), margin=(1, 2, 3))
    whole = list(make_policy(seen, name, args))
    assert len(whole) > 3
    first = make_policy(seen, name, args)
    begun = [next(first) for _ in range(3)]
    second = make_policy(seen, name, args)
    second.set_state(first.get_state())
    assert begun + list(second) == whole


class MyPolicy(SeedPolicy):
    """Named by a request below."""

    def __init__(self, view, step):
        super().__init__(view)
        self._step = step

    def points(self):
        return np.array([[1, 2, self._step]])


def test_a_class_of_the_user():
    assert list(make_policy(view(noise_image()), f'{__name__}.MyPolicy', '{"step": 4}')) == [
        (1, 2, 4)
    ]


@pytest.mark.parametrize(
    ('name', 'args', 'message'),
    [
        ('PolicyNone', '', 'known are PolicyPeaks'),
        ('a.b.Policy', '', 'does not exist'),
        ('PolicyPeaks', '{"a": 1}', 'do not fit PolicyPeaks'),
        ('PolicyPeaks', '{a}', 'is not JSON'),
        ('PolicyPeaks2d', '{"sort_cmp": "up"}', 'ascending'),
        ('ReverseCoords', '{"policy_to_reverse": "Nothing"}', 'known are'),
    ],
)
def test_errors(name, args, message):
    with pytest.raises(UserError, match=message):
        make_policy(view(noise_image()), name, args)
