"""WKW, the older format of WEBKNOSSOS, through the package wkw.

A magnification of a layer is a folder with `header.wkw` and one file for each cube; see `ffn.volumes.webknossos`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffn.utils.errors import UnreadableError, UserError, damage_told
from ffn.utils.geometry import Box, Xyz
from ffn.utils.texts import parse_object
from ffn.volumes.missing import MissingChunks
from ffn.volumes.opened_array import OpenedArray
from ffn.volumes.specs import split_scale, split_spec
from ffn.volumes.webknossos import PROPERTIES, Layer, parse_magnification

_SCHEME, _HEADER = 'wkw://', 'header.wkw'
# Files that mark arrays and groups of other formats.
_OTHER_FORMATS = ('.zarray', '.zgroup', 'zarr.json', 'attributes.json', 'info')
_CUBE = re.compile(r'z(\d+)/y(\d+)/x(\d+)\.wkw')


@dataclass(frozen=True)
class _Magnification:
    """A folder with cubes.

    Attributes:
      folder: with header.wkw.
      factors: voxels of magnification 1 in one of its voxels, x, y, z.
    """

    folder: Path
    factors: Xyz

    @classmethod
    def of(cls, folder: Path) -> _Magnification | None:
        """Reads the factors from the name of a folder; None if it holds no magnification."""
        if not (folder / _HEADER).is_file():
            return None
        return cls(folder, parse_magnification(folder.name) or Xyz(1, 1, 1))


def recognizes(spec: str) -> bool:
    """Whether a string names a layer of WKW or a magnification of one."""
    place, _ = _split(spec)
    return spec.startswith(_SCHEME) or (place.is_dir() and bool(_magnifications(place)))


def _split(spec: str) -> tuple[Path, str]:
    place, scale = split_scale(spec.removeprefix(_SCHEME))
    path, dataset = split_spec(place)
    return Path(path, dataset.strip('/')), scale


def _magnifications(place: Path) -> list[_Magnification]:
    """Those at a place or below it, the finest first."""
    if (here := _Magnification.of(place)) is not None:
        return [here]
    # The folder of an array in another format may hold millions of files.
    if any((place / name).exists() for name in _OTHER_FORMATS):
        return []
    found = [m for m in map(_Magnification.of, place.iterdir()) if m is not None]
    return sorted(found, key=lambda m: (sum(m.factors), m.folder.name))


def open_array(spec: str) -> OpenedArray:
    """Opens a magnification, the finest of a layer unless one is named.

    Raises:
      UserError: the package wkw is missing, there is no such magnification, or none of its cubes exist.
    """
    try:
        import wkw
    except ImportError as error:
        raise UserError(f'{spec} is WKW, which needs the package wkw: pip install wkw') from error
    magnification = _choose(spec)
    try:
        dataset = wkw.Dataset.open(str(magnification.folder))
    except (wkw.wkw.WKWException, AssertionError, IndexError) as error:
        raise UserError(f'{spec} cannot be opened: {error}') from error
    with damage_told(spec, f'correct {PROPERTIES}, or copy the volume again'):
        return _describe(dataset, magnification, spec)


def find_header(spec: str) -> Path:
    """The file that describes what a string names: another program that writes it anew writes that, too.

    Raises:
      UserError: there is no such magnification.
    """
    return _choose(spec).folder / _HEADER


def _choose(spec: str) -> _Magnification:
    place, scale = _split(spec)
    found = _magnifications(place) if place.is_dir() else []
    if not found:
        raise UserError(f'{spec}: no {_HEADER} in {place} or its folders')
    chosen = [m for m in found if scale in ('', m.folder.name)]
    if not chosen:
        names = ', '.join(m.folder.name for m in found)
        raise UserError(f'{spec}: no magnification {scale}; its magnifications are: {names}')
    return chosen[0]


def _describe(dataset: Any, magnification: _Magnification, spec: str) -> OpenedArray:
    side = dataset.header.block_len * dataset.header.file_len
    # There may be many, and a volume is opened for every block: they are listed only where nothing else tells its box.
    if next(_find_cubes(magnification.folder), None) is None:
        dataset.close()
        raise UserError(f'{spec}: none of its cubes exist in {magnification.folder}')
    folder = magnification.folder.parent
    layer = Layer(
        folder.as_posix(), magnification.factors, _read_properties(folder.parent / PROPERTIES)
    )
    stated = layer.box()
    box = stated or _box_of_cubes(magnification.folder, side)
    missing = MissingChunks(spec)
    return OpenedArray(
        _WkwArray(dataset, box, side, magnification.folder, missing),
        {},
        box.start.zyx,
        dataset.close,
        layer.voxel_size(),
        'its bounding box' if stated else 'its cubes',
        missing,
    )


def _find_cubes(folder: Path) -> Iterator[Xyz]:
    """The cubes that exist, by their number along each axis."""
    names = (path.relative_to(folder).as_posix() for path in folder.glob('z*/y*/x*.wkw'))
    matches = (_CUBE.fullmatch(name) for name in names)
    return (Xyz(*map(int, m.groups()[::-1])) for m in matches if m)


def _box_of_cubes(folder: Path, side: int) -> Box:
    corners = np.array([tuple(cube) for cube in _find_cubes(folder)])
    start, end = corners.min(axis=0) * side, (corners.max(axis=0) + 1) * side
    return Box(Xyz(*start.tolist()), Xyz(*(end - start).tolist()))


def _read_properties(path: Path) -> dict[str, Any]:
    """What the dataset says of itself; {} if it says nothing."""
    if not path.is_file():
        return {}
    return parse_object(path.read_text(encoding='utf-8-sig', errors='replace'), str(path))


class _WkwArray:
    """The voxels of a magnification, [z, y, x], or [c, z, y, x] with several channels."""

    def __init__(self, dataset: Any, box: Box, side: int, folder: Path, missing: MissingChunks):
        channels = dataset.header.num_channels
        self.shape = (channels,) * (channels > 1) + tuple(box.size.zyx)
        self.dtype = np.dtype(dataset.header.voxel_type)
        self._dataset, self._box, self._side = dataset, box, side
        self._folder, self._missing = folder, missing

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        ranges = [s.indices(n) for s, n in zip(index[-3:], self.shape[-3:], strict=True)]
        start = Xyz(*(r[0] + b for r, b in zip(ranges[::-1], self._box.start, strict=True)))
        size = Xyz(*(r[1] - r[0] for r in ranges[::-1]))
        self._tell_missing(start, size)
        try:
            data = self._dataset.read(tuple(start), tuple(size))
        except Exception as error:  # the package raises its own kind for all that goes wrong
            raise UnreadableError(f'{self._dataset.root} cannot be read: {error}') from error
        channels = np.ascontiguousarray(data.transpose(0, 3, 2, 1))
        return channels[index[0]] if len(self.shape) == 4 else channels[0]

    def _tell_missing(self, start: Xyz, size: Xyz) -> None:
        end = [(s + n - 1) // self._side + 1 for s, n in zip(start, size, strict=True)]
        spans = (range(s // self._side, e) for s, e in zip(start, end, strict=True))
        needed = list(itertools.product(*spans))
        absent = sum(not (self._folder / f'z{z}/y{y}/x{x}.wkw').is_file() for x, y, z in needed)
        self._missing.report(absent, len(needed), 0)
