"""What a run of inference says of itself: a progress bar, and a summary at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from ffn.inference.canvas import Canvas
from ffn.utils.progress import progress


@contextlib.contextmanager
def progress_bar(canvas: Canvas, quiet: bool = False) -> Iterator[None]:
    """Shows seeds done, objects, filled part and steps per second while a canvas is segmented.

    Args:
      canvas: its `between_steps` is extended.
      quiet: shows nothing.
    """
    inner = canvas.between_steps
    begun, shown = time.monotonic(), 0.0
    steps_before = canvas.counters['predict-calls']
    filled_before = canvas.counters['voxels-segmented']

    with progress(desc='seeds', unit='seed', quiet=quiet) as bar:

        def update(canvas: Canvas) -> None:
            nonlocal shown
            now = time.monotonic()
            if not bar.disable and now - shown > 0.2:
                shown = now
                steps = canvas.counters['predict-calls'] - steps_before
                filled = canvas.counters['voxels-segmented'] - filled_before
                bar.total = canvas.seed_policy.total
                bar.set_postfix_str(
                    f'{len(canvas.origins)} objects, {filled / canvas.image.size:.1%} filled, '
                    f'{steps / (now - begun):.1f} steps/s'
                    + (f', step {canvas.growing.iters} of this one' if canvas.growing else ''),
                    refresh=False,
                )
                bar.n = canvas.seed_policy.index
                bar.refresh()
            inner(canvas)

        canvas.between_steps = update
        try:
            yield
        finally:
            canvas.between_steps = inner


def summary(canvas: Canvas, seconds: float) -> str:
    """Says in a few lines what became of the seeds and how fast the network ran.

    Args:
      canvas: segmented.
      seconds: time that the run took.
    """
    counts = canvas.counters.as_dict()
    steps = counts.get('predict-calls', 0)
    rejected = {why: counts.get(f'rejected-{why}', 0) for why in ('weak', 'small', 'close')}
    per_step = counts.get('predict-time-ms', 0) / max(steps, 1)
    return (
        f'{counts.get("seeds", 0)} seeds: {len(canvas.origins)} objects kept; rejected {rejected["weak"]} weak, '
        f'{rejected["small"]} small, {rejected["close"]} too close to a segment; the others were '
        f'taken or out of reach\n'
        f'{canvas.segmented_fraction():.1%} of {canvas.image.size} voxels filled\n'
        f'{steps} network steps, {per_step:.1f} ms each; {seconds:.1f} s, '
        f'{canvas.image.size / max(seconds, 1e-9):.0f} voxels/s'
    )
