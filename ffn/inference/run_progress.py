"""The progress bar of an inference run: seeds, objects, filled fraction, steps per second, ETA."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from types import TracebackType

from ffn.inference.core.canvas import Canvas
from ffn.utils.geometry import Zyx
from ffn.utils.progress import progress

REFRESH_S = 0.2


class _Shown:
    """What a canvas contributes to the bar; numbers only, since it outlives the canvas."""

    total: int | None
    seeds: int

    def __init__(self, canvas: Canvas):
        self.steps_before = canvas.counters['predict-calls']
        self.seeds_before = canvas.seed_policy.index if canvas.seed_policy else 0
        self.next_update = 0.0
        self._given = canvas.segmented_voxels() - canvas.counters['voxels-segmented']
        self.update(canvas)

    def update(self, canvas: Canvas) -> None:
        counts = canvas.counters.as_dict()
        self.total, self.seeds = None, 0
        if canvas.seed_policy is not None:
            self.total, self.seeds = canvas.seed_policy.total, canvas.seed_policy.index
        self.steps = counts.get('predict-calls', 0) - self.steps_before
        self.objects, self.voxels = len(canvas.origins), canvas.image.size
        self.filled = self._given + counts.get('voxels-segmented', 0)
        self.growing = canvas.growing.iters if canvas.growing else None


class RunProgress:
    """One bar for all boxes of a run; a context manager."""

    def __init__(self, boxes: int, quiet: bool = False):
        """Makes the bar.

        Args:
          boxes: number of boxes of the run.
          quiet: shows nothing.
        """
        self._bar = progress(desc='seeds', unit='seed', quiet=quiet, smoothing=0)
        self._boxes, self._done, self._without_steps = boxes, 0, 0
        self._shown: list[_Shown] = []
        self._corners: set[Zyx] = set()
        self._mutex = threading.Lock()
        self._begin = time.monotonic()

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    @contextlib.contextmanager
    def canvas(self, canvas: Canvas) -> Iterator[None]:
        """Includes a canvas while it is segmented, by observing its steps."""
        shown = _Shown(canvas)
        with self._mutex:
            self._shown.append(shown)
            self._corners.add(canvas.corner_zyx)
            if not self._bar.disable:
                # Work done by earlier runs must not count towards the rate.
                self._bar.initial += shown.seeds_before

        def update(canvas: Canvas) -> None:
            now = time.monotonic()
            if not self._bar.disable and now >= shown.next_update:
                shown.next_update = now + REFRESH_S
                shown.update(canvas)
                self._draw()

        try:
            with canvas.observed_by(update):
                yield
        finally:
            shown.update(canvas)
            with self._mutex:
                self._done += 1
            if not self._bar.disable:
                self._draw()

    def box_ended(self, corner_zyx: Zyx) -> None:
        """Counts a box as done even if it never had a canvas with seeds."""
        with self._mutex:
            if corner_zyx in self._corners:
                return
            self._done += 1
            self._without_steps += 1
        if not self._bar.disable:
            self._draw()

    def _draw(self) -> None:
        with self._mutex:
            shown = self._shown
            totals = [s.total for s in shown if s.total is not None]
            # Boxes that have not started are assumed to have as many seeds as the others.
            boxes = self._boxes - self._without_steps
            self._bar.total = round(sum(totals) / len(totals) * boxes) if totals else None
            self._bar.n = sum(s.seeds for s in shown)
            self._bar.set_postfix_str(self.text(), refresh=False)
            self._bar.refresh()

    def text(self) -> str:
        """The text behind the bar."""
        shown = self._shown
        filled = sum(s.filled for s in shown) / max(sum(s.voxels for s in shown), 1)
        steps = sum(s.steps for s in shown) / max(time.monotonic() - self._begin, 1e-9)
        parts = [
            f'{sum(s.objects for s in shown)} objects',
            f'{filled:.1%} filled',
            f'{steps:.1f} steps/s',
        ]
        if self._boxes > 1:
            parts.insert(0, f'{self._done}/{self._boxes} boxes')
        elif shown and shown[-1].growing is not None:
            parts.append(f'step {shown[-1].growing} of this one')
        return ', '.join(parts)
