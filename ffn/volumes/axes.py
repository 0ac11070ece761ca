"""The axes of stored arrays by name, and how they become [z, y, x] or [c, z, y, x]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ffn.utils.errors import UserError

SPACE = ('z', 'y', 'x')
_OTHER_NAMES = {'channel': 'c', 'c^': 'c', 'channels': 'c', 'time': 't'}


@dataclass(frozen=True)
class Arrangement:
    """Which stored axes make up a volume, and in which order.

    Attributes:
      order: stored axes in the order [z, y, x] or [c, z, y, x].
      dropped: stored axes of length 1 that are left out.
    """

    order: tuple[int, ...]
    dropped: tuple[int, ...] = ()

    @property
    def as_stored(self) -> bool:
        """Whether the array already is the volume."""
        return not self.dropped and self.order == tuple(range(len(self.order)))

    def pick_space(self, values: Sequence[float], name: str = 'numbers') -> tuple[float, ...]:
        """Brings numbers that are stored one an axis into z, y, x order.

        Args:
          values: one for each stored axis, or one for each of those of space in their stored order.
          name: what errors call them.

        Raises:
          ValueError: another number of values.
        """
        space = self.order[-3:]
        if len(values) == 3:
            rank = sorted(space)
            return tuple(values[rank.index(axis)] for axis in space)
        if len(values) != len(self.order) + len(self.dropped):
            raise ValueError(f'{len(values)} {name}')
        return tuple(values[axis] for axis in space)


def normalize_names(names: Sequence[str | None]) -> tuple[str, ...]:
    """Brings names of axes to x, y, z, c, t where they mean these; () where no axis has a name."""
    lower = [(name or '').strip().lower() for name in names]
    return tuple(_OTHER_NAMES.get(n, n) for n in lower) if any(lower) else ()


def arrange(names: Sequence[str], shape: Sequence[int], what: str) -> Arrangement:
    """Arranges the axes of an array.

    Args:
      names: as of `normalize_names`; without any, the order is [z, y, x], [c, z, y, x] or, with a first axis
        of length 1, [t, c, z, y, x].
      shape: length of each axis.
      what: the volume, for messages.

    Raises:
      UserError: names without x, y and z, twice the same one, or another axis than c that is longer than 1.
    """
    if not names:
        first = int(len(shape) == 5 and shape[0] == 1)
        return Arrangement(tuple(range(first, len(shape))), tuple(range(first)))
    if len(names) != len(shape):
        raise UserError(f'{what} has {len(shape)} axes, but names {len(names)}: {", ".join(names)}')
    if not set(SPACE) <= set(names) or len(set(names)) < len(names):
        raise UserError(
            f'{what} has axes named {",".join(n or "?" for n in names)}; expected x, y and z, each once'
        )
    order = [names.index(axis) for axis in SPACE]
    dropped = []
    for i, name in enumerate(names):
        if i in order:
            continue
        if shape[i] == 1:
            dropped.append(i)
        elif name == 'c':
            order.insert(0, i)
        else:
            raise UserError(
                f'{what} has {shape[i]} entries along its axis {name or i}; expected one: '
                'choose one when it is converted'
            )
    return Arrangement(tuple(order), tuple(dropped))
