import numpy as np
import pytest
from scipy import ndimage

from ffn.inference import storage
from ffn.inference.seeds.policy import SeedPolicy
from ffn.inference.seeds.registry import POLICIES, make_policy
from ffn.utils import trust
from ffn.utils.errors import UserError
from tests.inference.seeds.views import noise_image, view


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


def test_a_mask_makes_no_other_peaks_near_the_border():
    image = np.random.default_rng(0).normal(size=(14, 20, 24))
    mask = np.zeros(image.shape, bool)
    mask[0, 0, 0] = True
    smooth = ndimage.gaussian_filter(image, 1.5)
    for args in ('', '{"min_distance": 2}'):
        points = list(make_policy(view(smooth), 'PolicyMaxPeaks', args))
        assert points
        assert list(make_policy(view(smooth, mask=mask), 'PolicyMaxPeaks', args)) == points


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
    arguments = {'step': np.int64(10), 'offsets': np.array([0, 5])}
    assert list(make_policy(view(image), 'PolicyGrid3d', arguments)) == points
    assert points[:3] == [(0, 0, 0), (0, 0, 10), (0, 0, 20)]
    assert len(points) == 2 * 3 * 3 + 2 * 2 * 3
    assert (5, 5, 5) in points
    points = list(make_policy(view(image), 'PolicyGrid2d', '{"step": 10, "offsets": [5]}'))
    assert len(points) == 20 * 2 * 3
    assert points[0] == (0, 5, 5)


def test_grids_begin_at_these_offsets():
    image = np.zeros((17, 16, 16))
    points = [(z, y, x) for z, y, x in make_policy(view(image), 'PolicyGrid3d', '') if z < 16]
    assert points == [(n, n, n) for n in (0, 8, 4, 12, 2, 10, 14)]
    points = list(make_policy(view(image), 'PolicyGrid2d', ''))
    offsets = [0, 8, 4, 12, 2, 6, 10, 14]
    assert points == [(z, n, n) for n in offsets for z in range(17)]


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


def test_seeds_that_joined_another_object_keep_their_place(tmp_path):
    origins = {i: storage.OriginInfo((i, i + 1, i + 2), 4, 0.5) for i in (3, 4)}
    joined = np.array(
        [(8, 7, 6, 1, 2), (8, 6, 5, 2, 2), (9, 7, 6, 1, 3)]
    )  # before 3 twice, after 3
    labels = np.zeros((12, 20, 28), np.int32)
    storage.save_result(tmp_path, (3, 2, 1), labels, origins, b'', {}, {}, joined_seeds=joined)
    policy = make_policy(
        view(noise_image()), 'PolicyInvertOrigins', {'segmentation_dir': str(tmp_path)}
    )
    assert list(policy) == [(4, 5, 6), (9, 7, 6), (3, 4, 5), (8, 6, 5), (8, 7, 6)]
    storage.save_result(
        tmp_path, (3, 2, 1), labels, origins, b'', {}, {}, joined_seeds=joined[:2, :4]
    )
    with pytest.raises(UserError, match=r'joined_seeds is int64 of shape \(2, 4\)'):
        list(make_policy(policy.view, 'PolicyInvertOrigins', {'segmentation_dir': str(tmp_path)}))


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
    ('name', 'args'),
    [('PolicyMaxPeaks', '{"min_distance": 2.5}'), ('PolicyPeaks2d', '{"min_distance": "a"}')],
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


@pytest.mark.parametrize('steps', [2, 9, 40, 60])
def test_sequences_within_a_sequence_resume(steps):
    inner = ['SequentialPolicies', {'policies': [['PolicyGrid3d', {'step': 9}], ['PolicyMax', {}]]}]
    args = {'policies': [inner, ['PolicyGrid2d', {'step': 11}], inner]}
    seen = view(noise_image((14, 22, 30)), margin=(1, 2, 3))
    whole = list(make_policy(seen, 'SequentialPolicies', args))
    plain = [p for kind in args['policies'] for p in list(make_policy(seen, *kind))]
    assert whole == plain
    first, second = (make_policy(seen, 'SequentialPolicies', args) for _ in range(2))
    begun = [next(first) for _ in range(steps)]
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
    with trust.only(trust.Trust(frozenset({__name__}))):
        policy = make_policy(view(noise_image()), f'{__name__}.MyPolicy', '{"step": 4}')
    assert list(policy) == [(1, 2, 4)]


@pytest.mark.parametrize(
    ('name', 'args', 'message'),
    [
        ('PolicyNone', '', 'known are PolicyPeaks'),
        ('a.b.Policy', '', '--allow_module=a'),
        ('ffn.b.Policy', '', 'does not exist'),
        ('PolicyPeaks', '{"a": 1}', 'do not fit PolicyPeaks'),
        ('PolicyPeaks', '{a}', 'is not JSON'),
        ('PolicyPeaks2d', '{"sort_cmp": "up"}', 'ascending'),
        ('PolicyPeaks2d', '{"threshold_abs": NaN}', 'holds NaN, which is no finite number'),
        ('PolicyGrid3d', '{"step": 0}', 'step is 0; expected a whole number, 1 or more'),
        ('PolicyGrid2d', '{"step": -4}', 'step is -4; expected'),
        ('PolicyGrid3d', '{"step": 4.5}', 'step is 4.5; expected'),
        ('PolicyGrid3d', '{"offsets": [0, 1.5]}', 'an offset is 1.5; expected a whole number$'),
        ('PolicyGrid2d', '{"offsets": []}', 'offsets is empty'),
        ('PolicyDenseSeeds', '{"num_erosions": -1}', 'num_erosions is -1; expected'),
        ('PolicyDenseSeeds', '{"invert": 2}', 'invert is 2; expected true or false'),
        ('PolicyImagePeaks2DDisk', '{"min_distance_2d": -3}', 'min_distance_2d is -3; expected'),
        ('SequentialPolicies', '{"policies": []}', 'policies is empty'),
        ('ReverseCoords', '{"policy_to_reverse": "Nothing"}', 'known are'),
    ],
)
def test_errors(name, args, message):
    with pytest.raises(UserError, match=message):
        make_policy(view(noise_image()), name, args)
