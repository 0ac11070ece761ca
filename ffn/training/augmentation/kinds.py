"""The kinds of augmentation and their parameters: defaults, ranges, meanings.

A class is a key of the JSON object that config.py reads, a field one of its parameters. Lengths are in
voxels, intensities those of the normalized image, (voxel - mean) / stddev. A `min_` and a `max_` field
are the ends of a range that is drawn from uniformly unless stated otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from ffn.training.augmentation.parameters import WHAT, Augmentation, parameter
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz


@dataclass(frozen=True)
class Rotation2d(Augmentation):
    """Turns the patch around z."""

    key = 'rotation_2d'
    max_degrees: float = parameter(180.0, 'maximum angle, in both directions', 0, 180)


@dataclass(frozen=True)
class Rotation3d(Augmentation):
    """Turns the patch around an axis of any direction."""

    key = 'rotation_3d'
    max_degrees: float = parameter(180.0, 'maximum angle, in both directions', 0, 180)
    uniform: bool = parameter(
        False, 'draw all orientations with equal probability; requires max_degrees 180'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.uniform and self.max_degrees < 180:
            raise UserError(
                f'{WHAT}: rotation_3d.max_degrees is {self.max_degrees:g}, but uniform is true, '
                'which turns by any angle; leave one of them out'
            )


@dataclass(frozen=True)
class Affine(Augmentation):
    """Stretches and shears."""

    key = 'affine'
    max_scale: float = parameter(
        0.1, 'a step along x or y in the patch is 1 − this to 1 + this steps in the volume', 0, 0.5
    )
    max_scale_z: float = parameter(0.0, 'the same along z', 0, 0.5)
    max_shear: float = parameter(
        0.1,
        'x and y are each displaced by up to this fraction of the distance along the other axes',
        0,
        0.4,
    )
    per_section: bool = parameter(
        False, 'drawn independently for every section, without shear along z'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_section and self.max_scale_z:
            raise UserError(
                f'{WHAT}: affine.max_scale_z is {self.max_scale_z:g}, but per_section is true: '
                'a section cannot be stretched along z'
            )


@dataclass(frozen=True)
class Elastic(Augmentation):
    """Displaces smoothly within the sections."""

    key = 'elastic'
    amplitude: float = parameter(
        2.0, 'maximum displacement along x and y; a fraction of it is drawn for every patch', 0, 100
    )
    smoothness: float = parameter(
        8.0,
        'sigma of the Gaussian that smooths it, in voxels along x; at least 1.5 times the amplitude',
        1,
        1000,
    )
    per_section: bool = parameter(
        False, 'drawn independently for every section; else smooth along z as well'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smoothness < 1.5 * self.amplitude:
            raise UserError(
                f'{WHAT}: elastic.smoothness is {self.smoothness:g} with amplitude '
                f'{self.amplitude:g}; expected 1.5 times the amplitude or more, or the image folds'
            )


@dataclass(frozen=True)
class Misalignment(Augmentation):
    """Displaces sections by whole voxels along x and y."""

    key = 'misalignment'
    max_displacement: int = parameter(5, 'maximum displacement along x and y', 0, 200)
    slip_probability: float = parameter(0.5, 'probability that a single section is displaced')
    shift_probability: float = parameter(
        0.5, 'probability that all sections from a random one onward are displaced together'
    )


@dataclass(frozen=True)
class Contrast(Augmentation):
    """Multiplies the difference from the mean of the patch, or of each section."""

    key = 'contrast'
    min_factor: float = parameter(0.8, 'minimum factor', 0, 10)
    max_factor: float = parameter(1.2, 'maximum factor', 0, 10)
    per_section: bool = parameter(False, 'drawn independently for every section')


@dataclass(frozen=True)
class Brightness(Augmentation):
    """Adds a constant."""

    key = 'brightness'
    max_shift: float = parameter(0.2, 'maximum constant, added or subtracted', 0, 10)
    per_section: bool = parameter(False, 'drawn independently for every section')


@dataclass(frozen=True)
class Gamma(Augmentation):
    """Raises intensities to a power; minimum and maximum of the patch (section) count as 0 and 1."""

    key = 'gamma'
    min_exponent: float = parameter(
        0.8, 'minimum exponent; its logarithm is drawn uniformly', 0.1, 10
    )
    max_exponent: float = parameter(1.25, 'maximum exponent; above 1 darkens', 0.1, 10)
    per_section: bool = parameter(False, 'drawn independently for every section')


@dataclass(frozen=True)
class Occlusion(Augmentation):
    """Fills boxes with the mean of the patch, centred anywhere in it."""

    key = 'occlusion'
    min_boxes: int = parameter(1, 'minimum number of boxes', 0, 1000)
    max_boxes: int = parameter(2, 'maximum number of boxes', 0, 1000)
    min_size: Xyz = parameter((3, 3, 1), 'minimum size x,y,z of a box', 1, 1000)  # noqa: RUF009
    max_size: Xyz = parameter((11, 11, 5), 'maximum size x,y,z of a box', 1, 1000)  # noqa: RUF009


@dataclass(frozen=True)
class OutOfFocusSection(Augmentation):
    """Blurs sections within x and y."""

    key = 'out_of_focus_section'
    section_probability: float = parameter(0.05, 'probability that a section is changed')
    min_sigma: float = parameter(1.0, 'minimum sigma of the Gaussian, in voxels', 0, 50)
    max_sigma: float = parameter(3.0, 'maximum sigma of the Gaussian, in voxels', 0, 50)


@dataclass(frozen=True)
class PartiallyMissingSection(Augmentation):
    """Fills one side of a random line in a section with a constant."""

    key = 'partially_missing_section'
    section_probability: float = parameter(0.05, 'probability that a section is changed')
    min_fill: float = parameter(-4.0, 'minimum intensity of the constant', -100, 100)
    max_fill: float = parameter(0.0, 'maximum intensity of the constant', -100, 100)


@dataclass(frozen=True)
class MissingSection(Augmentation):
    """Fills sections with a constant."""

    key = 'missing_section'
    section_probability: float = parameter(0.05, 'probability that a section is changed')
    min_fill: float = parameter(-4.0, 'minimum intensity of the constant', -100, 100)
    max_fill: float = parameter(0.0, 'maximum intensity of the constant', -100, 100)


@dataclass(frozen=True)
class Noise(Augmentation):
    """Adds Gaussian noise, after everything else."""

    key = 'noise'
    min_sigma: float = parameter(0.0, 'minimum standard deviation', 0, 10)
    max_sigma: float = parameter(0.2, 'maximum standard deviation', 0, 10)


# In the order in which they are applied.
KINDS: dict[str, type[Augmentation]] = {
    kind.key: kind
    for kind in (
        Affine,
        Elastic,
        Misalignment,
        Rotation2d,
        Rotation3d,
        Contrast,
        Brightness,
        Gamma,
        Occlusion,
        OutOfFocusSection,
        PartiallyMissingSection,
        MissingSection,
        Noise,
    )
}
