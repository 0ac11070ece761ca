from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ffn.inference import storage
from ffn.inference.seeds import peaks
from ffn.inference.seeds.policy import SeedPolicy
from ffn.inference.seeds.registry import POLICIES, make_policy
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx


def view(image, *, segmentation=None, mask=None, margin=(0, 0, 0), voxel_size=(1, 1, 1)):
    if segmentation is None:
        segmentation = np.zeros(image.shape, np.int32)
    return SimpleNamespace(
        image=image.astype(np.float32),
        segmentation=segmentation.astype(np.int32),
        mask=mask,
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
def test_golden_points(golden, name, policy, voxel_size, occupied):
    arrays, image = golden
    seen = view(
        image,
        segmentation=None if occupied is None else arrays[occupied],
        margin=arrays['margin_zyx'].tolist(),
        voxel_size=(1, 1, 1) if voxel_size is None else arrays[voxel_size].tolist(),
    )
    assert np.array_equal(list(make_policy(seen, policy, '')), arrays[name])


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


def test_nothing_where_everything_is_edge():
    image = noise_image()
    assert list(make_policy(view(image, mask=np.ones(image.shape, bool)), 'PolicyPeaks', '')) == []


def test_an_empty_canvas_has_peaks_all_the_same():
    points = list(make_policy(view(np.zeros((15, 17, 19))), 'PolicyFillEmptySpace', ''))
    assert points
    assert all(z == 7 for z, _, _ in points)


def test_sections_of_peaks2d_descend_when_asked():
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
    assert sorted(up) == up
    assert sorted(down) == up
    assert [p[0] for p in down] == sorted((p[0] for p in up), reverse=True)


def test_policy_max_goes_through_all_voxels_by_intensity():
    image = noise_image((3, 4, 5))
    points = list(make_policy(view(image), 'PolicyMax', ''))
    values = [image[p] for p in points]
    assert len(set(points)) == 60
    assert values == sorted(values, reverse=True)


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


def test_disk_peaks_are_maxima_of_the_local_mean():
    image = np.zeros((2, 20, 24))
    image[1, 9:12, 11:14] = 1
    image[1, 9, 18] = 2
    assert list(make_policy(view(image), 'PolicyImagePeaks2DDisk', '')) == [(1, 10, 12)]


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
