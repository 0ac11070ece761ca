"""Images and labels with known values."""

from __future__ import annotations

import h5py
import numpy as np

SHAPE = (28, 96, 110)


def write(path, image, labels, **attributes):
    with h5py.File(path, 'w') as file:
        for name, array in (('raw', image), ('labels', labels)):
            file[name] = array
            file[name].attrs.update(attributes)
    return f'{path}:raw', f'{path}:labels'


def blocks(shape=SHAPE):
    """An image with known values, and labels: two large objects, one small, and background between."""
    image = np.full(shape, 100, np.uint8)
    image[:, ::2] = 140
    labels = np.zeros(shape, np.int64)
    labels[:, :40] = 7
    labels[:, 41:] = 2**40
    labels[3:5, 60:64, 50:55] = 9
    labels[0, 0, :30] = -1
    return image, labels
