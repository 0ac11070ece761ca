"""What a viewer shows: layers, which know where their voxels or places are and how to draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ffn.proofreading.viewing.annotations import Annotations
from ffn.proofreading.viewing.skeleton_files import SkeletonFiles
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import Volume

Kind = Literal['image', 'probabilities', 'labels', 'skeletons', 'annotations']

# Name of the layer of ground truth.
TRUTH = 'truth'
# From bottom to top.
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Layer:
    """A layer of the viewer.

    Attributes:
      name: its name there.
      kind: how it is drawn.
      data: a volume, read when it is looked at; the folder of a precomputed volume, which the viewer reads itself;
        skeletons, or places.
      voxel_size: x, y, z nanometres; None: unknown.
      box: the voxels it covers; None: unknown.
      place: a voxel that is worth looking at first; None: the middle of the box.
      coarser: of a volume, the same at other scales, if it is stored so.
      contrast: of an image, the values that are black and white; None: by its type.
      segments: of labels, ids that are selected at first; empty: all are shown, none in 3-d.
      visible: whether it is shown at first.
    """

    name: str
    kind: Kind
    data: Volume | Path | SkeletonFiles | Annotations
    voxel_size: tuple[float, float, float] | None
    box: Box | None
    place: Xyz | None = None
    coarser: tuple[Volume, ...] = ()
    contrast: tuple[float, float] | None = None
    segments: Sequence[int] = ()
    visible: bool = True
