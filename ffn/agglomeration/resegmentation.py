"""Resegmentation around a decision point: does one segment grow into the other, and vice versa?

Januszewski et al. 2018, Methods, "Agglomeration". Around the decision point of two segments, both are
removed from the segmentation and each is re-seeded at the voxel farthest from its surface and grown again,
while all other segments stay in place. `ffn.agglomeration.evidence` scores the result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import edt
import numpy as np
from scipy.special import expit

from ffn.agglomeration.config import Resegmentation, ResegmentationConfig, to_message
from ffn.inference import storage
from ffn.inference.core.canvas import Canvas, Extent
from ffn.inference.core.restrictor import Restrictor
from ffn.inference.runner import Runner
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.npz import bytes_member


@dataclass
class ResegmentedObject:
    """A segment grown again.

    Attributes:
      starts: seeds that were tried, within the canvas; the last one led to the result.
      logits: float32 [z, y, x] of the last attempt, NaN where not visited.
      history: int32 [n, 3], positions of the field of view, z, y, x within the canvas.
      deleted: int64 [n], voxels deleted by each step.
      recovered: whether enough of the original segment was recovered.
    """

    starts: list[Xyz] = field(default_factory=list)
    logits: np.ndarray | None = None
    history: np.ndarray | None = None
    deleted: np.ndarray | None = None
    recovered: bool = False


def result_path(config: ResegmentationConfig, task: Resegmentation) -> Path:
    """Returns the path of a result.

    `ID_A-ID_B_at_X_Y_Z.npz`, in a subfolder named after the first digits of the MD5 of both ids if
    subdir_digits is set; ID_B is 0 if a single segment is extended.
    """
    directory = config.output_directory
    if config.subdir_digits:
        digest = hashlib.md5(f'{task.id_a}{task.id_b}'.encode(), usedforsecurity=False)
        directory /= digest.hexdigest()[: config.subdir_digits]
    x, y, z = task.point
    return directory / f'{task.id_a}-{task.id_b}_at_{x}_{y}_{z}.npz'


def process_point(config: ResegmentationConfig, runner: Runner, task: Resegmentation) -> Path:
    """Resegments around one point and writes the result, unless it exists.

    Args:
      config: radii, number of attempts, where the result goes.
      runner: made with `config.inference`.
      task: two segments, or a single one.

    Returns:
      Path of the result.

    Raises:
      UserError: the point is too close to the edge of the volume for a field of view, or a segment does
        not exist.
    """
    path = result_path(config, task)
    if path.exists():
        return path
    canvas = make_canvas(config, runner, task.point)
    # The order does not matter: each starts from the same canvas.
    ids = [task.id_a, task.id_b] if task.id_b else [task.id_a]
    masks = remove_segments(canvas, ids)
    objects = []
    with runner.on_canvas(canvas), runner.executor.active():
        for mask in masks:
            objects.append(resegment_object(canvas, mask, config, task.point))
            if config.terminate_early and not objects[-1].recovered:
                canvas.counters.add('terminated-early')
                break
    _write_result(path, config, task, canvas, objects)
    return path


def make_canvas(config: ResegmentationConfig, runner: Runner, point: Xyz) -> Canvas:
    """Creates the canvas around a point, prefilled with the segmentation and clipped to both volumes."""
    box = Box(point, Xyz(1, 1, 1)).grow(config.radius).intersection(runner.known_box)
    if box is None:
        raise UserError(
            f'decision point {point} lies outside the image and its segmentation, {runner.known_box}'
        )
    return runner.open_canvas(box, keep_history=True)


def remove_segments(canvas: Canvas, ids: Sequence[int]) -> list[np.ndarray]:
    """Removes segments from a canvas; for a single segment, all segments are removed.

    Args:
      canvas: prefilled with a segmentation.
      ids: ids in that segmentation.

    Returns:
      The mask of each removed segment, bool [z, y, x].

    Raises:
      UserError: a segment does not exist.
    """
    known = canvas.to_canvas_id
    if absent := [i for i in ids if i not in known or i == 0]:
        box = Box.from_zyx(canvas.corner_zyx, canvas.shape)
        raise UserError(f'segment {absent[0]} is not in the segmentation, {box}')
    masks = [canvas.segmentation == known[i] for i in ids]
    if len(ids) == 1:
        canvas.segmentation[:] = 0
    for mask in masks:
        canvas.segmentation[mask] = 0
    return masks


def resegment_object(
    canvas: Canvas, mask: np.ndarray, config: ResegmentationConfig, point: Xyz
) -> ResegmentedObject:
    """Grows a segment from the voxel farthest from its surface, and from other seeds if that fails.

    Args:
      canvas: canvas from which the segment was removed.
      mask: bool [z, y, x], the original segment.
      config: radii, number of attempts, and what counts as recovered.
      point: decision point, x, y, z in the volume.
    """
    at = Zyx.of(np.subtract(point.zyx, canvas.corner_zyx))
    depth = depth_inside(mask, canvas.view.voxel_size_zyx)
    inner = tuple(slice(m, n - m) for m, n in zip(canvas.margin_zyx, canvas.shape, strict=True))
    allowed = np.zeros(canvas.shape, bool)
    allowed[inner] = True
    if config.init_exclusion_radius is not None:
        allowed[around(at, config.init_exclusion_radius)] = False
    depth[~allowed] = 0
    nearby = analysis_box(at, config.analysis_radius, canvas.shape)
    result = ResegmentedObject()
    seeds = _deepest_first(depth, canvas.restrictor)
    for _ in range(config.max_retry_iters):
        start = next(seeds, None)
        if start is None:
            canvas.counters.add('no-seed-left')
            break
        result.starts.append(start.xyz)
        canvas.segment_at(start)
        found = canvas.seed >= canvas.options.segment_threshold
        if is_recovered(found, mask, nearby, canvas, config.segment_recovery_fraction):
            result.recovered = True
            break
        depth[around(start, config.exclusion_radius)] = 0
    if result.starts:
        result.logits = canvas.seed.copy()
        steps = canvas.history or []
        result.history = np.array([p for p, _ in steps], np.int32).reshape(-1, 3)
        result.deleted = np.array([n for _, n in steps], np.int64)
    return result


def _deepest_first(depth: np.ndarray, restrictor: Restrictor) -> Iterator[Zyx]:
    """Yields where a seed may be placed, by falling depth, ties in C order.

    Args:
      depth: float32 [z, y, x]; what is set to 0 meanwhile is left out.
      restrictor: what it masks is passed over.
    """
    inside = np.flatnonzero(depth)
    for i in inside[np.argsort(-depth.flat[inside], kind='stable')]:
        position = Zyx.of(np.unravel_index(i, depth.shape))
        if depth[position] and restrictor.allows(position) and restrictor.allows_seed(position):
            yield position


def depth_inside(mask: np.ndarray, voxel_size_zyx: Sequence[float]) -> np.ndarray:
    """Returns the distance of every voxel of an object to the nearest voxel outside of it.

    The object may go on beyond the edges of the box, which therefore do not count, unless it fills the box.

    Args:
      mask: bool [z, y, x].
      voxel_size_zyx: size of a voxel.

    Returns:
      float32 [z, y, x], 0 outside.
    """
    distance: np.ndarray = edt.edt(
        np.ascontiguousarray(mask), anisotropy=tuple(voxel_size_zyx), black_border=bool(mask.all())
    )
    return distance


def analysis_box(center: Zyx, radius: Xyz | None, shape_zyx: Sequence[int]) -> Extent:
    """Returns where results are compared: the box of ±analysis_radius, or all without one."""
    if radius is not None:
        return around(center, radius)
    z, y, x = (slice(0, n) for n in shape_zyx)
    return z, y, x


def around(center: Zyx, radius: Xyz) -> Extent:
    """Returns the box of a radius around a position, both ends included."""
    z, y, x = (
        slice(max(c - r, 0), max(c + r + 1, 0)) for c, r in zip(center, radius.zyx, strict=True)
    )
    return z, y, x


def is_recovered(
    found: np.ndarray, original: np.ndarray, nearby: Extent, canvas: Canvas, fraction: float
) -> bool:
    """Whether enough of a segment was recovered.

    Args:
      found: bool [z, y, x], the new object.
      original: bool [z, y, x], the original segment.
      nearby: where voxels count.
      canvas: its min_segment_size must be recovered if no fraction is set.
      fraction: required fraction of the original's voxels that count.
    """
    there = original[nearby]
    recovered = int(np.count_nonzero(found[nearby] & there))
    if fraction <= 0:
        return recovered >= canvas.options.min_segment_size
    total = int(np.count_nonzero(there))
    return total > 0 and recovered / total >= fraction


def _write_result(
    path: Path,
    config: ResegmentationConfig,
    task: Resegmentation,
    canvas: Canvas,
    objects: Sequence[ResegmentedObject],
) -> None:
    canvas.counters.add('recovered', sum(one.recovered for one in objects))
    probs = np.zeros((len(objects), *canvas.shape), np.uint8)
    for one, prob in zip(objects, probs, strict=True):
        if one.logits is not None:
            prob[:] = storage.quantize_probability(expit(one.logits))
    empty_history, empty = np.zeros((0, 3), np.int32), np.zeros(0, np.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.save_npz(
        path,
        probs=probs,
        deletes=_object_array(empty if one.deleted is None else one.deleted for one in objects),
        histories=_object_array(
            empty_history if one.history is None else one.history for one in objects
        ),
        start_points=_object_array([tuple(start) for start in one.starts] for one in objects),
        recovered=np.array([one.recovered for one in objects]),
        request=bytes_member(to_message(config, [task]).SerializeToString()),
        counters=json.dumps(canvas.counters.as_dict()).encode(),
        corner_zyx=np.array(canvas.corner_zyx),
    )


def _object_array(items: Iterable[object]) -> np.ndarray:
    """Returns a 1-d object array with one entry per item, even if all have the same length."""
    entries = list(items)
    array = np.empty(len(entries), object)
    for i, entry in enumerate(entries):
        array[i] = entry
    return array
