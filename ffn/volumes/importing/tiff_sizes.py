"""The voxel size that a TIFF file states: in OME metadata, by ImageJ, or as resolution of a page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ffn.volumes.importing.samples import StatedSize
from ffn.volumes.units import nanometres

if TYPE_CHECKING:
    from tifffile import TiffFile

# Resolutions of print and screen, such as 72 dpi, say nothing of a microscope: pixels of 10 µm and more.
_LARGEST_NM = 1e4
_PAGE_UNITS = {2: 'inch', 3: 'cm', 4: 'mm', 5: 'um'}


def read_size(tif: TiffFile, path: Path) -> StatedSize | None:
    """Reads the voxel size of a TIFF file.

    Args:
      tif: the open file.
      path: its path, for messages.

    Returns:
      None if it says nothing that can be believed.
    """
    if tif.is_ome:
        return _ome_size(tif.ome_metadata or '', path)
    page = tif.pages.first
    metadata: dict[str, Any] = tif.imagej_metadata or {}
    if metadata:
        units = [_imagej_unit(metadata, key) for key in ('unit', 'yunit', 'zunit')]
        source = f'the ImageJ metadata of {path}'
    else:
        units = [nanometres(_PAGE_UNITS.get(int(page.resolutionunit)))] * 3
        source = f'the resolution of {path}'
    x, y = (_length(tag, unit) for tag, unit in zip(_resolutions(page), units[:2], strict=True))
    z = _positive(metadata.get('spacing'), units[2])
    if x is None and y is None and z is None:
        return None
    return StatedSize((x, y, z), source)


def _imagej_unit(metadata: dict[str, Any], key: str) -> float | None:
    """Nanometres of the unit of an axis; `yunit` and `zunit` are there if they differ from `unit`, that of x."""
    unit = metadata.get(key) or metadata.get('unit', '')
    return nanometres(re.sub(r'\\u00b5', 'µ', str(unit), flags=re.I))


def _resolutions(page: Any) -> list[float]:
    """Pixels per unit along x and y, 0 where the page does not say."""
    found = []
    for name in ('XResolution', 'YResolution'):
        tag = page.tags.get(name)
        above, below = tag.value if tag is not None else (0, 1)
        found.append(above / below if below else 0.0)
    return found


def _length(per_unit: float, unit: float | None) -> float | None:
    """The size of a pixel in nanometres; None where it is unknown or that of a screen."""
    if unit is None or not per_unit > 0:
        return None
    size = float(f'{unit / per_unit:.6g}')  # stored as a fraction of 32-bit integers
    return size if size < _LARGEST_NM else None


def _positive(value: Any, unit: float | None) -> float | None:
    if unit is None:
        return None
    try:
        size = abs(float(value)) * unit
    except (TypeError, ValueError):
        return None
    return float(f'{size:.7g}') if 0 < size < _LARGEST_NM else None


def _ome_size(text: str, path: Path) -> StatedSize | None:
    try:
        pixels = ElementTree.fromstring(text).find('.//{*}Pixels')
    except ElementTree.ParseError:
        return None
    if pixels is None:
        return None
    sizes: list[float | None] = []
    for axis in 'XYZ':
        unit = nanometres(pixels.get(f'PhysicalSize{axis}Unit'), 1000.0)
        sizes.append(None if unit is None else _positive(pixels.get(f'PhysicalSize{axis}'), unit))
    if sizes == [None] * 3:
        return None
    x, y, z = sizes
    return StatedSize((x, y, z), f'the OME metadata of {path}')
