"""The report at the end of an inference run: as text, and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffn.inference.core.canvas import Canvas
from ffn.utils import atomic
from ffn.utils.geometry import Box, Xyz

REASONS = ('weak', 'small', 'close')


@dataclass
class BoxReport:
    """The outcome of one box.

    Attributes:
      corner_xyz: first voxel.
      size_xyz: voxels.
      status: 'segmented', 'exists' (from an earlier run), 'masked' (everywhere), 'constant'
        (image; nothing was tried), 'interrupted' or 'failed'.
      error: why it failed.
      seconds: duration of the segmentation, earlier runs included.
      resumed_steps: network steps of earlier runs.
      seeds: seeds that were tried.
      objects: objects kept.
      joined: objects that became part of one of init_segmentation; they are not among the others.
      rejected: reason → number of seeds: the object became too weak or was too small, or the seed was too
        close to a segment.
      stopped_at_limit: id → the option that ended the growth of an object that was kept, or became part of this one.
      filled_voxels: voxels of all objects, including those that the box was filled with beforehand.
      steps: network steps.
      step_ms: duration of a step as the canvas sees it, including the time spent waiting for others.
      counters: all counters.
    """

    corner_xyz: Xyz
    size_xyz: Xyz
    status: str
    error: str = ''
    seconds: float = 0.0
    resumed_steps: int = 0
    seeds: int = 0
    objects: int = 0
    joined: int = 0
    rejected: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    stopped_at_limit: dict[int, str] = field(default_factory=dict)
    filled_voxels: int = 0
    steps: int = 0
    step_ms: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def voxels(self) -> int:
        """Size of the box."""
        return self.size_xyz.x * self.size_xyz.y * self.size_xyz.z

    @classmethod
    def of_canvas(cls, canvas: Canvas, status: str = 'segmented') -> BoxReport:
        """Makes the report of a box that has a canvas."""
        counts = canvas.counters.as_dict()
        steps = counts.get('predict-calls', 0)
        return cls(
            canvas.corner_zyx.xyz,
            canvas.shape.xyz,
            canvas.idle or status,
            seconds=counts.get('segment_all-time-ms', 0) / 1e3,
            resumed_steps=canvas.resumed_steps,
            seeds=counts.get('seeds', 0),
            objects=len(canvas.origins),
            joined=counts.get('joined', 0),
            rejected={why: counts.get(f'rejected-{why}', 0) for why in REASONS},
            stopped_at_limit=dict(canvas.limited),
            filled_voxels=canvas.segmented_voxels(),
            steps=steps,
            step_ms=counts.get('predict-time-ms', 0) / max(steps, 1),
            counters=counts,
        )

    @classmethod
    def without_canvas(cls, box: Box, status: str, error: str = '') -> BoxReport:
        """Makes the report of a box that was not segmented."""
        return cls(box.start, box.size, status, error)


def _add_up(boxes: Sequence[BoxReport]) -> dict[str, Any]:
    done = [box for box in boxes if box.counters]
    steps = sum(box.steps for box in done)
    return {
        'boxes': {
            status: sum(box.status == status for box in boxes)
            for status in sorted({box.status for box in boxes})
        },
        'voxels': sum(box.voxels for box in done),
        'filled_voxels': sum(box.filled_voxels for box in done),
        'seeds': sum(box.seeds for box in done),
        'objects': sum(box.objects for box in done),
        'joined': sum(box.joined for box in done),
        'rejected': {why: sum(box.rejected[why] for box in done) for why in REASONS},
        'stopped_at_limit': sum(len(box.stopped_at_limit) for box in done),
        'steps': steps,
        'step_ms': sum(box.step_ms * box.steps for box in done) / max(steps, 1),
        'resumed_steps': sum(box.resumed_steps for box in done),
    }


def summary(boxes: Sequence[BoxReport], seconds: float) -> str:
    """Summarizes in a few lines what became of the seeds and how fast the network ran.

    Args:
      boxes: all boxes of the run.
      seconds: wall time of this run.
    """
    total = _add_up(boxes)
    if not total['voxels']:
        exists = [box.status for box in boxes] == ['exists']
        return 'the result exists; nothing to do' if exists else _format_statuses(total)
    rejected, rates = total['rejected'], _rates(total, seconds)
    lines = [_format_statuses(total)] if len(boxes) > 1 else []
    lines += [
        f'{total["seeds"]} seeds: {total["objects"]} objects kept; rejected {rejected["weak"]} weak, '
        f'{rejected["small"]} small, {rejected["close"]} too close to a segment; the others were '
        'taken, masked or out of reach',
        f'{total["filled_voxels"] / total["voxels"]:.1%} of {total["voxels"]} voxels filled',
        f'{total["steps"]} network steps, {total["step_ms"]:.1f} ms each; {seconds:.1f} s, '
        f'{rates["steps_per_second"]:.1f} steps/s, {rates["voxels_per_second"]:.0f} voxels/s',
    ]
    if total['joined']:
        lines.append(f'{total["joined"]} more objects became part of one of init_segmentation')
    if total['resumed_steps']:
        lines.append(f'{total["resumed_steps"]} of the steps were made by earlier runs')
    if total['stopped_at_limit']:
        lines.append(
            f'{total["stopped_at_limit"]} objects stopped growing at max_object_steps or '
            'max_object_voxels, and stay as they are; --report lists them'
        )
    return '\n'.join(lines)


def _rates(total: Mapping[str, Any], seconds: float) -> dict[str, float]:
    """Steps and voxels per second; of the voxels, this run is credited with its share of the steps."""
    steps = total['steps'] - total['resumed_steps']
    share = steps / total['steps'] if total['steps'] else 1.0
    return {
        'steps_per_second': steps / max(seconds, 1e-9),
        'voxels_per_second': share * total['voxels'] / max(seconds, 1e-9),
    }


def _format_statuses(total: Mapping[str, Any]) -> str:
    counts = ', '.join(f'{count} {status}' for status, count in total['boxes'].items())
    boxes = sum(total['boxes'].values())
    return f'{boxes} {"box" if boxes == 1 else "boxes"}: {counts}'


def sum_counters(boxes: Iterable[BoxReport]) -> dict[str, int]:
    """Sums the counters of boxes, and their objects."""
    total: dict[str, int] = {}
    for box in boxes:
        if box.counters:
            for name, value in {**box.counters, 'objects': box.objects}.items():
                total[name] = total.get(name, 0) + value
    return total


def write_counters(path: Path, counters: Mapping[str, int]) -> None:
    """Writes counters as text, one a line."""
    with atomic.atomic_path(path) as temporary:
        lines = sorted(counters.items())
        temporary.write_text(''.join(f'{name}: {value}\n' for name, value in lines))


def write_json(
    path: str | Path, boxes: Sequence[BoxReport], seconds: float, settings: Mapping[str, Any]
) -> None:
    """Writes the report of a run.

    Args:
      path: the file.
      boxes: all boxes of the run.
      seconds: wall time of this run.
      settings: how it was run, such as on which device.
    """
    total = _add_up(boxes)
    filled = total['filled_voxels'] / max(total['voxels'], 1)
    total |= {'seconds': seconds, 'filled_fraction': filled, **_rates(total, seconds)}
    report = {**settings, 'total': total, 'boxes': [dataclasses.asdict(box) for box in boxes]}
    atomic.write_json(path, report)
