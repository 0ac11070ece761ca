"""How the objects of a canvas grow: the inference options of a request, as the canvas takes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.utils.logits import logit

if TYPE_CHECKING:
    from ffn.inference import inference_pb2

_NEEDED = ('init_activation', 'pad_value', 'move_threshold', 'segment_threshold')
ZERO = Xyz(0, 0, 0)


@dataclass(frozen=True)
class CanvasOptions:
    """How objects grow; thresholds are logits.

    Attributes:
      init_activation: value of the starting voxel.
      pad_value: what the network sees where no field of view has been.
      move_threshold: least value of a voxel to move to.
      segment_threshold: least value of a voxel of the object.
      disco_seed_threshold: fraction of the field of view, see the request; negative is off.
      min_boundary_dist: least distance of a seed from a segment.
      min_segment_size: voxels.
      max_object_steps: network steps after which an object stops growing; 0: no limit.
      max_object_voxels: voxels from segment_threshold on at which it stops; 0: no limit.
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

    @classmethod
    def from_proto(cls, options: inference_pb2.InferenceOptions) -> CanvasOptions:
        """Converts the probabilities of a request.

        Raises:
          UserError: a field that is missing, no probability, or negative where that means nothing.
        """
        for name in ('max_object_steps', 'max_object_voxels', 'min_segment_size'):
            if getattr(options, name) < 0:
                raise UserError(
                    f'inference_options.{name} is {getattr(options, name)}; expected 1 or more, or 0 '
                    'for no limit'
                )
        distance = Xyz.from_proto(options.min_boundary_dist)
        if min(distance) < 0:
            raise UserError(
                f'inference_options.min_boundary_dist is {distance}; expected 0 or more voxels'
            )
        if math.isnan(options.disco_seed_threshold):
            raise UserError('inference_options.disco_seed_threshold is nan; expected a fraction')
        return cls(
            *(_logit_field(options, name) for name in _NEEDED),
            disco_seed_threshold=options.disco_seed_threshold,
            min_boundary_dist=distance,
            min_segment_size=options.min_segment_size,
            max_object_steps=options.max_object_steps,
            max_object_voxels=options.max_object_voxels,
        )


def _logit_field(options: inference_pb2.InferenceOptions, name: str) -> float:
    if not options.HasField(name):
        raise UserError(f'inference_options.{name} is not set; it is needed, as a probability')
    value = getattr(options, name)
    if not 0 < value < 1:
        raise UserError(
            f'inference_options.{name} is {value:g}; expected a probability between 0 and 1'
        )
    return logit(value)
