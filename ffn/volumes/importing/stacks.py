"""Sections of the same size in one or many files, read one at a time."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging
from natsort import natsorted

from ffn.utils.errors import UserError
from ffn.volumes.importing.gaps import warn_of_gaps
from ffn.volumes.importing.image_files import ReadAs, open_image
from ffn.volumes.importing.samples import StatedSize


@dataclass(frozen=True)
class Stack:
    """Sections of the same size and type.

    Attributes:
      paths: files, in order of z.
      counts: sections of each file.
      shape_zyx: number of sections, height and width.
      dtype: of the voxels as they are read.
      read_as: how the files are read.
      stated_size: voxel size that the first file states, if it does.
    """

    paths: tuple[Path, ...]
    counts: tuple[int, ...]
    shape_zyx: tuple[int, int, int]
    dtype: np.dtype
    read_as: ReadAs
    stated_size: StatedSize | None = None


def find_images(pattern: str, flag: str = '--images') -> tuple[Path, ...]:
    """Finds the files of a stack, sorted by name with numbers counted (z9 before z10).

    Args:
      pattern: with *, ?, [...] and ** as in a shell.
      flag: what errors call it.

    Raises:
      UserError: no file matches.
    """
    found = [name for name in glob.glob(pattern, recursive=True) if Path(name).is_file()]
    found = found or [pattern] * Path(pattern).is_file()  # a name with [brackets]
    if not found:
        raise UserError(
            f"{flag} {pattern!r} matches no file; expected a pattern in quotes, such as 'dir/*.png'"
        )
    return tuple(Path(name) for name in natsorted(found))


def inspect(paths: Sequence[Path], read_as: ReadAs | None = None) -> Stack:
    """Reads the headers of all sections, and tells what becomes of unusual ones, and which are missing.

    Args:
      paths: files, in the order of z.
      read_as: as what; the default is as an image of one channel.

    Raises:
      UserError: a file is no image of the kind that is read, or sections differ.
    """
    read_as = read_as or ReadAs()
    counts: list[int] = []
    first: tuple[int, int, np.dtype] | None = None
    stated: StatedSize | None = None
    told: set[str] = set()
    for path in paths:
        with open_image(path, read_as.channel) as image:
            meaning = read_as.meaning(image.samples, str(path))
            height, width = image.shape_yx
            this = (width, height, meaning.dtype)
            if first is None:
                first, stated = this, image.stated_size
            if this != first:
                raise UserError(
                    f'sections differ: {_describe(this)} in {path}, but {_describe(first)} in {paths[0]}'
                )
            notes = [meaning.note]
            if image.stated_size and stated and image.stated_size.xyz != stated.xyz:
                notes.append(f'its voxel size differs from that of the first file, {stated}')
            for note in notes:
                if note and note not in told:
                    logging.warning('%s: %s', path, note)
            told.update(notes)
            counts.append(image.count)
    if first is None:
        raise UserError('there is no section')
    warn_of_gaps(paths, counts)
    width, height, dtype = first
    return Stack(tuple(paths), tuple(counts), (sum(counts), height, width), dtype, read_as, stated)


def _describe(section: tuple[int, int, np.dtype]) -> str:
    width, height, dtype = section
    return f'{width}×{height} (x,y) {dtype}'


def read_sections(stack: Stack, start: int = 0, stop: int | None = None) -> Generator[np.ndarray]:
    """Reads sections one by one.

    Args:
      stack: see `inspect`.
      start: first section.
      stop: the one after the last; None: all.

    Yields:
      [y, x] of the stack's dtype.

    Raises:
      UserError: a file is damaged.
    """
    stop = stack.shape_zyx[0] if stop is None else stop
    before = 0
    for path, count in zip(stack.paths, stack.counts, strict=True):
        wanted = range(max(start - before, 0), min(stop - before, count))
        before += count
        if not wanted:
            continue
        with open_image(path, stack.read_as.channel) as image:
            convert = stack.read_as.meaning(image.samples, str(path)).convert
            for section in wanted:
                yield convert(image.read(section))


class SlabReader:
    """Reads slabs of a stack. Those that follow each other are read without opening a file anew."""

    def __init__(self, stack: Stack):
        """Takes the stack."""
        self._stack = stack
        self._sections = read_sections(stack)
        self._next = 0

    def read(self, start: int, stop: int) -> np.ndarray:
        """Reads sections, [z, y, x], from `start` up to the one before `stop`."""
        if start != self._next:
            self.close()
            self._sections = read_sections(self._stack, start)
        self._next = stop
        return np.stack(list(itertools.islice(self._sections, stop - start)))

    def close(self) -> None:
        """Closes the file that is being read."""
        self._sections.close()
