"""How the objects of a canvas grow."""

from __future__ import annotations

from dataclasses import dataclass

from ffn.utils.geometry import Xyz

ZERO = Xyz(0, 0, 0)


@dataclass(frozen=True)
class CanvasOptions:
    """How objects grow; thresholds are logits.

    Attributes:
      init_activation: value of the starting voxel.
      pad_value: what the network sees where no field of view has been.
      move_threshold: least value of a voxel to move to.
      segment_threshold: least value of a voxel of the object.
      disco_seed_threshold: when more than this fraction of a field of view is filled, the network may not
        raise voxels that it had called background; negative: off.
      min_boundary_dist: least distance of a seed from a segment, x, y, z voxels.
      min_segment_size: voxels that an object must have.
      max_object_steps: network steps after which an object stops growing; 0: no limit.
      max_object_voxels: number of voxels that reach segment_threshold at which it stops; 0: no limit.
      join_fraction: an object becomes part of a prefilled segment of which it covers at least this fraction of
        what its fields of view saw; 0: of none.
      gap: the field of view is not centred where a ball of this radius, in voxels, does not fit beside prefilled
        segments; 0: it may be anywhere there.
    """

    init_activation: float
    pad_value: float
    move_threshold: float
    segment_threshold: float
    disco_seed_threshold: float = -1.0
    min_boundary_dist: Xyz = ZERO
    min_segment_size: int = 0
    max_object_steps: int = 0
    max_object_voxels: int = 0
    join_fraction: float = 0.0
    gap: int = 0
