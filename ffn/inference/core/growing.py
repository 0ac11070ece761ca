"""The object that is being grown, and the limits that end its growth early."""

from __future__ import annotations

from dataclasses import dataclass

from ffn.inference.core.options import CanvasOptions
from ffn.utils.geometry import Position


@dataclass
class GrowingObject:
    """The object that is being grown.

    Attributes:
      start: its seed, z, y, x.
      iters: network steps so far.
      seconds: time so far.
      voxels: those that reach segment_threshold; counted only where their number is limited.
      limit: the option that ended its growth, '' where none did.
    """

    start: Position
    iters: int = 0
    seconds: float = 0.0
    voxels: int = 0
    limit: str = ''

    def limit_reached(self, options: CanvasOptions) -> str:
        """Name of the option that ends the growth of the object now, '' where none does."""
        if 0 < options.max_object_steps <= self.iters:
            return 'max_object_steps'
        if 0 < options.max_object_voxels <= self.voxels:
            return 'max_object_voxels'
        return ''
