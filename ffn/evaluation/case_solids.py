"""Cases of an evaluation as solids: an object in the colours of its pieces, as large as a picture needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ffn.evaluation.second_look import Extent
from ffn.export.downsample import most_frequent
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.visualization.case_pictures import Rgb, read_window
from ffn.visualization.render import Solid
from ffn.volumes.volume import Volume

# Voxels of a solid along its longest edge, and voxels that are read at a time.
LONGEST = 110
_BLOCK = Xyz(256, 256, 128)
OTHER: Rgb = (150, 150, 150)
# Of a close-up, in the shortest edge of a voxel, from the middle to a side.
_CLOSE_UP = 40


def whole_solid(
    own: Volume,
    other: Volume,
    label: int,
    pieces: Mapping[int, Rgb],
    extent: Extent,
    voxel_size_xyz: Sequence[float],
) -> Solid:
    """Reads all of a label, in blocks, of which only a coarse copy is kept.

    Args:
      own: the volume that has the label.
      other: the volume that has its pieces.
      label: which one.
      pieces: label on the other side → colour; what belongs to none of them is grey.
      extent: where the label occurs.
      voxel_size_xyz: physical size of a voxel.

    Raises:
      UserError: a volume cannot be read.
    """
    box = extent.box
    edge = max(n * size for n, size in zip(box.size, voxel_size_xyz, strict=True)) / LONGEST
    factors = Xyz(*(max(round(edge / size), 1) for size in voxel_size_xyz))
    coarse = np.zeros(
        [-(-n // f) for n, f in zip(box.size.zyx, factors.zyx, strict=True)], np.uint8
    )
    for part in extent.parts:
        for block in blocks(part, _BLOCK):
            parts = _number(own.read(block), other.read(block), label, pieces)
            place = block.relative_to(box.start).start.zyx
            first = [p // f for p, f in zip(place, factors.zyx, strict=True)]
            before = [p % f for p, f in zip(place, factors.zyx, strict=True)]
            small = most_frequent(parts.astype(np.uint64), factors.zyx, type(place)(*before))
            index = tuple(slice(f, f + n) for f, n in zip(first, small.shape, strict=True))
            coarse[index] = np.where(coarse[index] > 0, coarse[index], small)
    sizes = [f * size for f, size in zip(factors, voxel_size_xyz, strict=True)]
    return Solid(coarse, [*pieces.values(), OTHER], sizes, _corner(box, voxel_size_xyz))


def close_up(
    own: Volume,
    other: Volume,
    label: int,
    pieces: Mapping[int, Rgb],
    at: Xyz,
    voxel_size_xyz: Sequence[float],
) -> Solid:
    """Reads the surroundings of a place at full resolution; otherwise as `whole_solid`."""
    shortest = min(voxel_size_xyz)
    half = [max(round(_CLOSE_UP * shortest / size), 1) for size in voxel_size_xyz]
    box = Box(Xyz(*(a - h for a, h in zip(at, half, strict=True))), Xyz(*(2 * h + 1 for h in half)))
    labels, _ = read_window(own, box)
    found, _ = read_window(other, box)
    parts = _number(labels, found, label, pieces)
    colors = [*pieces.values(), OTHER]
    return Solid(parts, colors, voxel_size_xyz, _corner(box, voxel_size_xyz))


def _number(
    labels: np.ndarray, found: np.ndarray, label: int, pieces: Mapping[int, Rgb]
) -> np.ndarray:
    """Numbers the voxels of a label by the piece that they belong to: uint8."""
    inside = labels == label
    parts = inside.astype(np.uint8) * np.uint8(len(pieces) + 1)
    for number, piece in enumerate(pieces, 1):
        parts[inside & (found == piece)] = number
    return parts


def _corner(box: Box, voxel_size_xyz: Sequence[float]) -> list[float]:
    return [s * size for s, size in zip(box.start, voxel_size_xyz, strict=True)]
