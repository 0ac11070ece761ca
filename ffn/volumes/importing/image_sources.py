"""Where images are imported from: the files of a stack, or any volume."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging

from ffn.utils.geometry import Box, Xyz
from ffn.volumes import tensorstores, wkw_datasets
from ffn.volumes.importing.image_files import ReadAs
from ffn.volumes.importing.samples import Samples, StatedSize
from ffn.volumes.importing.stacks import find_images, inspect, read_sections
from ffn.volumes.provenance import open_complete
from ffn.volumes.specs import agreed, split_channel, split_spec
from ffn.volumes.volume import Volume

_SLAB_BYTES = 2**28
_MAX_DEPTH = 64


@dataclass(frozen=True)
class ImageSource:
    """An image to be imported.

    Attributes:
      box: its voxels.
      dtype: of its voxels as they are read.
      sections: reads sections, each [y, x] of the whole box, from one z up to the one before another.
      stated_size: voxel size that the source states.
      start: first voxel, None if the source does not say where it begins.
    """

    box: Box
    dtype: np.dtype
    sections: Callable[[int, int], Iterator[np.ndarray]]
    stated_size: StatedSize | None
    start: Xyz | None = None


@contextlib.contextmanager
def open_images(source: str, channel: int | None) -> Iterator[ImageSource]:
    """Opens an image.

    Args:
      source: a pattern of image files, or a string that `open_volume` takes.
      channel: of several, the one to take.

    Raises:
      UserError: nothing is there, it is of a type that is no image, files differ, or `channel` contradicts the source.
    """
    source, of_name = split_channel(source)
    channel = agreed(of_name, channel, source, '--images', '--channel')
    if _is_volume(source):
        with open_complete(source) as opened:
            volume = opened.single_channel() if channel is None else opened.choose_channel(channel)
            yield _of_volume(volume)
        return
    stack = inspect(find_images(source), ReadAs(channel=channel))
    box = Box.of_shape(stack.shape_zyx)
    yield ImageSource(box, stack.dtype, lambda a, b: read_sections(stack, a, b), stack.stated_size)


def _is_volume(source: str) -> bool:
    path, dataset = split_spec(source)
    is_hdf5 = bool(dataset) and not Path(source).exists() and Path(path).is_file()
    return is_hdf5 or wkw_datasets.recognizes(source) or tensorstores.recognizes(source)


def _of_volume(volume: Volume) -> ImageSource:
    meaning = ReadAs().meaning(Samples(volume.dtype, 8 * volume.dtype.itemsize), volume.name)
    if meaning.note:
        logging.warning('%s: %s', volume.name, meaning.note)
    _, y, x = volume.shape_zyx
    depth = max(1, min(_MAX_DEPTH, _SLAB_BYTES // (y * x * volume.dtype.itemsize)))

    def sections(start: int, stop: int) -> Iterator[np.ndarray]:
        for first in range(start, stop, depth):
            count = min(depth, stop - first)
            slab = Box(volume.box.start._replace(z=first), volume.box.size._replace(z=count))
            yield from map(meaning.convert, volume.read(slab))

    stated, known = None, volume.voxel_size
    if known is not None:
        stated = StatedSize(known.xyz, f'{known.source} of {volume.name}')
    start = volume.box.start if volume.origin_from else None
    return ImageSource(volume.box, meaning.dtype, sections, stated, start)
