"""Builds the restrictor of a subvolume from the masks of a configuration, and sees where nothing is left."""

from __future__ import annotations

import numpy as np
from absl import logging

from ffn.inference.config import MaskingConfig, ShiftMaskConfig
from ffn.inference.core.restrictor import Restrictor, ShiftMask, coarse_box
from ffn.inference.seeds.policy import is_constant
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.masks import MaskBuilder


def make_restrictor(
    masking: MaskingConfig, box: Box, image: np.ndarray, fov: Xyz, masks: MaskBuilder
) -> Restrictor:
    """Makes the restrictor of a subvolume.

    Args:
      masking: its masks.
      box: the subvolume.
      image: [z, y, x] image of it, not normalized.
      fov: field of view of the network.
      masks: opens the volumes of the masks.

    Raises:
      UserError: an incomplete mask, or one that does not cover the subvolume.
    """
    shifts = masking.shift_mask
    return Restrictor(
        mask=masks.build(masking.masks, box, image),
        seed_mask=masks.build(masking.seed_masks, box, image),
        shift_mask=None if shifts is None else _read_shifts(shifts, box, fov),
    )


def _read_shifts(config: ShiftMaskConfig, box: Box, fov: Xyz) -> ShiftMask:
    around = config.around or Box(Xyz(*(-(n // 2) for n in fov)), fov)
    with config.source.open() as volume:
        if volume.channels != 2:
            raise UserError(
                f'shift_mask {volume.name} has shape {volume.shape_zyx} and '
                f'{volume.channels or "no"} channels; expected 2 channels, x and y shift'
            )
        # All that the boxes around the subvolume's positions reach.
        reach = Box(
            Xyz(*map(sum, zip(box.start, around.start, strict=True))),
            Xyz(*(n + a - 1 for n, a in zip(box.size, around.size, strict=True))),
        )
        region = coarse_box(reach, config.scale).intersection(volume.box)
        if region is None:
            raise UserError(
                f'shift_mask {volume.name} covers {volume.box}, which does not touch the subvolume '
                f'{box} at shift_mask_scale {config.scale}'
            )
        needed = coarse_box(box, config.scale)
        if (covered := region.intersection(needed)) != needed:
            logging.warning(
                'shift_mask %s covers %s of the subvolume %s at shift_mask_scale %d; elsewhere nothing counts as shifted',
                volume.name,
                covered or 'nothing',
                box,
                config.scale,
            )
        shifts = volume.read(region)
        if not np.isfinite(shifts).all():
            raise UserError(
                f'shift_mask {volume.name} holds shifts that are no finite numbers in {region}; let them be great where '
                'nothing is known'
            )
    # Without np.abs, which keeps the least number of an integer type negative.
    great = np.logical_or(shifts >= config.threshold, shifts <= -config.threshold)
    shifted: np.ndarray = np.any(great, axis=0)
    return ShiftMask(shifted, region.start, box.start, config.scale, around)


def find_nothing(image: np.ndarray, restrictor: Restrictor, fov: Xyz) -> str:
    """Finds why no object can be in a subvolume.

    Args:
      image: [z, y, x] image of it, as the network sees it.
      restrictor: its masks.
      fov: field of view of the network.

    Returns:
      'masked' where a seed can be at none of the positions where the field of view fits, 'constant', or '' where an
      object may be.
    """
    centres = tuple(
        slice(n // 2, size - n // 2) for n, size in zip(fov.zyx, image.shape, strict=True)
    )
    if restrictor.forbids_all(centres):
        return 'masked'
    return 'constant' if is_constant(image) else ''
