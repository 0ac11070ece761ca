"""Changes of intensity and defects of sections."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.training.augmentation import intensity, kinds
from ffn.utils.geometry import Xyz

SHAPE = (9, 13, 17)
SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def picture():
    return np.random.default_rng(1).normal(0.3, 1, SHAPE).astype(np.float32)


def changed(change, kind, seed=0, image=None):
    image = picture() if image is None else image.copy()
    assert change(image, kind, np.random.default_rng(seed)) is None
    assert image.dtype == np.float32
    return image


def spread(values):
    """Whether sections have values of their own."""
    return np.ptp(values) > 1e-3


@few
@given(SEEDS, st.booleans())
def test_contrast_keeps_the_mean_and_scales_the_rest(seed, per_section):
    kind = kinds.Contrast(min_factor=0.5, max_factor=2, per_section=per_section)
    before, after = picture(), changed(intensity.change_contrast, kind, seed)
    axes = (1, 2) if per_section else None
    np.testing.assert_allclose(after.mean(axis=axes), before.mean(axis=axes), atol=1e-5)
    factors = after.std(axis=(1, 2)) / before.std(axis=(1, 2))
    assert factors.min() >= 0.5 - 1e-4
    assert factors.max() <= 2 + 1e-4
    assert spread(factors) == per_section


@few
@given(SEEDS, st.booleans())
def test_brightness_adds_a_constant(seed, per_section):
    kind = kinds.Brightness(max_shift=0.7, per_section=per_section)
    shift = changed(intensity.change_brightness, kind, seed) - picture()
    assert np.ptp(shift, axis=(1, 2)).max() < 1e-5
    assert np.abs(shift).max() <= 0.7 + 1e-5
    assert spread(shift) == per_section


def test_brightness_goes_both_ways():
    kind = kinds.Brightness(max_shift=1)
    shifts = [
        (changed(intensity.change_brightness, kind, seed) - picture()).mean() for seed in range(50)
    ]
    assert min(shifts) < -0.5
    assert max(shifts) > 0.5


@few
@given(SEEDS, st.booleans())
def test_gamma_keeps_order_and_ends(seed, per_section):
    kind = kinds.Gamma(min_exponent=0.5, max_exponent=2, per_section=per_section)
    before, after = picture(), changed(intensity.change_gamma, kind, seed)
    exponents = []
    groups = zip(before, after) if per_section else [(before, after)]
    for old, new in groups:
        assert new.min() == pytest.approx(old.min(), abs=1e-5)
        assert new.max() == pytest.approx(old.max(), abs=1e-5)
        order = old.ravel().argsort()
        assert (np.diff(new.ravel()[order]) >= -1e-6).all()
        low, extent = old.min(), np.ptp(old)
        middle = np.abs(old - low - extent / 2).argmin()
        fraction = ((a.ravel()[middle] - low) / extent for a in (old, new))
        exponents.append(1 / (np.log(next(fraction)) / np.log(next(fraction))))
    assert min(exponents) >= 0.5 - 1e-2
    assert max(exponents) <= 2 + 1e-2


def test_gamma_leaves_what_has_no_contrast():
    flat = np.full(SHAPE, -0.5, np.float32)
    flat[3] = picture()[3]
    kind = kinds.Gamma(min_exponent=2, max_exponent=2, per_section=True)
    after = changed(intensity.change_gamma, kind, image=flat)
    np.testing.assert_array_equal(np.delete(after, 3, 0), np.delete(flat, 3, 0))
    assert (after[3] != flat[3]).any()


@few
@given(SEEDS)
def test_occlusion_fills_boxes_with_the_mean(seed):
    kind = kinds.Occlusion(min_boxes=1, max_boxes=1, min_size=Xyz(3, 4, 5), max_size=Xyz(6, 5, 5))
    before, after = picture(), changed(intensity.occlude, kind, seed)
    filled = after != before
    box = np.argwhere(filled)
    low, high = box.min(axis=0), box.max(axis=0) + 1
    assert filled[tuple(map(slice, low, high))].all()
    np.testing.assert_allclose(after[filled], before.mean(), atol=1e-5)
    size = high - low
    # Sizes are x,y,z; boxes at the border are cut.
    assert (size <= (5, 5, 6)).all()
    assert all(
        s >= n or a == 0 or b == e for s, n, a, b, e in zip(size, (5, 4, 3), low, high, SHAPE)
    )


def test_occlusion_draws_numbers_and_sizes_within_their_ranges():
    kind = kinds.Occlusion(min_boxes=0, max_boxes=2, min_size=Xyz(1, 1, 1), max_size=Xyz(1, 1, 1))
    counts = [
        np.count_nonzero(changed(intensity.occlude, kind, seed) != picture()) for seed in range(90)
    ]
    assert {0, 1, 2} == set(counts)


SECTIONS = [
    (intensity.blur_sections, kinds.OutOfFocusSection),
    (intensity.cut_sections, kinds.PartiallyMissingSection),
    (intensity.blank_sections, kinds.MissingSection),
]


@pytest.mark.parametrize(('change', 'kind'), SECTIONS)
def test_sections_are_changed_as_often_as_asked_for(change, kind):
    before = picture()

    def fraction(probability):
        chosen = [
            (changed(change, kind(section_probability=probability), seed) != before).any(
                axis=(1, 2)
            )
            for seed in range(60)
        ]
        return np.mean(chosen)

    assert fraction(0) == 0
    # A line through a corner may leave a section whole.
    assert fraction(1) > 0.97
    assert fraction(0.3) == pytest.approx(0.3, abs=0.08)


@few
@given(SEEDS)
def test_missing_sections_are_constant_within_the_range(seed):
    kind = kinds.MissingSection(section_probability=0.5, min_fill=-3, max_fill=-1)
    before, after = picture(), changed(intensity.blank_sections, kind, seed)
    for old, new in zip(before, after):
        if (old != new).any():
            assert np.ptp(new) == 0
            assert -3 <= new[0, 0] <= -1


@few
@given(SEEDS)
def test_partially_missing_sections_lack_one_side_of_a_line(seed):
    kind = kinds.PartiallyMissingSection(section_probability=1, min_fill=50, max_fill=60)
    after = changed(intensity.cut_sections, kind, seed)
    np.testing.assert_array_equal(after[after < 40], picture()[after < 40])
    for section in after:
        missing = section > 40
        assert len(np.unique(section[missing])) <= 1
        assert not missing.all()
        # Both sides of a line are convex: each row and column changes once at most.
        assert (np.abs(np.diff(missing.astype(int), axis=0)).sum(axis=0) <= 1).all()
        assert (np.abs(np.diff(missing.astype(int), axis=1)).sum(axis=1) <= 1).all()


def test_lines_have_all_directions_and_both_sides():
    kind = kinds.PartiallyMissingSection(section_probability=1, min_fill=50, max_fill=50)
    sides = (
        sum((changed(intensity.cut_sections, kind, seed) > 40).mean(axis=0) for seed in range(40))
        / 40
    )
    assert sides.min() > 0.3
    assert sides.max() < 0.7


def test_blur_is_within_sections():
    kind = kinds.OutOfFocusSection(section_probability=1, min_sigma=2, max_sigma=2)
    image = np.zeros(SHAPE, np.float32)
    image[4, 6, 8] = 1
    after = changed(intensity.blur_sections, kind, image=image)
    assert after[4].sum() == pytest.approx(1, abs=0.01)
    assert after[[0, 1, 2, 3, 5, 6, 7, 8]].sum() == 0
    # Of a Gaussian: e^(-r² / 2 sigma²), and alike along y and x.
    assert after[4, 8, 8] / after[4, 6, 8] == pytest.approx(np.exp(-0.5), abs=0.01)
    assert after[4, 8, 8] == pytest.approx(after[4, 6, 10])


def test_blur_draws_sigma_within_the_range():
    kind = kinds.OutOfFocusSection(section_probability=1, min_sigma=1, max_sigma=3)
    image = np.zeros((200, 25, 25), np.float32)
    image[:, 12, 12] = 1
    after = changed(intensity.blur_sections, kind, image=image)
    sigma = np.sqrt(-0.5 / np.log(after[:, 12, 13] / after[:, 12, 12]))
    assert 0.9 < sigma.min() < 1.2
    assert 2.8 < sigma.max() < 3.1


def test_noise_has_the_standard_deviation_asked_for():
    def sigmas(low, high, count):
        kind = kinds.Noise(min_sigma=low, max_sigma=high)
        return [(changed(intensity.add_noise, kind, s) - picture()).std() for s in range(count)]

    assert sigmas(0.5, 0.5, 1)[0] == pytest.approx(0.5, rel=0.05)
    several = sigmas(0.1, 0.4, 40)
    assert 0.09 < min(several) < 0.2
    assert 0.3 < max(several) < 0.43
