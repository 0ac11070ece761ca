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
      pred_mask_size: what the network predicts: the centre of the field of view, or all of it.
      input_seed_size: what it sees of its own guess.
      input_image_size: what it sees of the image: the field of view (FOV).
    """

    deltas: Xyz
    pred_mask_size: Xyz
    input_seed_size: Xyz
    input_image_size: Xyz

    @property
    def edge(self) -> Xyz:
        """Voxels on each side of the field of view that are seen, but not predicted."""
        pairs = zip(self.input_image_size, self.pred_mask_size, strict=True)
        return Xyz(*((seen - predicted) // 2 for seen, predicted in pairs))

    @property
    def predicted(self) -> tuple[slice, slice, slice]:
        """The part of the field of view that the network predicts, z, y, x."""
        pairs = zip(self.edge.zyx, self.input_image_size.zyx, strict=True)
        z, y, x = (slice(edge, n - edge) for edge, n in pairs)
        return z, y, x


def check_sizes(info: ModelInfo) -> None:
    """Checks the sizes of a network.

    Raises:
      UserError: an even size, which has no centre voxel, a prediction that is larger than the field of view, or
        deltas beyond half of it.
    """
    fov, predicted, step = info.input_image_size, info.pred_mask_size, info.deltas
    if any(n < 1 or n % 2 == 0 for n in fov):
        raise UserError(f'fov_size is {fov}; expected odd sizes, so that there is a centre voxel')
    if any(n < 1 or n % 2 == 0 or n > f for n, f in zip(predicted, fov, strict=True)):
        raise UserError(f'pred_mask_size is {predicted}; expected odd sizes within fov_size {fov}')
    if any(d < 0 or d > n // 2 for d, n in zip(step, predicted, strict=True)):
        what = 'fov_size' if predicted == fov else 'what is predicted of the field of view,'
        raise UserError(
            f'deltas are {step}; expected 0 to half of {what} {predicted}, rounded down'
        )
