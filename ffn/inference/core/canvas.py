"""The canvas: a subvolume on which objects are grown one after the other.

See Januszewski et al. 2018, Methods, "Inference". NumPy only; the network is behind `predict`.
"""

from __future__ import annotations

import contextlib
import functools
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from ffn.inference import storage
from ffn.inference.core import movement
from ffn.inference.core.counters import Counters
from ffn.inference.core.growing import GrowingObject
from ffn.inference.core.interrupted import Interrupted as Interrupted  # for those who catch it
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.prefilled import about_prefilled, checksum, most_covered, number
from ffn.inference.core.protocols import Network, Seeds
from ffn.inference.core.restrictor import Restrictor
from ffn.inference.core.step import NetworkStep
from ffn.inference.core.view import CanvasView
from ffn.models.info import ModelInfo
from ffn.utils.geometry import Position, Zyx

Extent = tuple[slice, slice, slice]


class Canvas:
    """State of one subvolume while it is segmented.

    Attributes:
      image: float32 [z, y, x], normalized.
      seed: float32 [z, y, x] logits of the current object, NaN where no field of view has been.
      segmentation: int32 [z, y, x]; > 0 segments, 0 free, -1 seeds that were rejected.
      seg_prob: uint8 [z, y, x] quantized probabilities of the segments.
      origins: segment id → OriginInfo.
      joined_seeds: z, y, x of every seed whose object became part of a prefilled segment, that segment, and the
        greatest id at that time.
      overlaps: segment id → int64 [2, n], ids and voxel counts of the segments that it ran into.
      history: (position z, y, x, number of deleted voxels) of every step, when kept.
      growing: the object that is being grown, None between objects.
      visited: least and greatest centre of the field of view since `init_seed`, z, y, x.
      prefilled: number of segments present before growing started.
      prefilled_crc: checksum of these segments and their ids, by which checkpoints know them; 0 without any.
      to_given_id: id on this canvas → id of the segmentation that `prefill` was given.
      to_canvas_id: the reverse.
      limited: segment id → the option that ended its growth.
      idle: why nothing is grown here, 'masked' or 'constant' (image); '' where objects may be.
      resumed_steps: network steps before the checkpoint from which this canvas continues.
      observers: called with the canvas after every step and every seed, in this order; an observer ends
        the run by raising `Interrupted`.
      view: what policies see.
      seed_policy: where objects are started; set by `segment_all` unless it is set already.
    """

    def __init__(
        self,
        info: ModelInfo,
        network: Network,
        image: np.ndarray,
        options: CanvasOptions,
        *,
        restrictor: Restrictor | None = None,
        movement_policy: tuple[str, str | Mapping[str, Any]] = ('', ''),
        corner_zyx: Sequence[int] = (0, 0, 0),
        voxel_size_zyx: tuple[float, float, float] = (1, 1, 1),
        counters: Counters | None = None,
        keep_history: bool = False,
        idle: str = '',
    ):
        """Makes an empty canvas.

        Args:
          info: sizes of the network.
          network: runs it.
          image: float32 [z, y, x], normalized.
          options: how objects grow.
          restrictor: where the field of view and seeds may not be placed.
          movement_policy: name and arguments, see `ffn.inference.core.movement.make_policy`.
          corner_zyx: first voxel of the subvolume.
          voxel_size_zyx: physical size of a voxel, in any unit.
          counters: where events are counted.
          keep_history: record every step.
          idle: why nothing will be grown, see the attribute; the seed is then read-only.
        """
        self.idle = idle
        self.image = np.ascontiguousarray(image, dtype=np.float32)
        self.shape = Zyx.of(self.image.shape)
        self.options = options
        self.restrictor = restrictor or Restrictor()
        self.counters = counters or Counters()
        self.corner_zyx = Zyx.of(corner_zyx)
        self.margin_zyx = Zyx(*(n // 2 for n in info.input_image_size.zyx))
        self._make_arrays()
        if not idle:
            self._step = NetworkStep(network, info, options, self.counters, self.image, self.seed)
        self.origins: dict[int, storage.OriginInfo] = {}
        self.joined_seeds: list[tuple[int, int, int, int, int]] = []
        self.overlaps: dict[int, np.ndarray] = {}
        self.history: list[tuple[Position, int]] | None = [] if keep_history else None
        self.growing: GrowingObject | None = None
        self.seed_policy: Seeds | None = None
        self._all_seeds_tried = False
        self.visited: tuple[Position, Position] | None = None
        self.prefilled = self.prefilled_crc = 0
        self.to_given_id: dict[int, int] = {}
        self.to_canvas_id: dict[int, int] = {}
        self.limited: dict[int, str] = {}
        self.resumed_steps = 0
        self.view = self._make_view(info, voxel_size_zyx)
        self.movement_policy = self._make_movement(info, *movement_policy)
        self.observers: list[Callable[[Canvas], None]] = []
        self._updates = self.counters.calls('update_at')

    def _make_arrays(self) -> None:
        nan, shape = np.float32(np.nan), self.shape
        self.seed = np.broadcast_to(nan, shape) if self.idle else np.full(shape, nan)
        # Filled, since the memory of np.zeros is handed out page by page, in the midst of the steps.
        self.segmentation, self.seg_prob = (
            np.zeros(shape, dtype) if self.idle else np.full(shape, 0, dtype)
            for dtype in (np.int32, np.uint8)
        )

    def _make_view(self, info: ModelInfo, voxel_size_zyx: tuple[float, float, float]) -> CanvasView:
        return CanvasView(
            self.image,
            self.seed,
            self.segmentation,
            self.restrictor.mask,
            self.restrictor.seed_mask,
            margin_zyx=self.margin_zyx,
            reach_zyx=Zyx(*(n // 2 for n in info.pred_mask_size.zyx)),
            move_threshold=self.options.move_threshold,
            counters=self.counters,
            corner_zyx=self.corner_zyx,
            voxel_size_zyx=voxel_size_zyx,
        )

    def _make_movement(
        self, info: ModelInfo, name: str, args: str | Mapping[str, Any]
    ) -> movement.MovementPolicy:
        threshold, reach = self.options.move_threshold, self.view.reach_zyx
        return movement.make_policy(self.view, name, args, info.deltas.zyx, threshold, reach)

    @contextlib.contextmanager
    def observed_by(self, observer: Callable[[Canvas], None]) -> Iterator[None]:
        """Adds an observer while the context lasts."""
        self.observers.append(observer)
        try:
            yield
        finally:
            self.observers.remove(observer)

    def visited_extent(self) -> Extent:
        """The part of the canvas that the object's fields of view touched; all of it before the first."""
        if self.visited is None:
            return slice(None), slice(None), slice(None)
        first, last = self.visited
        z, y, x = (
            slice(max(a - m, 0), b + m + 1)
            for a, b, m in zip(first, last, self.margin_zyx, strict=True)
        )
        return z, y, x

    def init_seed(self, pos_zyx: Sequence[int]) -> None:
        """Clears the seed and sets the starting voxel."""
        z, y, x = pos_zyx
        self.seed[self.visited_extent()] = np.nan
        self.seed[z, y, x] = self.options.init_activation
        self.visited = (z, y, x), (z, y, x)

    def reset_state(self, start_zyx: Sequence[int]) -> GrowingObject:
        """Begins a new object at a position: movement and history start afresh."""
        z, y, x = map(int, start_zyx)  # a user's own policy may have integers of NumPy
        self.movement_policy.reset_state((z, y, x))
        counts = self.options.init_activation >= self.options.segment_threshold
        self.growing = growing = GrowingObject((z, y, x), voxels=int(counts))
        if self.history is not None:
            self.history.clear()
        return growing

    def update_at(self, pos_zyx: Sequence[int]) -> np.ndarray:
        """Makes one step of the network and writes it to the seed.

        Args:
          pos_zyx: centre of the field of view.

        Returns:
          float32 [z, y, x] logits, as written; overwritten by the next step.
        """
        z, y, x = pos_zyx
        logits = self._step.run((z, y, x))
        if self.history is not None:
            self.history.append(((z, y, x), self._step.count_deleted()))
        if self.options.max_object_voxels and self.growing is not None:
            self.growing.voxels += self._step.count_gained()
        self._count_visit((z, y, x))
        return logits

    def _step_from(self, pos: Position) -> None:
        """Makes a step, of which the movement policy learns."""
        logits = self.update_at(pos)  # meanwhile, the policy may be replaced
        maxima = movement.learn(self.movement_policy, logits, pos)
        self.view.check_numbers(pos, logits.item(logits.size // 2), maxima)

    def _count_visit(self, pos: Position) -> None:
        (z, y, x), ((z1, y1, x1), (z2, y2, x2)) = pos, self.visited or (pos, pos)
        if not (z1 <= z <= z2 and y1 <= y <= y2 and x1 <= x <= x2):
            first, last = (min(z1, z), min(y1, y), min(x1, x)), (max(z2, z), max(y2, y), max(x2, x))
            self.visited = first, last

    def put_seed(self, logits: np.ndarray) -> None:
        """Replaces the logits of `visited_extent`, float [z, y, x], as a checkpoint does."""
        self.seed[self.visited_extent()] = logits

    def segment_at(
        self,
        start_zyx: Sequence[int],
        callback: Callable[[Canvas, Position], None] | None = None,
    ) -> int:
        """Grows one object, which is then in `seed`; no segment is made of it.

        Args:
          start_zyx: where to start; its field of view must fit.
          callback: called with the canvas and the position after every step.

        Returns:
          Number of steps.
        """
        growing = self._start(start_zyx)
        try:
            self._grow(growing, callback)
            return growing.iters
        finally:
            self.growing = None

    def _start(self, pos_zyx: Sequence[int]) -> GrowingObject:
        self.init_seed(pos_zyx)
        return self.reset_state(pos_zyx)

    def _grow(
        self,
        growing: GrowingObject,
        callback: Callable[[Canvas, Position], None] | None = None,
    ) -> None:
        """Moves the field of view until the object has no place left to go to."""
        began = time.perf_counter() - growing.seconds
        with self.counters.timed('segment_at-loop'):
            for position in self.movement_policy:
                if not self.view.reaches_threshold(growing.start):
                    self.counters.add('seed_got_too_weak')
                    break
                if not self.restrictor.allows(position):
                    self.counters.add('skip_restricted_pos')
                    continue
                growing.limit = growing.limit_reached(self.options)
                if growing.limit:
                    self.counters.add(f'stopped-by-{growing.limit}')
                    break
                begin = time.perf_counter_ns()
                self._step_from(position)
                self._updates.add(time.perf_counter_ns() - begin)
                growing.iters += 1
                growing.seconds = time.perf_counter() - began
                if callback is not None:
                    callback(self, position)
                self._notify()
        self.growing = None

    def _notify(self) -> None:
        for observer in self.observers:
            observer(self)

    def segment_all(self, seed_policy: Seeds | Callable[[CanvasView], Seeds]) -> None:
        """Grows an object from every seed of a policy and makes segments of them.

        After a restored checkpoint, continues where that was taken.

        Args:
          seed_policy: the policy, or a function that makes it from the canvas' view.
        """
        with self.counters.timed('segment_all'):
            if self.seed_policy is None or self._all_seeds_tried:
                self._all_seeds_tried = False
                self.seed_policy = seed_policy(self.view) if callable(seed_policy) else seed_policy
            if (growing := self.growing) is not None:
                self._grow(growing)
                self._finish(growing)
            while (position := self._next_seed(self.seed_policy)) is not None:
                if self._may_start(position):
                    growing = self._start(position)
                    self._grow(growing)
                    self._finish(growing)
                self._notify()
            self._all_seeds_tried = True
            np.maximum(self.segmentation, 0, out=self.segmentation)

    def _next_seed(self, seeds: Seeds) -> Position | None:
        with self.counters.timed('seed-policy'):
            return next(seeds, None)

    def _may_start(self, pos: Position) -> bool:
        self.counters.add('seeds')
        if not (
            self.view.is_valid_pos(pos, ignore_move_threshold=True)
            and self.restrictor.allows(pos)
            and self.restrictor.allows_seed(pos)
        ):
            return False
        near = tuple(
            slice(max(p - d, 0), p + d + 1)
            for p, d in zip(pos, self.options.min_boundary_dist.zyx, strict=True)
        )
        if np.any(self.segmentation[near] > 0):
            self._reject(pos, 'close')
            return False
        return True

    def _reject(self, pos: Position, why: str) -> None:
        self.counters.add(f'rejected-{why}')
        if self.segmentation[pos] == 0:
            self.segmentation[pos] = -1

    def _finish(self, grown: GrowingObject) -> None:
        """Makes the object in `seed` a segment, or rejects it."""
        if not self.view.reaches_threshold(grown.start):
            self._reject(grown.start, 'weak')
            self.counters.add_time('invalid-weak-time-ms', grown.seconds)
        elif not self._make_segment(grown, self.options.min_segment_size):
            self._reject(grown.start, 'small')
            self.counters.add_time('invalid-small-time-ms', grown.seconds)

    def _make_segment(self, grown: GrowingObject, min_size: int) -> int:
        """Makes the object in `seed` a segment, or part of one; returns its id, 0 where it is too small for one."""
        extent = self.visited_extent()
        logits, segments = self.seed[extent], self.segmentation[extent]
        mask = logits >= self.options.segment_threshold
        joined = most_covered(segments, logits, mask, self.prefilled, self.options.join_fraction)
        taken = segments > 0
        ids, counts = np.unique(segments[mask & taken], return_counts=True)
        np.greater(mask, taken, out=mask)
        size = int(np.count_nonzero(mask))
        if size < (1 if joined else min_size):
            return 0
        greatest = max(self.prefilled, max(self.origins, default=0))
        new_id = joined or greatest + 1
        np.copyto(segments, new_id, where=mask)
        self.seg_prob[extent][mask] = storage.quantize_probability(expit(logits[mask]))
        if joined:
            self.counters.add('joined')
            self.joined_seeds.append((*grown.start, joined, greatest))
        else:
            self.origins[new_id] = storage.OriginInfo(grown.start, grown.iters, grown.seconds)
            self.overlaps[new_id] = np.array([ids, counts], dtype=np.int64)
        if grown.limit:
            self.limited[new_id] = grown.limit
        self.counters.add('voxels-segmented', size)
        self.counters.add('voxels-overlapping', int(counts.sum()))
        self.counters.add_time('valid-time-ms', grown.seconds)
        return new_id

    def prefill(self, labels: np.ndarray) -> None:
        """Fills the canvas with an existing segmentation; new objects grow in free space only.

        Args:
          labels: integer [z, y, x], 0 or less is free. Its ids become 1..n; `to_given_id` and
            `to_canvas_id` map between the two, and their probability is the greatest. Objects that were
            there before are forgotten.

        Raises:
          ValueError: they have another shape than the canvas.
        """
        for known in (self.origins, self.overlaps, self.limited, self.joined_seeds):
            known.clear()
        self.segmentation[:], given = number(labels, self.shape)
        np.multiply(self.segmentation > 0, np.uint8(255), out=self.seg_prob)
        self.prefilled, self.prefilled_crc = len(given) - 1, checksum(self.segmentation, given)
        self.to_given_id = dict(enumerate(given.tolist()))
        self.to_canvas_id = {given_id: i for i, given_id in self.to_given_id.items()}

    def about_prefilled(self) -> dict[str, np.ndarray]:
        """What a result says of prefilled segments, as arguments of `storage.save_result`."""
        return about_prefilled(self.to_given_id, self.joined_seeds)

    @functools.cached_property
    def input_crcs(self) -> dict[str, int]:
        """Checksums of the image and of each mask, by which checkpoints know them."""
        return {'image': zlib.crc32(self.image.data), **self.restrictor.crcs()}

    def segmented_voxels(self) -> int:
        """Number of voxels that belong to segments."""
        return int(np.count_nonzero(self.segmentation > 0))
