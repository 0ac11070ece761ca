"""Augmentation of what a patch looks like; labels and weights stay, so that it is learned to look past.

Intensities are those of the normalised image. Functions change the image that they are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ffn.training.augmentation_kinds import (
    Brightness,
    Contrast,
    Gamma,
    MissingSection,
    Noise,
    Occlusion,
    OutOfFocusSection,
    PartiallyMissingSection,
    happens,
)

if TYPE_CHECKING:
    from ffn.training.augmentation_config import AugmentationConfig


def change_intensity(
    image: np.ndarray, config: AugmentationConfig, rng: np.random.Generator
) -> None:
    """Changes an image as configured: first the whole, then defects of sections, then noise.

    Args:
      image: float32 [z, y, x], normalised; changed in place.
      config: what is wanted.
      rng: source of chance.
    """
    for kind, change in (
        (config.contrast, change_contrast),
        (config.brightness, change_brightness),
        (config.gamma, change_gamma),
        (config.occlusion, occlude),
        (config.out_of_focus_section, blur_sections),
        (config.partially_missing_section, cut_sections),
        (config.missing_section, blank_sections),
        (config.noise, add_noise),
    ):
        if happens(kind, rng):
            change(image, kind, rng)


def _drawn(
    low: float, high: float, image: np.ndarray, per_section: bool, rng: np.random.Generator
) -> np.ndarray:
    """Draws a number for the patch or each section: float32 [z or 1, 1, 1]."""
    count = len(image) if per_section else 1
    return rng.uniform(low, high, (count, 1, 1)).astype(np.float32)


def _axes(per_section: bool) -> tuple[int, ...]:
    """The axes over which a mean or a maximum is taken."""
    return (1, 2) if per_section else (0, 1, 2)


def change_contrast(image: np.ndarray, kind: Contrast, rng: np.random.Generator) -> None:
    """Multiplies the difference to the mean; [z, y, x] in place."""
    factor = _drawn(kind.min_factor, kind.max_factor, image, kind.per_section, rng)
    mean = image.mean(axis=_axes(kind.per_section), keepdims=True)
    image -= mean
    image *= factor
    image += mean


def change_brightness(image: np.ndarray, kind: Brightness, rng: np.random.Generator) -> None:
    """Adds a constant; [z, y, x] in place."""
    image += _drawn(-kind.max_shift, kind.max_shift, image, kind.per_section, rng)


def change_gamma(image: np.ndarray, kind: Gamma, rng: np.random.Generator) -> None:
    """Raises to a power between the least and the largest value, which stay; [z, y, x] in place."""
    lowest, highest = np.log(kind.min_exponent), np.log(kind.max_exponent)
    exponent = np.exp(_drawn(lowest, highest, image, kind.per_section, rng))
    low = image.min(axis=_axes(kind.per_section), keepdims=True)
    extent = image.max(axis=_axes(kind.per_section), keepdims=True) - low
    # A section without contrast stays as it is: 0 to any power.
    extent[extent == 0] = 1
    image -= low
    image /= extent
    np.power(image, exponent, out=image)
    image *= extent
    image += low


def occlude(image: np.ndarray, kind: Occlusion, rng: np.random.Generator) -> None:
    """Fills boxes with the mean; [z, y, x] in place."""
    mean = image.mean()
    for _ in range(rng.integers(kind.min_boxes, kind.max_boxes, endpoint=True)):
        size = rng.integers(kind.min_size.zyx, kind.max_size.zyx, endpoint=True)
        start = rng.integers(0, image.shape) - size // 2
        image[tuple(map(slice, np.maximum(start, 0), start + size))] = mean


def _chosen_sections(image: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Draws sections: int [number of them], their z."""
    return np.flatnonzero(rng.random(len(image)) < probability)


def blur_sections(image: np.ndarray, kind: OutOfFocusSection, rng: np.random.Generator) -> None:
    """Blurs sections within y and x; [z, y, x] in place."""
    for z in _chosen_sections(image, kind.section_probability, rng):
        sigma = rng.uniform(kind.min_sigma, kind.max_sigma)
        image[z] = ndimage.gaussian_filter(image[z], sigma, mode='nearest')


def cut_sections(
    image: np.ndarray, kind: PartiallyMissingSection, rng: np.random.Generator
) -> None:
    """Fills sections on one side of a line of any direction through any voxel; [z, y, x] in place."""
    height, width = image.shape[1:]
    y, x = np.ogrid[:height, :width]
    for z in _chosen_sections(image, kind.section_probability, rng):
        angle = rng.uniform(0, 2 * np.pi)
        through_y, through_x = rng.uniform(0, (height - 1, width - 1))
        beyond = (y - through_y) * np.sin(angle) + (x - through_x) * np.cos(angle) > 0
        image[z][beyond] = rng.uniform(kind.min_fill, kind.max_fill)


def blank_sections(image: np.ndarray, kind: MissingSection, rng: np.random.Generator) -> None:
    """Fills sections with a constant each; [z, y, x] in place."""
    for z in _chosen_sections(image, kind.section_probability, rng):
        image[z] = rng.uniform(kind.min_fill, kind.max_fill)


def add_noise(image: np.ndarray, kind: Noise, rng: np.random.Generator) -> None:
    """Adds Gaussian noise of one standard deviation; [z, y, x] in place."""
    sigma = np.float32(rng.uniform(kind.min_sigma, kind.max_sigma))
    image += sigma * rng.standard_normal(image.shape, dtype=np.float32)
