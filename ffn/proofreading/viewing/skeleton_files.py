"""SWC files as skeletons in a viewer, read when they are looked at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffn.evaluation.swc import read_swc
from ffn.utils.errors import UserError

# Skeletons that are drawn at first; the others by their ids.
_SHOWN = 1000


@dataclass(frozen=True)
class SkeletonFiles:
    """Skeletons in files.

    Attributes:
      files: id → SWC file.
      unit: x, y, z nanometres that a number in them stands for; None: voxels.
    """

    files: dict[int, Path]
    unit: tuple[float, float, float] | None = (1.0, 1.0, 1.0)

    @property
    def shown(self) -> Sequence[int]:
        """Ids that are drawn at first."""
        return list(self.files)[:_SHOWN]


def find_skeletons(place: str | Path, voxels: bool = False) -> SkeletonFiles:
    """Finds SWC files.

    Args:
      place: one file, or a folder of them.
      voxels: whether positions count voxels; otherwise they are nanometres.

    Raises:
      UserError: there is none, or the first one cannot be read.
    """
    path = Path(place)
    files = [path] if path.suffix == '.swc' else sorted(path.glob('*.swc'))
    if not files:
        raise UserError(f'{place} holds no skeletons; expected an SWC file, or a folder of them')
    read_swc(files[0])
    named: dict[int, Path] = {}
    for number, file in enumerate(files, 1):
        # The id of the segment is the only number in the name, in what most programs write.
        digits = re.findall(r'\d+', file.stem)
        id_ = int(digits[0]) if len(digits) == 1 and len(digits[0]) < 20 else number
        named[id_ if id_ and id_ not in named else 2**63 + number] = file
    return SkeletonFiles(named, None if voxels else (1.0, 1.0, 1.0))
