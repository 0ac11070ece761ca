"""Seed policies: what they see, and the base class that yields their points one by one.

A policy sees the canvas through `SeedView` and returns points [n, 3] in z, y, x; those whose field of
view does not fit are dropped. The policies themselves are in `peaks`, `intensity`, `grids`,
`earlier_run` and `combined`; `registry` finds one by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from absl import logging

from ffn.utils.errors import UserError
from ffn.utils.geometry import Position, Zyx


class SeedView(Protocol):
    """What a seed policy may see of the canvas; it may not change any of it.

    Attributes:
      image: float32 [z, y, x], normalized.
      segmentation: int32 [z, y, x]; > 0 segments, 0 free, -1 rejected seeds.
      mask: bool [z, y, x] where the field of view may not be centred, or None.
      seed_mask: bool [z, y, x] where no seed is placed, or None.
      margin_zyx: half the field of view.
      corner_zyx: first voxel of the subvolume.
      voxel_size_zyx: physical size of a voxel, in any unit.
    """

    image: np.ndarray
    segmentation: np.ndarray
    mask: np.ndarray | None
    seed_mask: np.ndarray | None
    margin_zyx: Zyx
    corner_zyx: Zyx
    voxel_size_zyx: tuple[float, float, float]


# What NumPy, SciPy and a policy's own arithmetic raise for arguments that make no sense.
_ARGUMENT_ERRORS = (
    TypeError,
    ValueError,
    ArithmeticError,
    RuntimeError,
    IndexError,
    AttributeError,
)


class SeedPolicy:
    """Base of all policies: computes its points once, when the first is asked for.

    Subclasses implement `points()`.
    """

    def __init__(self, view: SeedView):
        self.view = view
        self._points: np.ndarray | None = None
        self._index = 0

    def points(self) -> np.ndarray:
        """Returns int [n, 3] positions z, y, x in the order in which to try them."""
        raise NotImplementedError

    def _fitting_points(self) -> np.ndarray:
        name = type(self).__name__
        try:
            points = np.asarray(self.points(), dtype=np.int32).reshape(-1, 3)
        except UserError:
            raise
        except _ARGUMENT_ERRORS as error:
            raise UserError(
                f'{name} cannot compute its points: {error}; do seed_policy_args fit?'
            ) from error
        margin = np.array(self.view.margin_zyx)
        shape = np.array(self.view.image.shape)
        fits = np.all((points >= margin) & (points + margin < shape), axis=1)
        logging.info('%s: %d seeds, %d fit', name, len(points), fits.sum())
        return points[fits]

    def __iter__(self) -> Iterator[Position]:
        return self

    def __next__(self) -> Position:
        if self._points is None:
            self._points = self._fitting_points()
        if self._index >= len(self._points):
            raise StopIteration
        z, y, x = self._points[self._index].tolist()
        self._index += 1
        return z, y, x

    @property
    def total(self) -> int | None:
        """Number of seeds; None before the first is asked for."""
        return None if self._points is None else len(self._points)

    @property
    def index(self) -> int:
        """Number of seeds yielded so far."""
        return self._index

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue later: {'points': int32 [n, 3] or None, 'index': int}."""
        return {'points': self._points, 'index': self._index}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from what `get_state` returned."""
        self._points, self._index = state['points'], int(state['index'])


def whole(value: float, name: str, least: int | None = None) -> int:
    """Checks an argument that counts voxels, or how often something is done.

    Args:
      value: the argument.
      name: its name, for the error.
      least: the least value that makes sense; None: any does.

    Raises:
      ValueError: it is no whole number, or less.
    """
    if int(value) != value or (least is not None and value < least):
        expected = 'a whole number' if least is None else f'a whole number, {least} or more'
        raise ValueError(f'{name} is {value}; expected {expected}')
    return int(value)


def is_constant(image: np.ndarray) -> bool:
    """Whether all voxels of an image [z, y, x] are equal; ends at the first section where they are not."""
    return all(np.all(section == image[0, 0, 0]) for section in image)


def sort_zyx(points: np.ndarray) -> np.ndarray:
    """Sorts points, integer [n, 3] or [n, 2], ascending by z, then y, then x."""
    ordered: np.ndarray = points[np.lexsort(points.T[::-1])]
    return ordered
