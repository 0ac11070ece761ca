"""Image stacks, and images in volumes, to HDF5, one slab of sections in memory at a time."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, Zyx
from ffn.utils.progress import progress
from ffn.volumes.downsample import NO_FACTORS, Grid, downsample_image
from ffn.volumes.hdf5 import replaced_dataset, split_output
from ffn.volumes.importing.image_sources import open_images
from ffn.volumes.importing.imported import VoxelSize, decide_voxel_size, store_voxels

_SLAB_BYTES = 2**28
_CHUNK_VOXELS = 2**18
_MAX_DEPTH = 64


@dataclass(frozen=True)
class Written:
    """An image that was written.

    Attributes:
      shape_zyx: its size.
      dtype: of its voxels.
      voxel_size: x, y, z nanometres; None if it is unknown.
    """

    shape_zyx: Zyx
    dtype: np.dtype
    voxel_size: VoxelSize | None


def equalize(section: np.ndarray) -> np.ndarray:
    """Equalizes contrast locally: CLAHE with scikit-image's defaults.

    Args:
      section: [y, x].

    Returns:
      Array of the same type and shape, over the full range of an integer type, or from 0 to 1; a constant one as it is.
    """
    from skimage import exposure

    low, high = float(section.min()), float(section.max())
    if low == high:
        return section
    # Its range alone counts; scikit-image clips what is negative, and refuses floats beyond 1.
    even = exposure.equalize_adapthist((section.astype(np.float64) - low) / (high - low))
    if section.dtype.kind == 'f':
        return even.astype(section.dtype)
    limits = np.iinfo(section.dtype)
    return np.rint(even * (limits.max - limits.min) + limits.min).astype(section.dtype)


def chunk_shape(shape_zyx: tuple[int, int, int], dtype: np.dtype) -> tuple[int, int, int]:
    """Chooses the chunks [z, y, x] of the dataset; their depth is that of the slabs held in memory."""
    sections, height, width = shape_zyx
    section_bytes = height * width * dtype.itemsize
    depth = max(1, min(_MAX_DEPTH, sections, _SLAB_BYTES // section_bytes))
    side = math.isqrt(_CHUNK_VOXELS // depth)
    return depth, min(side, height), min(side, width)


def import_stack(
    pattern: str,
    output: str,
    *,
    voxel_size: VoxelSize | None = None,
    channel: int | None = None,
    downsample: Xyz = NO_FACTORS,
    clahe: bool = False,
    quiet: bool = False,
) -> Written:
    """Writes a stack of images, or the image in a volume, as an HDF5 dataset, chunked and gzipped.

    Args:
      pattern: see `open_images`.
      output: 'path:dataset'; other datasets of the file are kept.
      voxel_size: x, y, z nanometres, before downsampling; None: as the files say.
      channel: of several, the one to take.
      downsample: x, y, z, voxels whose mean becomes one.
      clahe: equalize contrast in each section that is written.
      quiet: no progress bar.

    Raises:
      UserError: see `open_images` and `replaced_dataset`; nothing is left after downsampling; or contrast cannot be
        equalized where values are not finite.
    """
    split_output(output, '--output')
    with contextlib.ExitStack() as stack:
        image = stack.enter_context(open_images(pattern, channel))
        grid = Grid(image.box, downsample)
        box = grid.coarse
        shape_zyx = box.size.zyx
        grid.tell_cut(pattern)
        size = decide_voxel_size(voxel_size, image.stated_size, pattern)
        size = None if size is None else grid.scale_size(size)
        chunks = chunk_shape(shape_zyx, image.dtype)
        file, name = stack.enter_context(replaced_dataset(output, '--output'))
        dataset = file.create_dataset(
            name, shape_zyx, image.dtype, chunks=chunks, compression='gzip', shuffle=True
        )
        store_voxels(dataset.attrs, size, None if image.start is None else box.start)
        slab = np.empty((chunks[0], *shape_zyx[1:]), image.dtype)
        kept = grid.refine(box)
        fine = progress(
            image.sections(kept.start.z, kept.end.z),
            total=kept.size.z,
            desc='sections',
            quiet=quiet,
        )
        for z, section in enumerate(_coarse_sections(fine, grid)):
            filled = z % len(slab) + 1
            slab[filled - 1] = _equalized(section, z, pattern) if clahe else section
            if filled == len(slab) or z == shape_zyx.z - 1:
                dataset[z + 1 - filled : z + 1] = slab[:filled]
    return Written(shape_zyx, image.dtype, size)


def _equalized(section: np.ndarray, z: int, pattern: str) -> np.ndarray:
    """Equalizes a section that is written at z; see `equalize`."""
    if section.dtype.kind == 'f' and not (finite := np.isfinite(section)).all():
        raise UserError(
            f'--clahe: {pattern}: {np.count_nonzero(~finite)} voxels of what becomes section {z} are not finite; replace '
            'them first, or import without --clahe'
        )
    return equalize(section)


def _coarse_sections(fine: Iterator[np.ndarray], grid: Grid) -> Iterator[np.ndarray]:
    """Makes each coarse section of as many fine ones as become one."""
    if grid.factors == NO_FACTORS:
        yield from fine
        return
    _, y, x = grid.refine(grid.coarse).relative_to(grid.fine.start).slices_zyx
    sections = iter(fine)
    while block := list(itertools.islice(sections, grid.factors.z)):
        yield downsample_image(np.stack([one[y, x] for one in block]), grid.factors)[0]
