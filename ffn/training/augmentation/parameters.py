"""What all kinds of augmentation share: how their parameters are declared, checked and read from JSON."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz

WHAT = '--augmentation'
_MOST_RATIO = 1000


def parameter(default: Any, meaning: str, low: float = 0, high: float = 1) -> Any:
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
    probability: float = parameter(1.0, 'probability that a patch is changed at all')

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


def parse_kind(kind: type[Augmentation], values: Any) -> Augmentation:
    """Makes an augmentation from its JSON value.

    Args:
      kind: its class.
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
