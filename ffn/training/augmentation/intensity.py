"""Augmentation of intensities; labels and weights stay, so that the network learns to see past defects.

Intensities are those of the normalized image, float32 [z, y, x]; functions change it in place.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ffn.training.augmentation.config import AugmentationConfig
from ffn.training.augmentation.kinds import (
    Brightness,
    Contrast,
    Gamma,
    MissingSection,
    Noise,
    Occlusion,
    OutOfFocusSection,
    PartiallyMissingSection,
)
from ffn.training.augmentation.parameters import should_apply


def change_intensity(
    image: np.ndarray, config: AugmentationConfig, rng: np.random.Generator
) -> None:
    """Changes an image as configured: first the whole, then defects of sections, then noise.

    Args:
      image: float32 [z, y, x], normalized; changed in place.
      config: what may be changed.
      rng: random generator.
    """
    if (contrast := config.contrast) and should_apply(contrast, rng):
        change_contrast(image, contrast, rng)
    if (brightness := config.brightness) and should_apply(brightness, rng):
        change_brightness(image, brightness, rng)
    if (gamma := config.gamma) and should_apply(gamma, rng):
        change_gamma(image, gamma, rng)
    if (occlusion := config.occlusion) and should_apply(occlusion, rng):
        occlude(image, occlusion, rng)
    if (blur := config.out_of_focus_section) and should_apply(blur, rng):
        blur_sections(image, blur, rng)
    if (cut := config.partially_missing_section) and should_apply(cut, rng):
        cut_sections(image, cut, rng)
    if (missing := config.missing_section) and should_apply(missing, rng):
        blank_sections(image, missing, rng)
    if (noise := config.noise) and should_apply(noise, rng):
        add_noise(image, noise, rng)


def _draw(
    low: float, high: float, image: np.ndarray, per_section: bool, rng: np.random.Generator
) -> np.ndarray:
    """Draws a number for the patch or for each section: float32 [z or 1, 1, 1]."""
    count = len(image) if per_section else 1
    return rng.uniform(low, high, (count, 1, 1)).astype(np.float32)


def _axes(per_section: bool) -> tuple[int, ...]:
    """The axes over which a mean or a maximum is taken."""
    return (1, 2) if per_section else (0, 1, 2)


def change_contrast(image: np.ndarray, kind: Contrast, rng: np.random.Generator) -> None:
    """Multiplies the difference from the mean of the patch or section."""
    factor = _draw(kind.min_factor, kind.max_factor, image, kind.per_section, rng)
    mean = image.mean(axis=_axes(kind.per_section), keepdims=True)
    image -= mean
    image *= factor
    image += mean


def change_brightness(image: np.ndarray, kind: Brightness, rng: np.random.Generator) -> None:
    """Adds a constant."""
    image += _draw(-kind.max_shift, kind.max_shift, image, kind.per_section, rng)


def change_gamma(image: np.ndarray, kind: Gamma, rng: np.random.Generator) -> None:
    """Raises intensities to a power, relative to the minimum and maximum, which stay."""
    lowest, highest = np.log(kind.min_exponent), np.log(kind.max_exponent)
    exponent = np.exp(_draw(lowest, highest, image, kind.per_section, rng))
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
    """Fills boxes with the mean of the patch."""
    mean = image.mean()
    for _ in range(rng.integers(kind.min_boxes, kind.max_boxes, endpoint=True)):
        size = rng.integers(kind.min_size.zyx, kind.max_size.zyx, endpoint=True)
        start = rng.integers(0, image.shape) - size // 2
        image[tuple(map(slice, np.maximum(start, 0), start + size))] = mean


def _draw_sections(image: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Draws the z indices of sections: int [n]."""
    return np.flatnonzero(rng.random(len(image)) < probability)


def blur_sections(image: np.ndarray, kind: OutOfFocusSection, rng: np.random.Generator) -> None:
    """Blurs sections within y and x."""
    for z in _draw_sections(image, kind.section_probability, rng):
        sigma = rng.uniform(kind.min_sigma, kind.max_sigma)
        image[z] = ndimage.gaussian_filter(image[z], sigma, mode='nearest')


def cut_sections(
    image: np.ndarray, kind: PartiallyMissingSection, rng: np.random.Generator
) -> None:
    """Fills sections on one side of a line of random direction through a random point."""
    height, width = image.shape[1:]
    y, x = np.ogrid[:height, :width]
    for z in _draw_sections(image, kind.section_probability, rng):
        angle = rng.uniform(0, 2 * np.pi)
        through_y, through_x = rng.uniform(0, (height - 1, width - 1))
        beyond = (y - through_y) * np.sin(angle) + (x - through_x) * np.cos(angle) > 0
        image[z][beyond] = rng.uniform(kind.min_fill, kind.max_fill)


def blank_sections(image: np.ndarray, kind: MissingSection, rng: np.random.Generator) -> None:
    """Fills each drawn section with a constant."""
    for z in _draw_sections(image, kind.section_probability, rng):
        image[z] = rng.uniform(kind.min_fill, kind.max_fill)


def add_noise(image: np.ndarray, kind: Noise, rng: np.random.Generator) -> None:
    """Adds Gaussian noise of a random standard deviation."""
    sigma = np.float32(rng.uniform(kind.min_sigma, kind.max_sigma))
    image += sigma * rng.standard_normal(image.shape, dtype=np.float32)
