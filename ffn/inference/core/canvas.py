"""The canvas: a subvolume on which objects are grown one after the other.

See Januszewski et al. 2018, Methods, "Inference". NumPy only; the network is behind `predict`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from ffn.inference import storage
from ffn.inference.core import movement
from ffn.inference.core.canvas_parts import (
    CanvasView,
    FieldOfView,
    GrowingObject,
    Network,
    Places,
    Position,
)
from ffn.inference.core.counters import Counters
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.restrictor import Restrictor
from ffn.utils.geometry import Zyx
from ffn.utils.logits import logit

if TYPE_CHECKING:
    from ffn.inference.seeds.policies import SeedPolicy

# A voxel that was at least this likely and became background counts as deleted.
DELETED_FROM = logit(0.8)

Extent = tuple[slice, slice, slice]


class Canvas:
    """State of one subvolume while it is segmented.

    Attributes:
      image: float32 [z, y, x], normalised.
      seed: float32 [z, y, x] logits of the current object, NaN where no field of view has been.
      segmentation: int32 [z, y, x]; > 0 segments, 0 free, -1 seeds that were rejected.
      seg_prob: uint8 [z, y, x] quantised probabilities of the segments.
      origins: segment id → OriginInfo.
      overlaps: segment id → int64 [2, n], ids and voxels of the segments that it ran into.
      history: (position z, y, x, number of deleted voxels) of every step, when kept.
      growing: the object that is being grown, None between objects.
      visited: least and greatest centre of the field of view since `init_seed`, z, y, x.
      prefilled: number of segments that were there beforehand.
      limited: segment id → the option that ended its growth.
      resumed_steps: network steps before the checkpoint that this canvas goes on from.
    """

    def __init__(
        self,
        info: FieldOfView,
        network: Network,
        image: np.ndarray,
        options: CanvasOptions,
        *,
        restrictor: Restrictor | None = None,
        movement_policy: tuple[str, str] = ('', ''),
        corner_zyx: Sequence[int] = (0, 0, 0),
        voxel_size_zyx: tuple[float, float, float] = (1, 1, 1),
        counters: Counters | None = None,
        keep_history: bool = False,
    ):
        """Makes an empty canvas.

        Args:
          info: sizes of the model.
          network: runs it.
          image: float32 [z, y, x], normalised.
          options: how objects grow.
          restrictor: where not to go.
          movement_policy: name and JSON arguments.
          corner_zyx: first voxel of the subvolume.
          voxel_size_zyx: physical size of a voxel, any unit.
          counters: where events are counted.
          keep_history: record every step.
        """
        self.image = np.ascontiguousarray(image, dtype=np.float32)
        self.shape = Zyx.of(self.image.shape)
        self.options = options
        self.restrictor = restrictor or Restrictor()
        self.counters = counters or Counters()
        self.corner_zyx = Zyx.of(corner_zyx)
        self._network = network
        self._fov = info.input_image_size.zyx
        self.margin_zyx = Zyx(*(n // 2 for n in self._fov))
        edge = [(n - m) // 2 for n, m in zip(self._fov, info.pred_mask_size.zyx, strict=True)]
        self._updated = tuple(slice(e, n - e) for e, n in zip(edge, self._fov, strict=True))
        self._make_step_arrays()
        # Filled, since the memory of np.zeros is handed out page by page, in the midst of the steps.
        self.seed = np.full(self.shape, np.nan, dtype=np.float32)
        self.segmentation = np.full(self.shape, 0, dtype=np.int32)
        self.seg_prob = np.full(self.shape, 0, dtype=np.uint8)
        self.origins: dict[int, storage.OriginInfo] = {}
        self.overlaps: dict[int, np.ndarray] = {}
        self.history: list[tuple[Position, int]] | None = [] if keep_history else None
        self.growing: GrowingObject | None = None
        self.seed_policy: SeedPolicy | None = None
        self._all_seeds_tried = False
        self.visited: tuple[Position, Position] | None = None
        self.prefilled = 0
        self.limited: dict[int, str] = {}
        self.resumed_steps = 0
        self._places = Places(
            self.seed, self.segmentation, self.margin_zyx, options.move_threshold, self.counters
        )
        self.view = CanvasView(
            self.image, self.segmentation, self.restrictor.mask, self._places, self.corner_zyx,
            voxel_size_zyx,
        )  # fmt: skip
        name, args = movement_policy
        reach = [n // 2 for n in info.pred_mask_size.zyx]
        self.movement_policy = movement.make_policy(
            self.view, name, args, info.deltas.zyx, options.move_threshold, reach
        )
        self.between_steps: Callable[[Canvas], None] = lambda canvas: None
        # Timers of what is going on, so that a checkpoint in the middle has the time so far.
        self._laps: dict[str, Callable[[], None]] = {}

    def _make_step_arrays(self) -> None:
        """Makes what a step needs once, to use it again and again."""
        self._seed_fov = np.empty(self._fov, dtype=np.float32)
        self._unvisited = np.empty(self._fov, dtype=bool)
        self._kept = np.empty(self._fov, dtype=bool)[self._updated]
        self._rising = np.empty_like(self._kept)
        self._logits = np.empty(self._kept.shape, dtype=np.float32)

    def is_valid_pos(self, pos_zyx: Sequence[int], ignore_move_threshold: bool = False) -> bool:
        """Whether the field of view may be centred at a position.

        Args:
          pos_zyx: within the subvolume.
          ignore_move_threshold: do not ask for a likely voxel there, as for a start.
        """
        return self._places.is_valid_pos(tuple(pos_zyx), ignore_move_threshold)

    def visited_extent(self) -> Extent:
        """The part of the canvas that the object's fields of view touched."""
        first, last = self.visited
        z, y, x = (
            slice(max(a - m, 0), b + m + 1)
            for a, b, m in zip(first, last, self.margin_zyx, strict=True)
        )
        return z, y, x

    def init_seed(self, pos_zyx: Sequence[int]) -> None:
        """Clears the seed and places the starting voxel."""
        pos = tuple(pos_zyx)
        self.seed[self.visited_extent() if self.visited else ...] = np.nan
        self.seed[pos] = self.options.init_activation
        self.visited = pos, pos

    def reset_state(self, start_zyx: Sequence[int]) -> None:
        """Begins a new object at a position: movement and history start afresh."""
        start = tuple(start_zyx)
        self.movement_policy.reset_state(start)
        begun = self.options.init_activation >= self.options.segment_threshold
        self.growing = GrowingObject(start, voxels=int(begun))
        if self.history is not None:
            self.history.clear()

    def update_at(self, pos_zyx: Sequence[int]) -> np.ndarray:
        """Makes one step of the network and writes it to the seed.

        Args:
          pos_zyx: centre of the field of view.

        Returns:
          float32 [z, y, x] logits, as written; overwritten by the next step.
        """
        pos = tuple(pos_zyx)
        fov = tuple(
            slice(p - m, p - m + n) for p, m, n in zip(pos, self.margin_zyx, self._fov, strict=True)
        )
        seed = self.seed[fov]
        np.copyto(self._seed_fov, seed)
        np.isnan(self._seed_fov, out=self._unvisited)
        np.copyto(self._seed_fov, self.options.pad_value, where=self._unvisited)
        begin = time.perf_counter_ns()
        new = self._network.predict(self.image[fov], self._seed_fov)
        self.counters.count_call('predict', time.perf_counter_ns() - begin)

        np.copyto(self._logits, new[self._updated])
        self._keep_background()
        if self.history is not None:
            old = self._seed_fov[self._updated]
            deleted = (old >= DELETED_FROM) & (self._logits < 0) & ~self._unvisited[self._updated]
            self.history.append((pos, int(np.count_nonzero(deleted))))
        if self.options.max_object_voxels and self.growing is not None:
            self.growing.voxels += self._gained(seed[self._updated])
        seed[self._updated] = self._logits
        first, last = self.visited or (pos, pos)
        self.visited = tuple(map(min, first, pos)), tuple(map(max, last, pos))
        return self._logits

    def _keep_background(self) -> None:
        """Disconnected-seed bias: in a well-filled field of view, visited background stays so."""
        options, logits = self.options, self._logits
        if options.disco_seed_threshold < 0:
            return
        np.greater_equal(logits, options.move_threshold, out=self._rising)
        reached = np.count_nonzero(self._rising)
        if reached > options.disco_seed_threshold * logits.size:
            old = self._seed_fov[self._updated]
            np.less(old, 0, out=self._kept)
            np.greater(self._kept, self._unvisited[self._updated], out=self._kept)
            np.greater(logits, old, out=self._rising)
            np.logical_and(self._kept, self._rising, out=self._kept)
            np.copyto(logits, old, where=self._kept)

    def _gained(self, old: np.ndarray) -> int:
        threshold = self.options.segment_threshold
        before, after = (np.count_nonzero(a >= threshold) for a in (old, self._logits))
        return int(after) - int(before)

    def segment_at(
        self,
        start_zyx: Sequence[int],
        callback: Callable[[Canvas, Position], None] | None = None,
    ) -> int:
        """Grows one object; it is then in `seed`, and no segment is made of it.

        Args:
          start_zyx: where to start; its field of view must fit.
          callback: called with the canvas and the position after every step.

        Returns:
          Number of steps.
        """
        self.init_seed(start_zyx)
        self.reset_state(start_zyx)
        try:
            return self._grow(callback).iters
        finally:
            self.growing = None
            self._laps.clear()

    def _grow(self, callback: Callable[[Canvas, Position], None] | None = None) -> GrowingObject:
        growing = self.growing
        began = time.perf_counter() - growing.seconds
        self._laps['segment_at-loop'] = self.counters.lap_timer('segment_at-loop')
        self.counters.add('segment_at-loop-calls')
        for position in self.movement_policy:
            if not self._places.reaches(growing.start):
                self.counters.add('seed_got_too_weak')
                break
            if not self.restrictor.is_valid_pos(position):
                self.counters.add('skip_restricted_pos')
                continue
            growing.limit = self._limit_reached()
            if growing.limit:
                self.counters.add(f'stopped-by-{growing.limit}')
                break
            begin = time.perf_counter_ns()
            self.movement_policy.update(self.update_at(position), position)
            self.counters.count_call('update_at', time.perf_counter_ns() - begin)
            growing.iters += 1
            growing.seconds = time.perf_counter() - began
            if callback is not None:
                callback(self, position)
            self._pause()
        self._laps.pop('segment_at-loop')()
        self.growing = None
        return growing

    def _pause(self) -> None:
        for lap in self._laps.values():
            lap()
        self.between_steps(self)

    def _limit_reached(self) -> str:
        """Name of the option that ends the growth of the object now, '' where none does."""
        options, growing = self.options, self.growing
        if 0 < options.max_object_steps <= growing.iters:
            return 'max_object_steps'
        if 0 < options.max_object_voxels <= growing.voxels:
            return 'max_object_voxels'
        return ''

    def segment_all(self, seed_policy: SeedPolicy | Callable[[Any], SeedPolicy]) -> None:
        """Grows an object from every seed of a policy and makes segments of them.

        After a restored checkpoint, goes on where that was taken.

        Args:
          seed_policy: the policy, or a function that makes it from the canvas' view.
        """
        self._laps['segment_all'] = self.counters.lap_timer('segment_all')
        self.counters.add('segment_all-calls')
        if self.seed_policy is None or self._all_seeds_tried:
            self._all_seeds_tried = False
            self.seed_policy = seed_policy(self.view) if callable(seed_policy) else seed_policy
        if self.growing is not None:
            self._finish(self._grow())
        while (position := self._next_seed()) is not None:
            if self._may_start(position):
                self.init_seed(position)
                self.reset_state(position)
                self._finish(self._grow())
            self._pause()
        self._all_seeds_tried = True
        np.maximum(self.segmentation, 0, out=self.segmentation)
        self._laps.pop('segment_all')()

    def _next_seed(self) -> Position | None:
        with self.counters.timed('seed-policy'):
            return next(self.seed_policy, None)

    def _may_start(self, pos: Position) -> bool:
        self.counters.add('seeds')
        if not (
            self.is_valid_pos(pos, ignore_move_threshold=True)
            and self.restrictor.is_valid_pos(pos)
            and self.restrictor.is_valid_seed(pos)
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
        """Makes a segment of the object in `seed`, or rejects it."""
        if not self._places.reaches(grown.start):
            self._reject(grown.start, 'weak')
            self.counters.add_time('invalid-weak-time-ms', grown.seconds)
            return
        extent = self.visited_extent()
        logits, segments = self.seed[extent], self.segmentation[extent]
        mask = logits >= self.options.segment_threshold
        taken = segments > 0
        ids, counts = np.unique(segments[mask & taken], return_counts=True)
        np.greater(mask, taken, out=mask)
        size = int(np.count_nonzero(mask))
        if size < self.options.min_segment_size:
            self._reject(grown.start, 'small')
            self.counters.add_time('invalid-small-time-ms', grown.seconds)
            return
        new_id = max(self.prefilled, *self.origins, 0) + 1
        np.copyto(segments, new_id, where=mask)
        self.seg_prob[extent][mask] = storage.quantize_probability(expit(logits[mask]))
        self.origins[new_id] = storage.OriginInfo(grown.start, grown.iters, grown.seconds)
        self.overlaps[new_id] = np.array([ids, counts], dtype=np.int64)
        if grown.limit:
            self.limited[new_id] = grown.limit
        self.counters.add('voxels-segmented', size)
        self.counters.add('voxels-overlapping', int(counts.sum()))
        self.counters.add_time('valid-time-ms', grown.seconds)

    def prefill(self, labels: np.ndarray) -> None:
        """Fills the canvas with an existing segmentation; new objects grow in free space only.

        Args:
          labels: integer [z, y, x], 0 or less is free. Its ids become 1..n; `to_given_id` maps
            them back, `to_canvas_id` forth. Objects that were there before are forgotten.
        """
        for known in (self.origins, self.overlaps, self.limited):
            known.clear()
        self.seg_prob[:] = 0
        given, canvas = np.unique(np.where(labels > 0, labels, 0), return_inverse=True)
        if given.size == 0 or given[0] != 0:
            given, canvas = np.insert(given, 0, 0), canvas + 1
        self.segmentation[:] = canvas.reshape(self.shape)
        self.prefilled = len(given) - 1
        self.to_given_id = dict(enumerate(given.tolist()))
        self.to_canvas_id = {given_id: i for i, given_id in self.to_given_id.items()}

    def given_ids(self) -> np.ndarray | None:
        """Ids that segments 0, 1, … had before `prefill`, uint64 [n + 1], or None without."""
        if not self.prefilled:
            return None
        return np.array([self.to_given_id[i] for i in range(self.prefilled + 1)], dtype=np.uint64)

    def segmented_voxels(self) -> int:
        """Number of voxels that belong to segments."""
        return int(np.count_nonzero(self.segmentation > 0))
