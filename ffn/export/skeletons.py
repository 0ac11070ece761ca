"""Skeletons of all segments of an exported label volume: trees along their middle, with radii, in nanometres.

Blocks share the plane between them. Wherever a segment passes through such a plane, the lines of both blocks lead to
the voxel in the middle of the passage, which both choose alike: joined, they are one tree for each connected component
of a segment. Lines are found on the scale of the volume that the configuration names, then each node is moved to a
voxel of full resolution that is of the segment.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cc3d
import edt
import numpy as np
from absl import logging

from ffn.export import swc_files
from ffn.export.by_segment import Joined, read_measures
from ffn.export.centre_lines import SCALE, SPUR, VOXELS, find_lines
from ffn.export.pieces import Piece
from ffn.export.pyramid import Pyramid
from ffn.export.radii import Surroundings, greatest_radius
from ffn.export.surfaces import unique_rows
from ffn.export.trees import contract_bodies, find_parents, join_lines, remove_spurs, straighten
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.utils.labels import compact, groups
from ffn.utils.settings import check_needed, setting

FOLDER = 'skeletons'
_BLOCK = Xyz(128, 128, 128)
# Voxels of the scale whose fine voxels are looked at together.
_PART = Xyz(32, 32, 32)
_SHARD = 1 << 24
# Nanometres; see `SkeletonConfig.soma_radius`.
SOMA_RADIUS = 2000.0
# Voxels of the scale by which lines are straightened.
_STRAIGHT = 1.0


@dataclass(frozen=True)
class SkeletonConfig:
    """How skeletons are made."""

    wanted: bool = setting(
        'also write skeletons of all segments, and their run length with the segment properties',
        default=False,
        flag='skeletons',
    )
    voxel: float = setting(
        'nanometres: skeletons are found on the coarsest scale whose voxels are not larger than this along their '
        'shortest side; smaller takes longer, and finds thinner branches',
        default=20.0,
        flag='skeleton_voxel',
        metavar='NM',
    )
    soma_radius: float | None = setting(
        'nanometres: segments with a greater radius than this somewhere are tagged as having a soma (default: as when they '
        f'were last tagged in that folder, or {SOMA_RADIUS:g})',
        default=None,
        flag='soma_radius',
        metavar='NM',
    )
    swc: bool = setting(
        'also write each skeleton as an SWC file, in nanometres, to labels/skeletons/swc',
        default=False,
        flag='swc',
    )

    def __post_init__(self) -> None:
        for name, value in (('skeleton_voxel', self.voxel), ('soma_radius', self.soma_radius)):
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f'--{name} is {value}; expected nanometres')
        # The radius also counts for skeletons that are there already.
        check_needed(self, 'wanted', besides=['soma_radius'])


@dataclass(frozen=True)
class Skeletons:
    """Makes skeletons; see `ffn.export.by_segment.Maker`.

    Attributes:
      pyramid: the labels, which are written.
      config: how they are made.
    """

    pyramid: Pyramid
    config: SkeletonConfig

    @property
    def folder(self) -> Path:
        """Where the skeletons go."""
        return self.pyramid.folder / FOLDER

    @property
    def shard_size(self) -> int:
        """Bytes of pieces that become a shard, roughly."""
        return _SHARD

    @property
    def level(self) -> int:
        """The scale on which lines are found."""
        sides = [min(scale.voxel_size) for scale in self.pyramid.scales]
        return max((n for n, side in enumerate(sides) if side <= self.config.voxel), default=0)

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """x, y, z nanometres of that scale."""
        return self.pyramid.scales[self.level].voxel_size

    def settings(self) -> dict[str, Any]:
        """What the skeletons depend on."""
        return {'voxel_size': list(self.voxel_size)}

    def blocks(self) -> Iterator[Box]:
        """The blocks; each is looked at with the first plane of the next."""
        return blocks(self.pyramid.scales[self.level].box, _BLOCK)

    def cut(self, block: Box) -> dict[int, bytes]:
        """Finds the lines in a block."""
        whole = self.pyramid.scales[self.level].box
        read = Box(block.start, Xyz(*(n + 1 for n in block.size))).intersection(whole)
        if read is None:
            raise ValueError(f'{block} lies outside {whole}')
        around = Surroundings.read(self.pyramid, self.level, read)
        numbers, ids = compact(around.inside)
        parts = np.asarray(cc3d.connected_components(numbers, connectivity=26))
        ends = self._passages(numbers, parts, block)
        fine = self.pyramid.open(0)
        found: dict[int, list[tuple[np.ndarray, ...]]] = {}
        for part, box in enumerate(cc3d.statistics(parts)['bounding_boxes']):
            if part == 0:
                continue
            # With what surrounds it: distances are to voxels that are seen.
            crop = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
            mask = parts[crop] == part
            start = np.array([s.start for s in crop])
            label = int(ids[numbers[crop][mask][0]])
            place = Box.from_zyx((start + read.start.zyx).tolist(), mask.shape)
            radii = np.where(mask, around.radii(label, place), 0)
            end = ends.get(part, np.zeros((0, 3), int)) - start
            zyx, edges, radius = self._lines(mask, radii, end)
            zyx = zyx + start
            xyz = self._inside(zyx + np.array(read.start.zyx), label, fine)
            found.setdefault(label, []).append((xyz, radius, edges))
        return {label: _pack(lines) for label, lines in found.items()}

    def _lines(
        self, mask: np.ndarray, radius: np.ndarray, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nodes z, y, x, edges and radii of one component."""
        size = self.voxel_size[::-1]
        if len(places := np.argwhere(mask)) == 1:
            return places, np.zeros((0, 2), np.int64), np.full(1, min(size) / 2)
        nodes, edges = find_lines(mask, radius, size, ends)
        return nodes, edges, radius[tuple(nodes.T)]

    def _passages(
        self, numbers: np.ndarray, parts: np.ndarray, block: Box
    ) -> dict[int, np.ndarray]:
        """Where components pass through the planes that the block shares: component → int64 [n, 3] z, y, x."""
        found: dict[int, list[tuple[int, ...]]] = {}
        whole = self.pyramid.scales[self.level].box
        for axis, end in itertools.product(range(3), (0, -1)):
            outer = (whole.start.zyx, whole.end.zyx)[end][axis]
            if (block.start.zyx, block.end.zyx)[end][axis] == outer:
                continue
            plane = np.ascontiguousarray(np.take(numbers, end, axis))
            size = [s for n, s in enumerate(self.voxel_size[::-1]) if n != axis]
            for place in _middles(plane, size):
                at = list(place)
                at.insert(axis, end % numbers.shape[axis])
                found.setdefault(int(parts[tuple(at)]), []).append(tuple(at))
        return {part: np.unique(np.array(places), axis=0) for part, places in found.items()}

    def _inside(self, zyx: np.ndarray, label: int, volume: Any) -> np.ndarray:
        """Finds a voxel of the full resolution in each voxel of the scale that has the label: int64 [n, 3] x, y, z.

        Where there is none, as in a cavity, it is the one in the middle.
        """
        factors = np.ones(3, np.int64)
        for scale in self.pyramid.scales[1 : self.level + 1]:
            factors *= scale.factors
        factors = factors[::-1]
        found = zyx * factors + factors // 2
        if self.level == 0:
            return found[:, ::-1]
        steps = np.array(list(np.ndindex(*factors)))
        steps = steps[np.argsort(np.linalg.norm(steps - (factors - 1) / 2, axis=1), kind='stable')]
        box = self.pyramid.scales[0].box
        cells, cell = unique_rows(zyx // np.array(_PART.zyx))
        for place, rows in zip(cells, groups(cell), strict=True):
            near = zyx[rows]
            low, high = near.min(axis=0) * factors, (near.max(axis=0) + 1) * factors
            part = Box.from_zyx(low.tolist(), (high - low).tolist()).intersection(box)
            if part is None:
                raise ValueError(f'{place} lies outside {box}')
            fine = np.asarray(volume[part.slices_zyx].read().result())
            places = near[:, np.newaxis] * factors + steps - part.start.zyx
            exists = ((places >= 0) & (places < fine.shape)).all(axis=2)
            places = np.clip(places, 0, np.array(fine.shape) - 1)
            fits = exists & (fine[tuple(np.moveaxis(places, 2, 0))] == label)
            some = fits.any(axis=1)
            first = places[np.arange(len(rows)), fits.argmax(axis=1)] + part.start.zyx
            found[rows[some]] = first[some]
        return found[:, ::-1]

    def join(self, pieces: list[Piece]) -> Joined:
        """Makes the skeleton of a segment."""
        xyz, radius, edges = _load(pieces)
        size = self.pyramid.scales[0].voxel_size
        edges, alone = contract_bodies(xyz, edges, radius, size, SPUR, max(self.voxel_size))
        alone[edges.ravel()] = False
        edges = join_lines(xyz, edges, SCALE * radius + VOXELS * max(self.voxel_size), size)
        _, left = remove_spurs(xyz, edges, radius, size, SPUR)
        nm = (xyz + 0.5) * size
        tolerance = _STRAIGHT * math.prod(self.voxel_size) ** (1 / 3)
        edges = straighten(nm, edges[left], tolerance)
        used, numbers = np.unique(
            np.concatenate([edges.ravel(), np.flatnonzero(alone)]), return_inverse=True
        )
        # Parent and child, since some programs (navis) lose edges that point the other way.
        _, parent = find_parents(numbers[: edges.size].reshape(-1, 2), len(used))
        children = np.flatnonzero(parent >= 0)
        edges = np.stack([parent[children], children], axis=1)
        nodes = nm[used]
        length = float(np.linalg.norm(nodes[edges[:, 0]] - nodes[edges[:, 1]], axis=1).sum())
        head = np.array([len(nodes), len(edges)], '<u4')
        parts = (head, nodes.astype('<f4'), edges.astype('<u4'), radius[used].astype('<f4'))
        data = b''.join(part.tobytes() for part in parts)
        return Joined(data, measures=(length, float(radius.max())))

    def info(self) -> dict[str, Any]:
        """The info file of the skeletons."""
        radius = {'id': 'radius', 'data_type': 'float32', 'num_components': 1}
        return {
            '@type': 'neuroglancer_skeletons',
            'transform': [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
            'vertex_attributes': [radius],
        }


def tell_without_line(folder: Path, ids: np.ndarray, voxels: np.ndarray) -> None:
    """Tells how many segments are not on the scale on which lines are found, since larger ones take their voxels there.

    Args:
      folder: of the skeletons.
      ids: of all segments.
      voxels: of each.
    """
    without = voxels[~np.isin(ids, read_measures(folder)[0], assume_unique=True)]
    if len(without):
        logging.warning(
            '%d of %d segments, the largest of %d voxels, have no skeleton: they vanish on the scale on which skeletons are '
            'found; a smaller --skeleton_voxel, in another --output, finds more',
            len(without),
            len(ids),
            without.max(),
        )


def tell_without_somata(skeletons: Skeletons, soma_radius: float) -> None:
    """Tells that no segment can have the tag of a soma, since such radii are not measured."""
    greatest = greatest_radius(skeletons.pyramid.scales, skeletons.level)
    if soma_radius > greatest:
        logging.warning(
            '--soma_radius is %g nm, and radii of up to %g nm are measured on the scales of this export: no segment gets '
            'the tag soma; with more --scales, in another --output, greater ones are',
            soma_radius,
            greatest,
        )


def _middles(plane: np.ndarray, size: Sequence[float]) -> np.ndarray:
    """The middle of each patch of a label: int64 [n, 2]."""
    patches = np.asarray(cc3d.connected_components(plane, connectivity=8)).ravel()
    far = edt.edt(plane, anisotropy=tuple(size), black_border=False).ravel()
    order = np.lexsort([-far, patches])  # of equal distance, the first
    _, first = np.unique(patches[order], return_index=True)
    places = order[first]
    return np.stack(np.unravel_index(places[patches[places] > 0], plane.shape), axis=1)


def _pack(lines: Sequence[tuple[np.ndarray, ...]]) -> bytes:
    """Number of nodes; nodes x, y, z; radii; edges."""
    begins = np.cumsum([0, *(len(xyz) for xyz, _, _ in lines)])
    xyz = np.concatenate([xyz for xyz, _, _ in lines]).astype(np.int64)
    radius = np.concatenate([radius for _, radius, _ in lines]).astype(np.float64)
    edges = np.concatenate([e + b for (_, _, e), b in zip(lines, begins, strict=False)])
    parts = (np.array([len(xyz)], np.int64), xyz, radius, edges.astype(np.int64))
    return b''.join(part.tobytes() for part in parts)


def _load(pieces: Sequence[Piece]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joins pieces; nodes in the same voxel become one, with the smaller radius.

    Returns:
      int64 [n, 3] x, y, z; float64 [n] radii; int64 [m, 2] edges.
    """
    nodes, radii, edges, count = [], [], [], 0
    for piece in pieces:
        data = piece.read()
        n = int(np.frombuffer(data, np.int64, 1)[0])
        nodes.append(np.frombuffer(data, np.int64, 3 * n, 8).reshape(-1, 3))
        radii.append(np.frombuffer(data, np.float64, n, 8 + 24 * n))
        edges.append(np.frombuffer(data, np.int64, offset=8 + 32 * n).reshape(-1, 2) + count)
        count += n
    xyz, number = unique_rows(np.concatenate(nodes))
    radius = np.full(len(xyz), np.inf)
    np.minimum.at(radius, number, np.concatenate(radii))
    return xyz, radius, np.unique(np.sort(number[np.concatenate(edges)], axis=1), axis=0)


write_swc = swc_files.write
