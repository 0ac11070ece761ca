"""Seeds of an earlier run, in reverse order: what an oversegmentation consensus is made with."""

from __future__ import annotations

import numpy as np

from ffn.inference import storage
from ffn.inference.seeds.policy import SeedPolicy, SeedView


class PolicyInvertOrigins(SeedPolicy):
    """The seeds of an earlier run of the same subvolume, in order of decreasing segment id.

    Segmenting once in each order and splitting where the two disagree removes mergers
    (Januszewski et al. 2018, Methods: oversegmentation consensus).
    """

    def __init__(self, view: SeedView, segmentation_dir: str):
        """Makes a policy.

        Args:
          view: the canvas.
          segmentation_dir: folder of the earlier run.
        """
        super().__init__(view)
        self._directory = segmentation_dir

    def points(self) -> np.ndarray:
        """See base class."""
        origins = storage.load_origins(self._directory, self.view.corner_zyx, self.view.image.shape)
        starts = [origins[i].start_zyx for i in sorted(origins, reverse=True)]
        return np.array(starts, dtype=np.int32).reshape(-1, 3)
