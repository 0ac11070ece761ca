"""A session of seeding as Neuroglancer shows it: the object that grows, its field of view, and accepted objects.

All of it is voxels that are read from the session when the viewer asks for them: showing that they have changed then
changes nothing else in the viewer, whose place and scale the user may be changing at the same time.

Neuroglancer (2.41) drops what it has of a source when it is told that this has changed, and draws nothing of it until it has
been fetched anew. So the object is there twice, and the two are fetched in turns: one of them is always drawn.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import neuroglancer
import numpy as np
from neuroglancer import skeleton
from skimage import measure

from ffn.inference.core.canvas import Extent
from ffn.proofreading.seeding.look import MOVING
from ffn.proofreading.seeding.seeding import Seeding
from ffn.proofreading.viewing.sources import ServedArray, coordinate_space
from ffn.utils.geometry import Box, Zyx

# Names of the layers, and ids in the first one.
GROWING, ACCEPTED = 'growing', 'accepted'
OBJECT, FRAME = 1, 2
_COLORS = {OBJECT: '#ff7814', FRAME: '#ffeb00'}
# How opaque the object is while one of the two is drawn; both together are about as opaque as other layers.
_ALPHA = 0.35
# Seconds that something is shown at least, and at most: a page may have been opened long after it was asked for.
_SHOWN_S, _LONGEST_S = 0.2, 2.0
# Voxels of an object whose surface is drawn in full.
_FINE_VOXELS = 2e5


class _Pace:
    """When to draw something again: once the viewer has it, and has shown it for as long as it took to get it.

    What changes is fetched anew, and not shown until it is there: asking faster than that would show nothing at all.
    """

    def __init__(self) -> None:
        self._asked = self._fetched = 0.0
        self._reading = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def fetching(self) -> Iterator[None]:
        """While the context lasts, a part is being fetched."""
        with self._lock:
            self._reading += 1
        try:
            yield
        finally:
            with self._lock:
                self._reading -= 1
                self._fetched = time.monotonic()

    def ask(self) -> bool:
        """Whether it may be drawn again now; if so, that is what happens."""
        now = time.monotonic()
        took = self._fetched - self._asked
        if self._reading or took < 0 or now - self._fetched < min(max(took, _SHOWN_S), _LONGEST_S):
            return False  # the viewer has nothing of it yet, or has just got it
        self._asked = now
        return True


class _Accepted:
    """Accepted objects, and those of init_segmentation, as an array [x, y, z] that is read when it is indexed."""

    dtype: np.dtype = np.dtype(np.uint32)

    def __init__(self, seeding: Seeding):
        self.shape = tuple(seeding.box.size)
        self._seeding = seeding

    def read(self, part: Extent) -> np.ndarray:
        """Reads a part, [z, y, x]."""
        return self._seeding.read_segments(part)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        x, y, z = index
        return self.read((z, y, x)).T

    def transpose(self) -> np.ndarray:
        """All of it, [z, y, x], for meshes."""
        return self.read((slice(None), slice(None), slice(None)))


class _Growing(_Accepted):
    """The object that grows."""

    dtype: np.dtype = np.dtype(np.uint8)

    def __init__(self, seeding: Seeding, pace: _Pace):
        super().__init__(seeding)
        self._pace = pace

    def read(self, part: Extent) -> np.ndarray:
        """Reads a part, [z, y, x]."""
        with self._pace.fetching():
            return self._seeding.read_object(part).astype(self.dtype)


class _Frame(_Accepted):
    """The sides of the field of view, while it moves."""

    dtype: np.dtype = np.dtype(np.uint8)

    def read(self, part: Extent) -> np.ndarray:
        """Reads a part, [z, y, x]."""
        look, shape = self._seeding.look(), Zyx.of(self.shape[::-1])
        if look.state not in MOVING or look.fov is None:
            return np.zeros(
                [len(range(*s.indices(n))) for s, n in zip(part, shape, strict=True)], self.dtype
            )
        sides = _sides(part, shape, look.fov.relative_to(self._seeding.box.start))
        return sides.astype(self.dtype) * self.dtype.type(FRAME)


def _sides(part: Extent, shape: Zyx, box: Box) -> np.ndarray:
    """Where a part of an array is on a side of a box, bool [z, y, x]."""
    inside: Any = True
    on_side: Any = False
    for axis, (span, n) in enumerate(zip(part, shape, strict=True)):
        first, last = box.start.zyx[axis], box.end.zyx[axis] - 1
        places = np.arange(*span.indices(n)).reshape([-1 if a == axis else 1 for a in range(3)])
        inside = inside & (places >= first) & (places <= last)
        on_side = on_side | (places == first) | (places == last)
    return np.logical_and(inside, on_side)


class _Outlines(skeleton.SkeletonSource):
    """The object that grows, or its field of view, as lines, for the panel in 3-d.

    Neuroglancer does not fetch the meshes of a volume again when that has changed, but lines it does.
    """

    def __init__(
        self, seeding: Seeding, pace: _Pace, voxel_size: tuple[float, float, float], shown: int
    ):
        super().__init__(coordinate_space(voxel_size))
        self._seeding, self._pace, self._shown = seeding, pace, shown

    def get_skeleton(self, object_id: int) -> skeleton.Skeleton:
        """Makes the lines of OBJECT or FRAME, if they are shown by this source."""
        look = self._seeding.look()
        points, edges = np.zeros((0, 3)), np.zeros((0, 2), int)
        if object_id != self._shown:
            return skeleton.Skeleton(points, edges)
        with self._pace.fetching():
            if object_id == FRAME and look.fov is not None and look.state in MOVING:
                points, edges = _box_lines(look.fov)
            elif object_id == OBJECT and look.extent is not None:
                part = look.extent.relative_to(self._seeding.box.start).slices_zyx
                points, edges = _surface_lines(self._seeding.read_object(part))
                points += look.extent.start
        return skeleton.Skeleton(points, edges)


def _box_lines(box: Box) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array(list(itertools.product(*zip(box.start, box.end, strict=True))), float)
    edges = [(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]
    return corners, np.array(edges)


def _surface_lines(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A net over the surface of an object: points x, y, z in voxels, and the pairs of them that are joined."""
    step = math.ceil((mask.size / _FINE_VOXELS) ** (1 / 3))
    coarse = np.pad(mask[::step, ::step, ::step], 1)
    if not coarse.any():
        return np.zeros((0, 3)), np.zeros((0, 2), int)
    points, faces, _, _ = measure.marching_cubes(coarse.astype(np.float32), 0.5)
    edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [0, 2]]].reshape(-1, 2)), axis=0)
    return (points[:, ::-1] - 1) * step + 0.5, edges


class SeedingLayers:
    """The layers of a session in a viewer."""

    def __init__(self, seeding: Seeding, voxel_size: tuple[float, float, float]):
        """Makes the layers.

        Args:
          seeding: the session.
          voxel_size: x, y, z nanometres.
        """
        self._seeding, self._voxel_size = seeding, voxel_size
        self._pace = _Pace()
        # The object twice, voxels and lines of each, and which version of it each has; and the field of view.
        self._object = [
            (self._serve(_Growing(seeding, self._pace)), self._lines(OBJECT)) for _ in range(2)
        ]
        self._versions = [-1, -1]
        self._frame = self._serve(_Frame(seeding)), self._lines(FRAME)
        self._accepted = self._serve(_Accepted(seeding))
        self._ids: tuple[int, ...] = ()

    def _serve(self, voxels: _Accepted) -> ServedArray:
        return ServedArray(voxels, self._seeding.box.start, self._voxel_size, labels=True)

    def _lines(self, shown: int) -> _Outlines:
        return _Outlines(self._seeding, self._pace, self._voxel_size, shown)

    def add_to(self, state: Any) -> None:
        """Adds them to the state of a viewer."""
        accepted = neuroglancer.SegmentationLayer(source=self._accepted, not_selected_alpha=0.25)
        sources: list[Any] = []
        for voxels, lines in (*self._object, self._frame):
            voxels_only = neuroglancer.LayerDataSource(
                url=voxels,
                subsources={'default': True, 'bounds': True},  # no meshes
                enable_default_subsources=False,
            )
            sources += voxels_only, lines
        growing = neuroglancer.SegmentationLayer(
            source=sources,
            selected_alpha=_ALPHA,
            segments=list(_COLORS),
            segment_colors=_COLORS,
            skeleton_rendering={'mode2d': 'lines', 'lineWidth2d': 0.1},
        )
        state.cross_section_depth = 1  # of the lines, show those in the plane only
        state.layers.append(name=ACCEPTED, layer=accepted)
        state.layers.append(name=GROWING, layer=growing)

    def draw_object(self, version: int) -> None:
        """Has the object drawn again, if it is not too early for that; to be called again and again.

        Args:
          version: of the object, see `ffn.proofreading.seeding.look`.
        """
        if self._versions == [version] * 2 or not self._pace.ask():
            return
        older = int(np.argmin(self._versions))
        self._versions[older] = version
        for source in (*self._object[older], *self._frame):
            source.invalidate()

    def draw_accepted(self, state: Any, ids: tuple[int, ...]) -> None:
        """Has the accepted objects drawn again.

        Args:
          state: of the viewer.
          ids: of these objects; they are drawn in 3-d as well.
        """
        is_more = self._ids == ids[: len(self._ids)]
        self._ids = ids
        if not is_more:  # otherwise the mesh of what was taken back would stay that of its id
            self._accepted = self._serve(_Accepted(self._seeding))
        self._accepted.invalidate()
        if ACCEPTED in {layer.name for layer in state.layers}:  # not removed by the user
            layer = state.layers[ACCEPTED].layer
            layer.segments = ids
            if not is_more:
                layer.source = self._accepted
