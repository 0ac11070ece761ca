"""One step of the network: what it is shown of a canvas, and what of its answer is kept.

See Januszewski et al. 2018, Methods, "Inference".
"""

from __future__ import annotations

import time

import numpy as np

from ffn.inference.core.counters import Counters
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.protocols import Flood
from ffn.models.info import ModelInfo
from ffn.utils.geometry import Position, Zyx
from ffn.utils.logits import logit

# A voxel that was at least this likely and became background counts as deleted.
DELETED_FROM = logit(0.8)


class NetworkStep:
    """Makes steps of the network on a canvas; it is the question about the next one, as `protocols.Question` says.

    Attributes:
      options: how objects grow.
      fov: shape of the field of view, z, y, x.
    """

    def __init__(
        self,
        info: ModelInfo,
        options: CanvasOptions,
        counters: Counters,
        image: np.ndarray,
        seed: np.ndarray,
        counting: bool,
    ):
        """Allocates arrays that are used again for every step.

        Args:
          info: sizes of the network.
          options: how objects grow.
          counters: where calls of the network are counted.
          image: float32 [z, y, x] of the canvas, contiguous.
          seed: float32 [z, y, x] logits of the canvas, contiguous, NaN where no field of view has been.
          counting: whether anybody will ask what a step has changed, as `count_deleted` does.
        """
        self._calls = counters.calls('predict')
        self.options, self.fov, self._counting = options, info.input_image_size.zyx, counting
        predicted = info.pred_mask_size.zyx
        self._predicted, self._updated = predicted, info.predicted
        self._image, self._seed = _rows(image, self.fov.x), _rows(seed, self.fov.x)
        self._seed_predicted = _rows(seed, predicted.x)
        self._row, self._row_predicted = self._seed.dtype, self._seed_predicted.dtype
        self._zeros = np.zeros(predicted, np.float32)
        self._background = np.empty(predicted, np.float32)
        self._reached = np.empty(predicted, bool)
        self._before = self._logits = self._zeros
        self._centre = tuple(n // 2 for n in predicted)
        self._next: Position = (0, 0, 0)

    def run(self, pos: Position) -> Flood[np.ndarray]:
        """Asks the network for a step and writes it to the seed.

        Args:
          pos: centre of the field of view, z, y, x.

        Returns:
          float32 [z, y, x] logits that the network predicts, as written; overwritten by the next step, and not to be
          written to.
        """
        self._next = pos
        begin = time.perf_counter_ns()
        answer = yield self
        self._calls.add(time.perf_counter_ns() - begin)
        logits = np.ascontiguousarray(answer[self._updated], np.float32)
        if self._is_filled(logits):
            # Disconnected-seed bias: visited background does not rise. As unsigned integers, negative numbers come
            # after all others, the lesser the later: where there is background, the greater integer is the lesser
            # number, and elsewhere it is the new one.
            background = self._background.view(np.uint32)
            np.maximum(logits.view(np.uint32), background, out=background)
            logits = self._background
        there = self._seed_predicted[_around(pos, self._predicted)]
        if self._counting:
            self._before = there.copy().view(np.float32).reshape(self._predicted)
        there[...] = logits.view(self._row_predicted)[..., 0]
        self._logits = logits
        return logits

    def show(self, image: np.ndarray, seed: np.ndarray) -> None:
        """See `ffn.inference.core.protocols.Question`."""
        there = _around(self._next, self.fov)
        image.view(self._row)[..., 0] = self._image[there]
        seed.view(self._row)[..., 0] = self._seed[there]
        # Visited background; 0 elsewhere, as fmin ignores NaN.
        np.fmin(seed[self._updated], self._zeros, out=self._background)
        np.add(self._background, 0, out=self._background)  # -0 becomes 0
        seed[np.isnan(seed)] = self.options.pad_value

    def _is_filled(self, logits: np.ndarray) -> bool:
        """Whether so much of the field of view reaches the move threshold that background must not rise."""
        share, threshold = self.options.disco_seed_threshold, self.options.move_threshold
        if share <= 0 and (share < 0 or logits[self._centre] >= threshold):
            return share == 0  # background may always rise, or one voxel is enough
        np.greater_equal(logits, threshold, out=self._reached)
        return bool(np.count_nonzero(self._reached) > share * logits.size)

    def count_deleted(self) -> int:
        """Number of voxels that the last step turned from object into background."""
        return int(np.count_nonzero((self._before >= DELETED_FROM) & (self._logits < 0)))

    def count_gained(self) -> int:
        """Number of voxels that the last step added to the object; negative if it lost some."""
        threshold = self.options.segment_threshold
        before, after = self._before >= threshold, self._logits >= threshold
        return int(np.count_nonzero(after)) - int(np.count_nonzero(before))


def _around(pos: Position, shape: Zyx) -> tuple[slice, slice, int]:
    """Where the rows of a field of view are, by its centre."""
    (z, y, x), (nz, ny, nx) = pos, shape
    z, y, x = z - nz // 2, y - ny // 2, x - nx // 2
    return slice(z, z + nz), slice(y, y + ny), x


def _rows(array: np.ndarray, length: int) -> np.ndarray:
    """Everything of an array [z, y, x] that is `length` voxels long along x, as one item each; no copy.

    Fields of view are copied in fewer and longer pieces that way.
    """
    depth, height, width = array.shape
    row = np.dtype((np.void, length * array.itemsize))
    return np.ndarray((depth, height, max(width - length + 1, 0)), row, array, 0, array.strides)
