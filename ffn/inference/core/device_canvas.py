"""A canvas whose image and seed stay on a device, which tells of every step only what decides where to go next.

The flood is that of `Canvas`, to the last move: policies, restrictions, limits and segments are the same code. What
they ask of the seed between two steps is known here: where it has been visited follows from the moves, and the
logits of the positions that come next are told with every step.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ffn.inference.core.canvas import Canvas, Extent
from ffn.inference.core.movement import FacePolicy
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.protocols import DeviceArea, DeviceNetwork, DeviceStep, Seeds
from ffn.inference.core.view import CanvasView
from ffn.models.info import ModelInfo
from ffn.utils.geometry import Position, Zyx

# Positions that are asked for at once where a logit is not known.
_AT_ONCE = 64


class DeviceCanvas(Canvas):
    """See the module. The movement policy must be a `FacePolicy`.

    The device holds image and seed from the first object until `segment_all` or `segment_at` ends.
    """

    movement_policy: FacePolicy

    def __init__(
        self,
        info: ModelInfo,
        network: DeviceNetwork,
        image: np.ndarray,
        options: CanvasOptions,
        **others: Any,
    ):
        """Makes an empty canvas; see `Canvas`."""
        self._device = network
        self._area: DeviceArea | None = None
        # Logits of the seed, as far as they are known.
        self._logits: dict[Position, float] = {}
        # Whether the seed on the device has changed since it was copied, and the part of the copy that is not NaN.
        self._changed = False
        self._copied: Extent | None = None
        super().__init__(info, network, image, options, **others)
        self._predictions = self.counters.calls('predict')

    @property
    def seed(self) -> np.ndarray:
        """A copy of the seed, see `Canvas`; fetched from the device when it has changed since."""
        if self._changed and self._area is not None:
            self._clear_copy()
            extent = self._clipped_extent()
            self._copy[extent] = self._area.read(extent)
            self._copied, self._changed = extent, False
        return self._copy

    @seed.setter
    def seed(self, array: np.ndarray) -> None:
        """Gives the array of the copy."""
        self._copy = array

    def _clear_copy(self) -> None:
        if self._copied is not None:
            self._copy[self._copied] = np.nan

    def _clipped_extent(self) -> Extent:
        z, y, x = (
            slice(*s.indices(n)) for s, n in zip(self.visited_extent(), self.shape, strict=True)
        )
        return z, y, x

    def _make_view(self, info: ModelInfo, voxel_size_zyx: tuple[float, float, float]) -> CanvasView:
        view = super()._make_view(info, voxel_size_zyx)
        self._visits = _Visits(self.shape, view.reach_zyx)
        view.look_at_seed_by(self._logit_at, self._visits.unvisited)
        return view

    def _open(self) -> DeviceArea:
        """The area on the device; a new one has the seed of the copy."""
        if self._area is None:
            self._area = self._device.open(self.image, self.movement_policy.boxes)
            if self._copied is not None:
                self._area.write(self._copy)
        return self._area

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        """Keeps the area while the context lasts; afterwards, the seed is in the copy."""
        try:
            yield
            _ = self.seed
        finally:
            if self._area is not None:
                self._area.close()
                self._area = None

    def segment_all(self, seed_policy: Seeds | Callable[[CanvasView], Seeds]) -> None:
        """See `Canvas.segment_all`."""
        with self._on_device():
            super().segment_all(seed_policy)

    def segment_at(
        self,
        start_zyx: Sequence[int],
        callback: Callable[[Canvas, Position], None] | None = None,
    ) -> int:
        """See `Canvas.segment_at`."""
        with self._on_device():
            return super().segment_at(start_zyx, callback)

    def init_seed(self, pos_zyx: Sequence[int]) -> None:
        """Clears the seed and sets the starting voxel."""
        z, y, x = pos_zyx
        logit = self.options.init_activation
        self._visits.begin((z, y, x), self.visited_extent())
        self._clear_copy()
        self._copied = None
        self._open().begin((z, y, x), logit)
        self.visited = (z, y, x), (z, y, x)
        self._logits = {(z, y, x): logit}
        self._changed = True

    def put_seed(self, logits: np.ndarray) -> None:
        """See `Canvas.put_seed`."""
        super().put_seed(logits)
        self._copied = extent = self._clipped_extent()
        self._visits.load(self._copy[extent], extent)
        self._logits = {}
        self._changed = False
        if self._area is not None:
            self._area.write(self._copy)

    def update_at(self, pos_zyx: Sequence[int]) -> np.ndarray:
        """Makes one step of the network, and fetches what it made of the seed; see `Canvas.update_at`."""
        z, y, x = pos_zyx
        self._advance((z, y, x))
        reach = self.view.reach_zyx
        return self.seed[
            tuple(slice(p - r, p + r + 1) for p, r in zip(pos_zyx, reach, strict=True))
        ]

    def _step_from(self, pos: Position) -> None:
        maxima = self._advance(pos).maxima
        self.movement_policy.update_faces(maxima, pos)
        self.view.check_numbers(pos, self._logits[pos], maxima)

    def _advance(self, pos: Position) -> DeviceStep:
        area = self._open()
        own = (pos,) if self.growing is None else (pos, self.growing.start)
        watched = self._positions(own, area.most_watched)
        begin = time.perf_counter_ns()
        step = area.step(pos, watched)
        self._predictions.add(time.perf_counter_ns() - begin)
        if self.history is not None:
            self.history.append((pos, step.deleted))
        if self.options.max_object_voxels and self.growing is not None:
            self.growing.voxels += step.gained
        self._count_visit(pos)
        self._visits.add(pos)
        self._changed = True
        z, y, x = pos
        self._logits = dict(zip(watched, step.watched, strict=True))
        for logit, (dz, dy, dx) in itertools.chain(*step.maxima):
            self._logits[z + dz, y + dy, x + dx] = logit
        return step

    def _positions(self, first: Sequence[Position], most: int) -> list[Position]:
        """Some positions, and those that the movement policy has next."""
        following = filter(self.view.contains, self.movement_policy.pending())
        return list(dict.fromkeys(itertools.islice(itertools.chain(first, following), most)))

    def _logit_at(self, pos: Position) -> np.float32:
        if pos not in self._logits:
            if not self._changed or self._area is None:
                return self._copy[pos]
            wanted = self._positions((pos,), _AT_ONCE)
            self._logits.update(zip(wanted, self._area.logits(wanted), strict=True))
        # Compared with thresholds in the type of the seed.
        return np.float32(self._logits[pos])


class _Visits:
    """Which voxels of the seed are NaN, as follows from the steps; found out when somebody asks."""

    def __init__(self, shape_zyx: Zyx, reach_zyx: Zyx):
        self._shape, self._reach = shape_zyx, reach_zyx
        self._visited: np.ndarray | None = None
        # What is not in the array yet.
        self._parts: list[Extent] = []

    def begin(self, start: Position, before: Extent) -> None:
        """Begins an object at a position; `before` is the extent of the one before."""
        if self._visited is not None:
            self._visited[before] = False
        z, y, x = (slice(p, p + 1) for p in start)
        self._parts = [(z, y, x)]

    def add(self, pos: Position) -> None:
        """Takes in a step."""
        z, y, x = (slice(p - r, p + r + 1) for p, r in zip(pos, self._reach, strict=True))
        self._parts.append((z, y, x))

    def load(self, seed: np.ndarray, extent: Extent) -> None:
        """Begins with an object of which the seed is given; it is NaN outside of the extent."""
        self._visited = np.zeros(self._shape, bool)
        self._visited[extent] = ~np.isnan(seed)
        self._parts = []

    def unvisited(self, extent: Extent) -> np.ndarray:
        """Where a part of the seed is NaN, bool [z, y, x]."""
        if self._visited is None:
            self._visited = np.zeros(self._shape, bool)
        for part in self._parts:
            self._visited[part] = True
        self._parts.clear()
        return ~self._visited[extent]
