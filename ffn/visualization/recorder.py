"""Growing one object and watching it: what the notebook and the animation share.

    canvas, _ = runner.make_canvas(corner_zyx, size_zyx)
    start = start_in(canvas, Xyz(60, 55, 40))
    recorder = Recorder(FloodView(canvas, runner.info.input_image_size, start), every=5, show=show)
    print(grow(canvas, start, recorder))
    recorder.finish()

`show` gets each picture as an array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.special import expit

from ffn.inference.core.canvas import Canvas
from ffn.utils.errors import UserError
from ffn.utils.geometry import Position, Xyz, Zyx, both_orders
from ffn.visualization.flood import FloodView, absolute, object_size, to_palette


class Frame(NamedTuple):
    """A picture that was kept.

    Attributes:
      step: number of the network step.
      image: with a palette.
    """

    step: int
    image: Image.Image


class Recorder:
    """Callback for `canvas.segment_at` that draws every N-th step of one object.

    Attributes:
      every: steps between pictures; doubled whenever `max_frames` is reached.
      frames: the frames that were kept.
    """

    def __init__(
        self,
        view: FloodView,
        every: int = 1,
        max_frames: int = 0,
        show: Callable[[np.ndarray], object] | None = None,
    ):
        """Makes a recorder for one object.

        Args:
          view: draws.
          every: draw the first step and then every N-th.
          max_frames: keep at most this many frames, at least 2: when full, every other one is
            dropped; 0 keeps none.
          show: called with each picture, uint8 [rows, columns, 3].
        """
        if every < 1 or max_frames < 0 or max_frames == 1:
            raise UserError(
                f'every is {every} and max_frames {max_frames}; expected 1 or more, and 0 or 2 or more'
            )
        self.every = every
        self.frames: list[Frame] = []
        self._view, self._max_frames, self._show = view, max_frames, show
        self._last: tuple[int, Position] | None = None
        self._drawn = 0

    def __call__(self, canvas: Canvas, position_zyx: Position) -> None:
        """Notes a step, and draws it if it is due."""
        if canvas.growing is None:
            raise ValueError('a recorder is called while an object grows')
        step = canvas.growing.iters
        self._last = step, position_zyx
        # One slot is reserved for the last step.
        while self._max_frames and self._is_due(step) and len(self.frames) >= self._max_frames - 1:
            self.every *= 2
            self.frames = [frame for frame in self.frames if self._is_due(frame.step)]
        if self._is_due(step):
            self._draw(step, position_zyx)

    def finish(self) -> None:
        """Draws the last step if it has not been drawn."""
        if self._last and self._last[0] != self._drawn:
            self._draw(*self._last)

    def _is_due(self, step: int) -> bool:
        return (step - 1) % self.every == 0

    def _draw(self, step: int, position: Position) -> None:
        picture = self._view.moment(step, position)
        self._drawn = step
        if self._show is not None:
            self._show(picture)
        if self._max_frames:
            self.frames.append(Frame(step, to_palette(picture)))


def start_in(canvas: Canvas, start: Xyz, what: str = '--start') -> Zyx:
    """Converts a start from coordinates of the volume to those of the canvas.

    Args:
      canvas: where the object is to grow.
      start: voxel of the volume.
      what: what the start is called in errors.

    Raises:
      UserError: no object can be started there.
    """
    position = Zyx(*(p - c for p, c in zip(start.zyx, canvas.corner_zyx, strict=True)))
    first, shape = canvas.margin_zyx, canvas.shape
    last = Zyx(*(n - m - 1 for n, m in zip(shape, first, strict=True)))
    if not all(a <= p <= b for a, p, b in zip(first, position, last, strict=True)):
        raise UserError(
            f'{what} is {both_orders(start)}, where the field of view does not fit into the box; '
            f'expected {both_orders(absolute(canvas, first))} to '
            f'{both_orders(absolute(canvas, last))}'
        )
    if (segment := int(canvas.segmentation[position])) > 0:
        whose = 'init_segmentation' if segment <= canvas.prefilled else f'object {segment}'
        raise UserError(f'{what} is {both_orders(start)}, which {whose} has already filled')
    if not canvas.restrictor.allows(position):
        raise UserError(f'{what} is {both_orders(start)}, which a mask of the request excludes')
    return position


@dataclass(frozen=True)
class Grown:
    """How the object grew from its start.

    Attributes:
      steps: number of network steps.
      voxels: number of voxels that would become a segment.
      complete: whether the object grew to its end; otherwise `max_steps` stopped it.
      start_is_strong: whether the starting voxel stayed above the move threshold.
      start_probability: final probability of the starting voxel.
      move_threshold: as a probability.
      min_segment_size: minimum number of voxels of an object.
    """

    steps: int
    voxels: int
    complete: bool
    start_is_strong: bool
    start_probability: float
    move_threshold: float
    min_segment_size: int

    def __str__(self) -> str:
        stayed = 'stayed above' if self.start_is_strong else 'fell below'
        text = (
            f'{self.steps} steps, {self.voxels} voxels; the start {stayed} the move threshold '
            f'({self.start_probability:.3f}, threshold {self.move_threshold:.3f})'
        )
        if not self.start_is_strong:
            return f'{text}, so inference rejects the object as weak'
        if not self.complete:
            return f'{text}; stopped before its end'
        if self.voxels < self.min_segment_size:
            return f'{text}; inference rejects it, min_segment_size is {self.min_segment_size}'
        return text


class _EnoughSteps(Exception):  # noqa: N818 - not a failure
    """Ends `segment_at` from its callback."""


def grow(
    canvas: Canvas,
    start_zyx: Sequence[int],
    callback: Callable[[Canvas, Position], object] | None = None,
    max_steps: int | None = None,
) -> Grown:
    """Grows one object with `canvas.segment_at`; afterwards `canvas.seed` holds it.

    Args:
      canvas: canvas to grow on.
      start_zyx: seed within the canvas, see `start_in`.
      callback: called with the canvas and the position after every step.
      max_steps: maximum number of steps.
    """
    steps = 0

    def step(canvas: Canvas, position: Position) -> None:
        nonlocal steps
        steps += 1
        if callback is not None:
            callback(canvas, position)
        if steps == max_steps:
            raise _EnoughSteps

    complete = True
    try:
        canvas.segment_at(start_zyx, callback=step)
    except _EnoughSteps:
        complete = False
    finally:
        canvas.growing = None
    logit = canvas.seed[tuple(start_zyx)]
    return Grown(
        steps,
        object_size(canvas),
        complete,
        bool(logit >= canvas.options.move_threshold),
        float(expit(logit)),
        float(expit(canvas.options.move_threshold)),
        canvas.options.min_segment_size,
    )
