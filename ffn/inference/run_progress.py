"""The progress bar of an inference run: seeds, objects, filled fraction, steps per second, ETA."""

from __future__ import annotations

import collections
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

    def counts(self) -> dict[str, int]:
        """What is summed over canvases."""
        return {
            'totals': self.total or 0,
            'with a total': self.total is not None,
            'seeds': self.seeds,
            'objects': self.objects,
            'filled': self.filled,
            'voxels': self.voxels,
            'steps': self.steps,
        }


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
        # Canvases that are done are a sum, so that a look at all takes the same time however many they are.
        self._past: collections.Counter[str] = collections.Counter()
        self._active: list[_Shown] = []
        self._latest: _Shown | None = None
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
            self._active.append(shown)
            self._latest = shown
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
                self._active.remove(shown)
                self._past.update(shown.counts())
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
            sums = self._sums()
            # Boxes that have not started are assumed to have as many seeds as the others.
            boxes, known = self._boxes - self._without_steps, sums['with a total']
            self._bar.total = round(sums['totals'] / known * boxes) if known else None
            self._bar.n = sums['seeds']
            self._bar.set_postfix_str(self.text(), refresh=False)
            self._bar.refresh()

    def text(self) -> str:
        """The text behind the bar."""
        sums = self._sums()
        filled = sums['filled'] / max(sums['voxels'], 1)
        steps = sums['steps'] / max(time.monotonic() - self._begin, 1e-9)
        parts = [
            f'{sums["objects"]} objects',
            f'{filled:.1%} filled',
            f'{steps:.1f} steps/s',
        ]
        if self._boxes > 1:
            parts.insert(0, f'{self._done}/{self._boxes} boxes')
        elif self._latest is not None and self._latest.growing is not None:
            parts.append(f'step {self._latest.growing} of this one')
        return ', '.join(parts)

    def _sums(self) -> collections.Counter[str]:
        sums = self._past.copy()
        for shown in self._active:
            sums.update(shown.counts())
        return sums
