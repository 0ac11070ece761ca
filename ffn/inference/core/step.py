"""One step of the network: what it is shown of a canvas, and what of its answer is kept.

See Januszewski et al. 2018, Methods, "Inference".
"""

from __future__ import annotations

import time

import numpy as np

from ffn.inference.core.counters import Counters
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.protocols import Network
from ffn.models.info import ModelInfo
from ffn.utils.geometry import Position
from ffn.utils.logits import logit

# A voxel that was at least this likely and became background counts as deleted.
DELETED_FROM = logit(0.8)


class NetworkStep:
    """Makes steps of the network on a canvas; its arrays are used again for every one.

    Attributes:
      options: how objects grow.
    """

    def __init__(
        self,
        network: Network,
        info: ModelInfo,
        options: CanvasOptions,
        counters: Counters,
        image: np.ndarray,
        seed: np.ndarray,
    ):
        """Allocates the arrays.

        Args:
          network: runs the network.
          info: its sizes.
          options: how objects grow.
          counters: where calls of the network are counted.
          image: float32 [z, y, x] of the canvas, contiguous.
          seed: float32 [z, y, x] logits of the canvas, contiguous, NaN where no field of view has been.
        """
        self._network, self._calls = network, counters.calls('predict')
        self.options = options
        fov, predicted = info.input_image_size.zyx, info.pred_mask_size.zyx
        self._fov, self._predicted, self._edge = fov, predicted, info.edge.zyx
        self._updated = info.predicted
        self._all_images, self._all_seeds = _rows(image, fov.x), _rows(seed, fov.x)
        self._all_logits = _rows(seed, predicted.x)
        self._image, self._seed = np.empty(fov, np.float32), np.empty(fov, np.float32)
        self._image_rows, self._seed_rows = (
            _rows(array, fov.x)[..., 0] for array in (self._image, self._seed)
        )
        self._unvisited = np.empty(fov, bool)
        self._zeros = np.zeros(predicted, np.float32)
        self._background = np.empty(predicted, np.float32)
        self._reached = np.empty(predicted, bool)
        self._logits = self._zeros
        self._centre = tuple(n // 2 for n in predicted)

    def run(self, pos: Position) -> np.ndarray:
        """Makes a step and writes it to the seed.

        Args:
          pos: centre of the field of view, z, y, x.

        Returns:
          float32 [z, y, x] logits that the network predicts, as written; overwritten by the next step, and not to be
          written to.
        """
        (z, y, x), (nz, ny, nx) = pos, self._fov
        z, y, x = z - nz // 2, y - ny // 2, x - nx // 2
        field = slice(z, z + nz), slice(y, y + ny), x
        self._image_rows[...] = self._all_images[field]
        self._seed_rows[...] = self._all_seeds[field]
        # Visited background; 0 elsewhere, as fmin ignores NaN.
        np.fmin(self._seed[self._updated], self._zeros, out=self._background)
        np.add(self._background, 0, out=self._background)  # -0 becomes 0
        np.isnan(self._seed, out=self._unvisited)
        self._seed[self._unvisited] = self.options.pad_value
        begin = time.perf_counter_ns()
        answer = self._network.predict(self._image, self._seed)
        self._calls.add(time.perf_counter_ns() - begin)
        logits = np.ascontiguousarray(answer[self._updated], np.float32)
        if self._is_filled(logits):
            # Disconnected-seed bias: visited background does not rise. As unsigned integers, negative numbers come
            # after all others, the lesser the later: where there is background, the greater integer is the lesser
            # number, and elsewhere it is the new one.
            background = self._background.view(np.uint32)
            np.maximum(logits.view(np.uint32), background, out=background)
            logits = self._background
        (ez, ey, ex), (nz, ny, nx) = self._edge, self._predicted
        z, y, x = z + ez, y + ey, x + ex
        self._all_logits[z : z + nz, y : y + ny, x] = logits.view(self._all_logits.dtype)[..., 0]
        self._logits = logits
        return logits

    def _is_filled(self, logits: np.ndarray) -> bool:
        """Whether so much of the field of view reaches the move threshold that background must not rise."""
        share, threshold = self.options.disco_seed_threshold, self.options.move_threshold
        if share <= 0 and (share < 0 or logits[self._centre] >= threshold):
            return share == 0  # background may always rise, or one voxel is enough
        np.greater_equal(logits, threshold, out=self._reached)
        return bool(np.count_nonzero(self._reached) > share * logits.size)

    def count_deleted(self) -> int:
        """Number of voxels that the last step turned from object into background."""
        deleted = self._was_at_least(DELETED_FROM) & (self._logits < 0)
        return int(np.count_nonzero(deleted))

    def count_gained(self) -> int:
        """Number of voxels that the last step added to the object; negative if it lost some."""
        threshold = self.options.segment_threshold
        before, after = self._was_at_least(threshold), self._logits >= threshold
        return int(np.count_nonzero(after)) - int(np.count_nonzero(before))

    def _was_at_least(self, logit: float) -> np.ndarray:
        """Where the seed was visited and at least this likely before the last step."""
        seed, unvisited = self._seed[self._updated], self._unvisited[self._updated]
        return (seed >= logit) & ~unvisited


def _rows(array: np.ndarray, length: int) -> np.ndarray:
    """Everything of an array [z, y, x] that is `length` voxels long along x, as one item each; no copy.

    Fields of view are copied in fewer and longer pieces that way.
    """
    depth, height, width = array.shape
    row = np.dtype((np.void, length * array.itemsize))
    return np.ndarray((depth, height, max(width - length + 1, 0)), row, array, 0, array.strides)
