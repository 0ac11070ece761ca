"""Seeds of an earlier run, in reverse order: what an oversegmentation consensus is made with."""

from __future__ import annotations

import numpy as np

from ffn.inference.given_segments import load_seeds
from ffn.inference.seeds.policy import SeedPolicy, SeedView


class PolicyInvertOrigins(SeedPolicy):
    """The seeds of an earlier run of the same subvolume, in order of decreasing segment id; those of objects that
    joined one of init_segmentation in their place among them.

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
        return load_seeds(self._directory, self.view.corner_zyx, self.view.image.shape)[::-1]
