"""The kinds of augmentation and their parameters: defaults, ranges, meanings.

A class is a key of the JSON object that config.py reads, a field one of its parameters. Lengths are in
voxels, intensities those of the normalized image, (voxel - mean) / stddev. A `min_` and a `max_` field
are the ends of a range that is drawn from uniformly unless stated otherwise.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz

WHAT = '--augmentation'
_MOST_RATIO = 1000


def _parameter(default: Any, meaning: str, low: float = 0, high: float = 1) -> Any:
    """A field; its type is that of the default, and its values may range from low to high."""
    return field(default=default, metadata={'meaning': meaning, 'low': low, 'high': high})


def check(name: str, value: Any, default: Any, low: float, high: float) -> Any:
    """Checks a parameter.

    Args:
      name: for the message.
      value: the given value; for three numbers, any sequence.
      default: a value of the expected type: bool, int, float, or a tuple for x,y,z.
      low: minimum.
      high: maximum.

    Returns:
      The value, converted to the expected type.

    Raises:
      UserError: another type, or out of range.
    """
    kind = type(default)
    if kind is bool:
        expected, valid = 'true or false', isinstance(value, bool)
    elif kind is tuple:
        expected = f'three whole numbers [x, y, z] from {low:g} to {high:g}'
        valid = (
            isinstance(value, list | tuple)
            and len(value) == 3
            and all(_is_number(v, int) and low <= v <= high for v in value)
        )
    else:
        expected = f'a {"whole " if kind is int else ""}number from {low:g} to {high:g}'
        valid = _is_number(value, kind) and low <= value <= high
    if not valid:
        raise UserError(f'{WHAT}: {name} is {to_json(value)}; expected {expected}')
    return Xyz(*value) if kind is tuple else kind(value)


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int if kind is int else int | float)


def to_json(value: Any) -> str:
    """A value as written in JSON, shortened, for messages."""
    names = {True: 'true', False: 'false', None: 'null'}
    if value is None or isinstance(value, bool):
        return names[value]
    text = str(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


@dataclass(frozen=True)
class Augmentation:
    """Base of all kinds."""

    key: ClassVar[str] = ''
    probability: float = _parameter(1.0, 'of a patch to be changed at all')

    @classmethod
    def summary(cls) -> str:
        """One line on what it does."""
        return (cls.__doc__ or '').splitlines()[0].rstrip('.')

    def __post_init__(self) -> None:
        for item in fields(self):
            value = check(
                f'{self.key}.{item.name}',
                getattr(self, item.name),
                item.default,
                item.metadata['low'],
                item.metadata['high'],
            )
            object.__setattr__(self, item.name, value)
        for item in fields(self):
            if item.name.startswith('min_'):
                self._check_range(item)

    def _check_range(self, item: Field) -> None:
        upper_name = item.name.replace('min_', 'max_', 1)
        lower, upper = getattr(self, item.name), getattr(self, upper_name)
        pairs = zip(lower, upper, strict=True) if isinstance(lower, Xyz) else [(lower, upper)]
        if any(low > high for low, high in pairs):
            raise UserError(
                f'{WHAT}: {self.key}.{item.name} is {to_json(lower)}, more than {upper_name} '
                f'{to_json(upper)}'
            )


@dataclass(frozen=True)
class Rotation2d(Augmentation):
    """Turns the patch around z."""

    key = 'rotation_2d'
    max_degrees: float = _parameter(180.0, 'largest angle, either way', 0, 180)


@dataclass(frozen=True)
class Rotation3d(Augmentation):
    """Turns the patch around an axis of any direction."""

    key = 'rotation_3d'
    max_degrees: float = _parameter(180.0, 'largest angle, either way', 0, 180)
    uniform: bool = _parameter(False, 'all orientations are equally frequent; needs 180 degrees')

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
    max_scale: float = _parameter(
        0.1, 'a step along x or y in the patch is one of 1 − this to 1 + this in the volume', 0, 0.5
    )
    max_scale_z: float = _parameter(0.0, 'the same for z', 0, 0.5)
    max_shear: float = _parameter(
        0.1,
        'x and y are each moved by up to this part of the distance along the other two axes',
        0,
        0.4,
    )
    per_section: bool = _parameter(
        False, 'drawn for every section by itself, and not sheared along z'
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
    amplitude: float = _parameter(
        2.0, 'largest displacement along x and y; how much of it is drawn for every patch', 0, 100
    )
    smoothness: float = _parameter(
        8.0,
        'sigma of the Gaussian by which it is smooth, in voxels of x; 1.5 times the amplitude or more',
        1,
        1000,
    )
    per_section: bool = _parameter(False, 'drawn for every section by itself; else smooth in z too')

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
    max_displacement: int = _parameter(5, 'largest displacement along x and y', 0, 200)
    slip_probability: float = _parameter(0.5, 'that one section is displaced')
    shift_probability: float = _parameter(
        0.5, 'that all sections from a random one on are displaced together'
    )


@dataclass(frozen=True)
class Contrast(Augmentation):
    """Multiplies the difference to the mean of the patch, or of the section."""

    key = 'contrast'
    min_factor: float = _parameter(0.8, 'least factor', 0, 10)
    max_factor: float = _parameter(1.2, 'largest factor', 0, 10)
    per_section: bool = _parameter(False, 'drawn for every section by itself')


@dataclass(frozen=True)
class Brightness(Augmentation):
    """Adds a constant."""

    key = 'brightness'
    max_shift: float = _parameter(0.2, 'largest constant, added or subtracted', 0, 10)
    per_section: bool = _parameter(False, 'drawn for every section by itself')


@dataclass(frozen=True)
class Gamma(Augmentation):
    """Raises intensities to a power; least and largest of the patch (section) count as 0 and 1."""

    key = 'gamma'
    min_exponent: float = _parameter(0.8, 'least exponent; its logarithm is drawn evenly', 0.1, 10)
    max_exponent: float = _parameter(1.25, 'largest exponent; above 1 darkens', 0.1, 10)
    per_section: bool = _parameter(False, 'drawn for every section by itself')


@dataclass(frozen=True)
class Occlusion(Augmentation):
    """Fills boxes with the mean of the patch, centred anywhere in it."""

    key = 'occlusion'
    min_boxes: int = _parameter(1, 'least number of boxes', 0, 1000)
    max_boxes: int = _parameter(2, 'largest number of boxes', 0, 1000)
    min_size: Xyz = _parameter((3, 3, 1), 'least size x,y,z of a box', 1, 1000)  # noqa: RUF009
    max_size: Xyz = _parameter((11, 11, 5), 'largest size x,y,z of a box', 1, 1000)  # noqa: RUF009


@dataclass(frozen=True)
class OutOfFocusSection(Augmentation):
    """Blurs sections within x and y."""

    key = 'out_of_focus_section'
    section_probability: float = _parameter(0.05, 'of each section')
    min_sigma: float = _parameter(1.0, 'least sigma of the Gaussian, in voxels', 0, 50)
    max_sigma: float = _parameter(3.0, 'largest sigma of the Gaussian, in voxels', 0, 50)


@dataclass(frozen=True)
class PartiallyMissingSection(Augmentation):
    """Fills what is on one side of a random line, in sections, with a constant."""

    key = 'partially_missing_section'
    section_probability: float = _parameter(0.05, 'of each section')
    min_fill: float = _parameter(-4.0, 'least intensity of the constant', -100, 100)
    max_fill: float = _parameter(0.0, 'largest intensity of the constant', -100, 100)


@dataclass(frozen=True)
class MissingSection(Augmentation):
    """Fills sections with a constant."""

    key = 'missing_section'
    section_probability: float = _parameter(0.05, 'of each section')
    min_fill: float = _parameter(-4.0, 'least intensity of the constant', -100, 100)
    max_fill: float = _parameter(0.0, 'largest intensity of the constant', -100, 100)


@dataclass(frozen=True)
class Noise(Augmentation):
    """Adds Gaussian noise, after everything else."""

    key = 'noise'
    min_sigma: float = _parameter(0.0, 'least standard deviation', 0, 10)
    max_sigma: float = _parameter(0.2, 'largest standard deviation', 0, 10)


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


def parse_kind(kind: type[Augmentation], values: Any) -> Augmentation:
    """Makes an augmentation from its JSON value.

    Args:
      kind: one of KINDS.
      values: its parameters, a dictionary if it is valid.

    Raises:
      UserError: no dictionary, an unknown parameter, or one of the wrong type or out of range.
    """
    if not isinstance(values, dict):
        raise UserError(
            f'{WHAT}: {kind.key} is {to_json(values)}; expected an object of parameters, such as {{}}'
        )
    known = [item.name for item in fields(kind)]
    for name in values:
        if name not in known:
            raise UserError(
                f'{WHAT}: {kind.key} has no parameter {to_json(name)}; it has {", ".join(known)}'
            )
    return kind(**values)


def check_voxel_size(sizes: Any) -> tuple[float, float, float]:
    """Checks physical sizes x, y, z.

    Raises:
      UserError: not three positive numbers.
    """
    valid = (
        isinstance(sizes, list | tuple)
        and len(sizes) == 3
        and all(_is_number(size, float) and 0 < size < 1e30 for size in sizes)
        and max(sizes) <= _MOST_RATIO * min(sizes)
    )
    if not valid:
        raise UserError(
            f'{WHAT}: voxel_size is {to_json(sizes)}; expected three positive numbers [x, y, z], none '
            f'more than {_MOST_RATIO} times another'
        )
    x, y, z = map(float, sizes)
    return x, y, z


def should_apply(kind: Augmentation, rng: np.random.Generator) -> bool:
    """Draws whether a patch gets this augmentation."""
    return rng.random() < kind.probability
