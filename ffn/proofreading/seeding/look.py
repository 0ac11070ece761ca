"""What a session of seeding looks like at one moment, for a person and for a viewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scipy.special import expit

from ffn.inference.core.steering import SteeredCanvas
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.visualization.flood import absolute

# 'stopping' lasts until the step that is being computed has ended.
State = Literal['empty', 'growing', 'stopping', 'stopped', 'complete']

# States in which the field of view has a place to go on from.
MOVING: tuple[State, ...] = ('growing', 'stopping', 'stopped')


@dataclass(frozen=True)
class Look:
    """What a session looks like at one moment; places are in coordinates of the volume.

    Attributes:
      state: of the object; 'empty' where there is none.
      message: what happened last, or went wrong; '' at first.
      start: the voxel from which the object grows.
      fov: the field of view of its last step.
      extent: where the object is, and what else the network has seen for it.
      steps: that the network made for it.
      step_ms: how long one took, on average.
      voxels: of the object.
      weak: whether its start has fallen below the move threshold: inference would reject the object.
      move_threshold: as a probability.
      segment_threshold: as a probability.
      accepted: ids of the objects that were accepted, in this session and earlier ones.
      version: another number whenever the object has changed.
    """

    state: State
    message: str
    start: Xyz | None
    fov: Box | None
    extent: Box | None
    steps: int
    step_ms: float
    voxels: int
    weak: bool
    move_threshold: float
    segment_threshold: float
    accepted: tuple[int, ...]
    version: int

    @classmethod
    def at(cls, canvas: SteeredCanvas, fov: Xyz, state: State, message: str, version: int) -> Look:
        """Looks at a canvas.

        Args:
          canvas: its lock is held.
          fov: the network's field of view.
          state: see the attribute.
          message: see the attribute.
          version: see the attribute.
        """
        grown, options = canvas.grown, canvas.options
        start = place = extent = None
        if grown is not None:
            start = absolute(canvas, grown.start)
            half = Xyz(*(n // 2 for n in fov))
            place = Box(absolute(canvas, canvas.position), Xyz(1, 1, 1)).grow(half)
            extent = _box(canvas)
        return cls(
            state=state,
            message=message,
            start=start,
            fov=place,
            extent=extent,
            steps=grown.iters if grown else 0,
            step_ms=1e3 * grown.seconds / max(grown.iters, 1) if grown else 0.0,
            voxels=canvas.voxels,
            weak=grown is not None and not canvas.view.reaches_threshold(grown.start),
            move_threshold=float(expit(options.move_threshold)),
            segment_threshold=float(expit(options.segment_threshold)),
            accepted=tuple(sorted(canvas.origins)),
            version=version,
        )

    def __str__(self) -> str:
        thresholds = f'move {self.move_threshold:.3g}, segment {self.segment_threshold:.3g}'
        text = f'{len(self.accepted)} accepted; thresholds: {thresholds}'
        if self.state != 'empty':
            weak = ', weak' if self.weak else ''
            text = (
                f'{self.state}{weak}: {self.steps} steps of {self.step_ms:.0f} ms, {self.voxels} voxels; '
                + text
            )
        return f'{text}; {self.message}' if self.message else text


def _box(canvas: SteeredCanvas) -> Box:
    """What the object's fields of view touched, in coordinates of the volume."""
    extent = canvas.visited_extent()
    ends = [part.indices(n) for part, n in zip(extent, canvas.shape, strict=True)]
    start = [first for first, _, _ in ends]
    return Box(absolute(canvas, start), Zyx.of(stop - first for first, stop, _ in ends).xyz)
