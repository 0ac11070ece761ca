"""Which part of a label volume a command works on."""

from __future__ import annotations

from absl import logging

from ffn.inference.request import read_box
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.units import KnownVoxelSize
from ffn.volumes.volume import VolumeSource


def box_of_labels(
    segmentation: VolumeSource, text_or_path: str
) -> tuple[Box, KnownVoxelSize | None]:
    """Reads --bounding_box, within the segmentation.

    Args:
      segmentation: label volume.
      text_or_path: BoundingBox in text format or a file; '': all of the volume.

    Returns:
      The box, and the voxel size that the segmentation states, if it does.

    Raises:
      UserError: the box cannot be read, or lies outside.
    """
    with segmentation.open() as volume:
        whole, size = volume.require_labels().box, volume.voxel_size
    if segmentation.upsample is not None:
        # Without the background around them, see `ffn.volumes.resampled`.
        whole = whole.shrink(Xyz(*(factor - 1 for factor in segmentation.upsample)))
    known = None if size is None else size.of(segmentation.name)
    if not text_or_path:
        return whole, known
    asked = read_box(text_or_path)
    box = asked.intersection(whole)
    if box is None:
        raise UserError(f'--bounding_box lies outside the segmentation, which covers {whole}')
    if box != asked:
        logging.warning('--bounding_box extends beyond the segmentation; clipped to %s', box)
    return box, known
