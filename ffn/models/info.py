"""Sizes of a network. No framework is needed to talk about them."""

from __future__ import annotations

from dataclasses import dataclass

from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz


@dataclass(frozen=True)
class ModelInfo:
    """Sizes of a network, x, y, z voxels.

    Attributes:
      deltas: how far the field of view moves in one step.
      pred_mask_size: what the network predicts.
      input_seed_size: what it sees of its own guess.
      input_image_size: what it sees of the image: the field of view (FOV).
    """

    deltas: Xyz
    pred_mask_size: Xyz
    input_seed_size: Xyz
    input_image_size: Xyz


def check_sizes(fov: Xyz, step: Xyz) -> None:
    """Checks a field of view and its deltas.

    Raises:
      UserError: an even size, which has no centre voxel, or deltas beyond half of it.
    """
    if any(n < 1 or n % 2 == 0 for n in fov):
        raise UserError(f'fov_size is {fov}; expected odd sizes, so that there is a centre voxel')
    if any(d < 0 or d > n // 2 for d, n in zip(step, fov, strict=True)):
        raise UserError(f'deltas are {step}; expected 0 to half of fov_size {fov}, rounded down')
