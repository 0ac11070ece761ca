"""Seeds that ignore the image: points on regular grids, finer with every pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ffn.inference.seeds.policy import SeedPolicy, SeedView, whole


class PolicyGrid3d(SeedPolicy):
    """Points `step` apart along z, y and x; one pass per offset, which is added to all three axes."""

    def __init__(
        self,
        view: SeedView,
        step: int = 16,
        offsets: Sequence[int] = (0, 8, 4, 12, 2, 10, 14),
    ):
        """Makes a policy.

        Args:
          view: the canvas.
          step: distance between neighbouring points, voxels.
          offsets: where each pass begins, voxels.
        """
        super().__init__(view)
        self._step, self._offsets = _checked(step, offsets)

    def points(self) -> np.ndarray:
        """See base class."""
        return np.concatenate(
            [
                _grid([np.arange(offset, n, self._step) for n in self.view.image.shape])
                for offset in self._offsets
            ]
        )


class PolicyGrid2d(SeedPolicy):
    """Points `step` apart along y and x in every section; one pass over all sections per offset."""

    def __init__(
        self,
        view: SeedView,
        step: int = 16,
        offsets: Sequence[int] = (0, 8, 4, 12, 2, 6, 10, 14),
    ):
        """Makes a policy; see PolicyGrid3d."""
        super().__init__(view)
        self._step, self._offsets = _checked(step, offsets)

    def points(self) -> np.ndarray:
        """See base class."""
        depth, *plane = self.view.image.shape
        return np.concatenate(
            [
                _grid([np.arange(depth), *(np.arange(offset, n, self._step) for n in plane)])
                for offset in self._offsets
            ]
        )


def _checked(step: int, offsets: Sequence[int]) -> tuple[int, list[int]]:
    if len(offsets) == 0:
        raise ValueError('offsets is empty; expected one for each pass')
    return whole(step, 'step', 1), [whole(offset, 'an offset') for offset in offsets]


def _grid(axes: Sequence[Iterable[int]]) -> np.ndarray:
    return np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).reshape(-1, len(axes))
