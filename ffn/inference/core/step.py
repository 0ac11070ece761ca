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
from ffn.utils.logits import logit

# A voxel that was at least this likely and became background counts as deleted.
DELETED_FROM = logit(0.8)


class NetworkStep:
    """Makes steps of the network; its arrays are used again for every one.

    Attributes:
      options: how objects grow.
      updated: the part of a field of view that the network predicts.
    """

    def __init__(
        self, network: Network, info: ModelInfo, options: CanvasOptions, counters: Counters
    ):
        """Allocates the arrays."""
        self._network, self._counters = network, counters
        self.options = options
        fov = info.input_image_size.zyx
        self.updated = info.predicted
        self._seed = np.empty(fov, dtype=np.float32)
        self._unvisited = np.empty(fov, dtype=bool)
        self._kept = np.empty(fov, dtype=bool)[self.updated]
        self._rising = np.empty_like(self._kept)
        self._logits = np.empty(self._kept.shape, dtype=np.float32)

    def run(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """Makes a step.

        Args:
          image: float32 [z, y, x], a field of view.
          seed: float32 [z, y, x] logits there, NaN where no field of view has been.

        Returns:
          float32 [z, y, x] logits for the `updated` part; overwritten by the next step.
        """
        np.copyto(self._seed, seed)
        np.isnan(self._seed, out=self._unvisited)
        np.copyto(self._seed, self.options.pad_value, where=self._unvisited)
        begin = time.perf_counter_ns()
        new = self._network.predict(image, self._seed)
        self._counters.count_call('predict', time.perf_counter_ns() - begin)
        np.copyto(self._logits, new[self.updated])
        if self.options.disco_seed_threshold >= 0:
            self._keep_background()
        return self._logits

    def _keep_background(self) -> None:
        """Disconnected-seed bias: in a well-filled field of view, visited background stays so."""
        options, logits = self.options, self._logits
        np.greater_equal(logits, options.move_threshold, out=self._rising)
        reached = np.count_nonzero(self._rising)
        if reached > options.disco_seed_threshold * logits.size:
            old = self._seed[self.updated]
            np.less(old, 0, out=self._kept)
            np.greater(self._kept, self._unvisited[self.updated], out=self._kept)
            np.greater(logits, old, out=self._rising)
            np.logical_and(self._kept, self._rising, out=self._kept)
            np.copyto(logits, old, where=self._kept)

    def count_deleted(self) -> int:
        """Number of voxels that the last step turned from object into background."""
        old = self._seed[self.updated]
        deleted = (old >= DELETED_FROM) & (self._logits < 0) & ~self._unvisited[self.updated]
        return int(np.count_nonzero(deleted))

    def count_gained(self, seed: np.ndarray) -> int:
        """Number of voxels that the last step added to the object; negative if it lost some.

        Args:
          seed: as given to `run`, not yet changed.
        """
        threshold = self.options.segment_threshold
        before, after = (
            np.count_nonzero(a >= threshold) for a in (seed[self.updated], self._logits)
        )
        return int(after) - int(before)
