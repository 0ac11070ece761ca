"""What seed policies see, without a canvas."""

from types import SimpleNamespace

import numpy as np

from ffn.utils.geometry import Zyx


def view(
    image, *, segmentation=None, mask=None, seed_mask=None, margin=(0, 0, 0), voxel_size=(1, 1, 1)
):
    """The view of a canvas; image [z, y, x]."""
    if segmentation is None:
        segmentation = np.zeros(image.shape, np.int32)
    return SimpleNamespace(
        image=image.astype(np.float32),
        segmentation=segmentation.astype(np.int32),
        mask=mask,
        seed_mask=seed_mask,
        margin_zyx=Zyx(*margin),
        corner_zyx=Zyx(3, 2, 1),
        voxel_size_zyx=tuple(voxel_size),
    )


def noise_image(shape=(12, 20, 28)):
    """Random intensities, the same in every test."""
    return np.random.default_rng(5).normal(size=shape)
