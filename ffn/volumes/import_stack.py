"""Image stacks to HDF5, one slab of sections in memory at a time."""

from __future__ import annotations

import contextlib
import glob
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from natsort import natsorted
from PIL import Image, UnidentifiedImageError

from ffn.utils.errors import UserError
from ffn.utils.progress import progress
from ffn.volumes.hdf5 import replaced_dataset, split_output

# Pillow reads 16-bit PNG as 'I', 32-bit integers, in its older releases.
_DTYPES = dict.fromkeys(('I;16', 'I;16L', 'I;16B', 'I'), np.uint16) | {'L': np.uint8}
_SLAB_BYTES = 2**28
_CHUNK_VOXELS = 2**18
_MAX_DEPTH = 64


@dataclass(frozen=True)
class Stack:
    """Sections of the same size and type.

    Attributes:
      paths: files, in order of z.
      shape_zyx: number of sections, height and width.
      dtype: uint8 or uint16.
    """

    paths: tuple[Path, ...]
    shape_zyx: tuple[int, int, int]
    dtype: np.dtype


def find_images(pattern: str) -> tuple[Path, ...]:
    """Finds the files of a stack, sorted by name with numbers counted (z9 before z10).

    Args:
      pattern: with *, ?, [...] and ** as in a shell.

    Raises:
      UserError: no file matches.
    """
    found = [name for name in glob.glob(pattern, recursive=True) if Path(name).is_file()]
    if not found:
        raise UserError(
            f"--images {pattern!r} matches no file; expected a pattern in quotes, such as 'dir/*.png'"
        )
    return tuple(Path(name) for name in natsorted(found))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens an image file; what is wrong with it becomes a UserError, also while its pages are read."""
    # Pillow refuses images above a size that sections often have.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path, formats=('PNG', 'TIFF')) as image:
            yield image
    except UnidentifiedImageError as error:
        raise UserError(f'{path} is neither PNG nor TIFF') from error
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(f'{path} cannot be read as an image: {error}') from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _pages(image: Image.Image, path: Path) -> Iterator[str]:
    """Steps through the pages of an image; yields what messages call each."""
    count = getattr(image, 'n_frames', 1)
    for page in range(count):
        image.seek(page)
        yield f'{path} (page {page})' if count > 1 else str(path)


def inspect(paths: Sequence[Path]) -> Stack:
    """Reads the headers of all sections.

    Args:
      paths: files, in the order of z.

    Raises:
      UserError: a file is not a grey image of 8 or 16 bits, or sections differ.
    """
    count = 0
    first: tuple[int, int, np.dtype] | None = None
    first_name = ''
    for path in paths:
        with _opened(path) as image:
            for name in _pages(image, path):
                if image.mode not in _DTYPES:
                    raise UserError(
                        f'{name} has Pillow mode {image.mode}; expected grey of 8 or 16 bit: '
                        'convert it first'
                    )
                this = (*image.size, np.dtype(_DTYPES[image.mode]))
                if first is None:
                    first, first_name = this, name
                if this != first:
                    raise UserError(
                        f'sections differ: {_describe(this)} in {name}, but {_describe(first)} in '
                        f'{first_name}'
                    )
                count += 1
    if first is None:
        raise UserError('there is no section')
    width, height, dtype = first
    return Stack(tuple(paths), (count, height, width), dtype)


def _describe(section: tuple[int, int, np.dtype]) -> str:
    width, height, dtype = section
    return f'{width}×{height} (x,y) {dtype}'


def read_sections(stack: Stack) -> Iterator[np.ndarray]:
    """Reads the sections one by one.

    Yields:
      [y, x] of the stack's dtype.

    Raises:
      UserError: a file is damaged.
    """
    for path in stack.paths:
        with _opened(path) as image:
            for name in _pages(image, path):
                section = np.asarray(image)
                if image.mode == 'I' and (section.min() < 0 or section.max() > 65535):
                    raise UserError(f'{name} has 32-bit values; expected grey of 8 or 16 bit')
                yield section.astype(stack.dtype)


def equalize(section: np.ndarray) -> np.ndarray:
    """Equalizes contrast locally: CLAHE with scikit-image's defaults, over the full range of the type.

    Args:
      section: uint8 or uint16 [y, x].

    Returns:
      Array of the same type and shape.
    """
    from skimage import exposure

    top = np.iinfo(section.dtype).max
    return np.rint(exposure.equalize_adapthist(section) * top).astype(section.dtype)


def chunk_shape(stack: Stack) -> tuple[int, int, int]:
    """Chooses the chunks [z, y, x] of the dataset; their depth is that of the slabs held in memory."""
    sections, height, width = stack.shape_zyx
    section_bytes = height * width * stack.dtype.itemsize
    depth = max(1, min(_MAX_DEPTH, sections, _SLAB_BYTES // section_bytes))
    side = math.isqrt(_CHUNK_VOXELS // depth)
    return depth, min(side, height), min(side, width)


def import_stack(pattern: str, output: str, *, clahe: bool = False, quiet: bool = False) -> Stack:
    """Writes a stack of images as an HDF5 dataset, chunked and gzipped.

    Args:
      pattern: see `find_images`.
      output: 'path:dataset'; other datasets of the file are kept.
      clahe: equalize contrast in each section.
      quiet: no progress bar.

    Returns:
      What was written.

    Raises:
      UserError: see `inspect` and `replaced_dataset`.
    """
    split_output(output, '--output')
    stack = inspect(find_images(pattern))
    chunks = chunk_shape(stack)
    with replaced_dataset(output, '--output') as (file, name):
        dataset = file.create_dataset(
            name, stack.shape_zyx, stack.dtype, chunks=chunks, compression='gzip', shuffle=True
        )
        slab = np.empty((chunks[0], *stack.shape_zyx[1:]), stack.dtype)
        sections = progress(
            read_sections(stack), total=stack.shape_zyx[0], desc='sections', quiet=quiet
        )
        for z, section in enumerate(sections):
            filled = z % len(slab) + 1
            slab[filled - 1] = equalize(section) if clahe else section
            if filled == len(slab) or z == stack.shape_zyx[0] - 1:
                dataset[z + 1 - filled : z + 1] = slab[:filled]
    return stack
