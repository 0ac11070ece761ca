"""Empty voxels given to the objects around them: a watershed of darkness, with the objects as markers.

Flood filling leaves voxels empty: membranes, processes that are thinner than what it has learned to follow, objects
that were too small to be kept. This is a step of its own after it, not part of the published method. No voxel of an
object changes, and no object is made or joined; a process that no object has reached goes to its neighbours, which
merges it with them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import edt
import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from ffn.agglomeration.surfaces import Surfaces, beside
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, relative_edges
from ffn.utils.labels import compact
from ffn.utils.rounding import reach
from ffn.utils.settings import setting
from ffn.volumes.provenance import read_input_stamp
from ffn.volumes.volume import Volume, VolumeSource

# The Gaussian is cut off after so many standard deviations.
_TRUNCATE = 3.0


@dataclass(frozen=True)
class Filling:
    """How objects grow into empty voxels; lengths are in shortest edges of a voxel."""

    max_distance: float = setting(
        'how far an object grows from where it was, in shortest edges of a voxel',
        default=32.0,
    )
    smoothing: float = setting(
        'standard deviation of the Gaussian that smooths the image, in shortest edges of a voxel; 0: none',
        default=0.4,
    )

    def __post_init__(self) -> None:
        if not 0 < self.max_distance < math.inf:
            raise UserError(f'max_distance is {self.max_distance:g}; expected a positive number')
        if not 0 <= self.smoothing < math.inf:
            raise UserError(f'smoothing is {self.smoothing:g}; expected 0 or more')

    def margin(self, edges_xyz: tuple[float, float, float]) -> Xyz:
        """How many voxels around a block decide what becomes of it, but for detours of the flood.

        Objects beyond it do not grow into the block; one within it may enter an empty process beyond it, and so be first.
        """
        reach = self.max_distance + max(_TRUNCATE * self.smoothing, 1)
        return Xyz(*(math.ceil(reach / edge) for edge in edges_xyz))


def fill(
    labels: np.ndarray,
    image: np.ndarray,
    filling: Filling,
    voxel_size_xyz: tuple[float, float, float] | None = None,
) -> np.ndarray:
    """Lets objects grow into empty voxels until they meet, through bright voxels before dark ones.

    What no object reaches within `max_distance` of where it was stays empty.

    Args:
      labels: integer [z, y, x]; 0 or less, and 2^64-1, is empty.
      image: [z, y, x]; membranes are dark.
      filling: how.
      voxel_size_xyz: x, y, z, in any unit; None: cubes.

    Returns:
      uint64 [z, y, x]: the labels, with those of the voxels that were empty.

    Raises:
      UserError: different shapes.
    """
    if labels.shape != image.shape:
        raise UserError(f'labels have shape {labels.shape}, and the image {image.shape}')
    numbers, ids = compact(labels)
    empty = numbers == 0
    if empty.all() or not empty.any():
        return ids[numbers]
    edges_zyx = relative_edges(voxel_size_xyz)[::-1]
    limit = reach(filling.max_distance)
    distance = edt.edt(np.ascontiguousarray(empty), anisotropy=edges_zyx)
    sigma = [filling.smoothing / edge for edge in edges_zyx]
    bright = ndimage.gaussian_filter(image.astype(np.float32), sigma, truncate=_TRUNCATE)
    grown = _flood(-bright, numbers.astype(np.int32), empty & (distance <= limit), edges_zyx, limit)
    return ids[grown]


def _flood(
    dark: np.ndarray,
    objects: np.ndarray,
    left: np.ndarray,
    edges_zyx: Sequence[float],
    limit: float,
) -> np.ndarray:
    """Lets objects grow, none of them farther than a limit from where it was.

    A watershed knows no such limit, so what it gives to an object that is too far away is flooded again from the others,
    as long as any of it finds one that is near enough.

    Args:
      dark: float32 [z, y, x]; what is lower is flooded first.
      objects: int32, same shape; 0 is empty.
      left: bool, same shape: the empty voxels that are to be given to an object.
      edges_zyx: of a voxel.
      limit: in the same unit.

    Returns:
      int32, same shape: the objects, grown.
    """

    surfaces = Surfaces(objects, edges_zyx)
    grown, left, refused = objects.copy(), left.copy(), np.zeros_like(objects)
    # Of the objects, only the voxels beside empty ones matter; the others would be most of the work.
    while (front := beside(grown, refused, left)).any():
        flooded = watershed(dark, np.where(front, grown, 0), mask=front | left)
        at = np.nonzero(left & (flooded > 0))
        numbers = flooded[at]
        near = np.isfinite(surfaces.distances(at, numbers, limit))
        if not near.any():
            break
        given = tuple(i[near] for i in at)
        grown[given], left[given] = numbers[near], False
        refused[tuple(i[~near] for i in at)] = numbers[~near]
    return grown


@dataclass(frozen=True)
class Filled:
    """Labels of a volume with empty voxels filled, block by block; see `ffn.agglomeration.joined_volume.Relabelling`.

    Attributes:
      image: where the labels come from.
      box: nothing outside of it is read.
      voxel_size: x, y, z; None: cubes.
      filling: how.
    """

    image: VolumeSource
    box: Box
    voxel_size: tuple[float, float, float] | None
    filling: Filling

    @property
    def identity(self) -> bytes:
        """All that the new labels depend on besides the old ones."""
        image = [self.image.name, read_input_stamp(self.image)]
        how = dataclasses.asdict(self.filling)
        return json.dumps([image, str(self.box), self.voxel_size, how]).encode()

    def read(self, labels: Volume, block: Box) -> np.ndarray:
        """Reads a block and fills it, uint64 [z, y, x].

        What lies around the block, as far as `Filling.margin`, is looked at as well.

        Raises:
          UserError: the image does not cover it.
        """
        margin = self.filling.margin(relative_edges(self.voxel_size))
        around = block.grow(margin).intersection(self.box)
        if around is None:
            raise UserError(f'block {block} lies outside of box {self.box}')
        inside = block.relative_to(around.start).slices_zyx
        found = np.maximum(labels.read(around), 0)
        if found[inside].all() or not found.any():
            return found[inside].astype(np.uint64)
        with self.image.open() as opened:
            image = opened.single_channel().read(around)
        return fill(found, image, self.filling, self.voxel_size)[inside]
