"""What `datasource-properties.json` of a WEBKNOSSOS dataset says of its layers: which voxels they cover, and their size.

A dataset is a folder of layers, a layer a folder of magnifications (`1`, `2-2-1`, ...), arrays in WKW or Zarr. The
arrays begin at voxel 0 of the dataset and are as large as whole shards; only the file says what of them is the layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.axes import Arrangement
from ffn.volumes.units import KnownVoxelSize, nanometres, read_voxel_size

PROPERTIES = 'datasource-properties.json'


def parse_magnification(name: str) -> Xyz | None:
    """Voxels of magnification 1 in a voxel of the magnification of this name; None if it is no such name."""
    match = re.fullmatch(r'([1-9]\d*)(?:-([1-9]\d*)-([1-9]\d*))?', name)
    if match is None:
        return None
    x, y, z = match.groups()
    return Xyz(int(x), int(y or x), int(z or x))


@dataclass(frozen=True)
class Layer:
    """A layer at a magnification.

    Attributes:
      place: its folder, which is called as it is.
      factors: voxels of magnification 1 in one voxel, x, y, z.
      properties: content of the file; {} if there is none.
    """

    place: str
    factors: Xyz
    properties: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of the layer."""
        return self.place.rstrip('/').rpartition('/')[2]

    def box(self) -> Box | None:
        """The voxels that the layer covers; None where nothing says so.

        Raises:
          UserError: what is stated is no box.
        """
        layers = self.properties.get('dataLayers')
        for stated in layers if isinstance(layers, list) else []:
            if isinstance(stated, dict) and stated.get('name') == self.name:
                return self._box(stated)
        return None

    def _box(self, layer: Mapping[str, Any]) -> Box:
        try:
            stated = layer['boundingBox']
            start = [int(n) for n in stated['topLeft']]
            size = [int(stated[name]) for name in ('width', 'height', 'depth')]
            if len(start) != 3 or min(size) < 1 or min(start) < 0:
                raise ValueError
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f'{self.place}: its boundingBox in {PROPERTIES} is damaged; expected topLeft, width, height '
                'and depth'
            ) from error
        begin = [s // f for s, f in zip(start, self.factors, strict=True)]
        ends = zip(start, size, self.factors, strict=True)
        end = [-(-(s + n) // f) for s, n, f in ends]
        return Box(Xyz(*begin), Xyz(*(e - b for b, e in zip(begin, end, strict=True))))

    def voxel_size(self) -> KnownVoxelSize | None:
        """The size of a voxel; None where nothing says so, or, which is told, nothing that is understood."""
        scale: Any = self.properties.get('scale')
        if scale is None:
            return None
        unit: float | None = 1.0
        if isinstance(scale, dict):
            unit, scale = nanometres(str(scale.get('unit', 'nanometer'))), scale.get('factor')
        values = scale[::-1] if isinstance(scale, list) else scale
        units = [None if unit is None else unit * factor for factor in self.factors.zyx]
        source = f'scale of {PROPERTIES}'
        return read_voxel_size(values, units, Arrangement((0, 1, 2)), self.place, source)
