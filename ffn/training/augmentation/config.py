"""Which random changes examples get in training: read from a JSON object, and checked::

    {
      "voxel_size": [8, 8, 30],
      "rotation_2d": {},
      "elastic": {"probability": 0.5, "amplitude": 3, "smoothness": 10, "per_section": true},
      "missing_section": {"section_probability": 0.02}
    }

Every key except `voxel_size` (x,y,z, default 1,1,1) and `comment` is a kind of augmentation, enabled by
being present. `describe()` lists the keys with their parameters, defaults, ranges and meanings; so does
`ffn augmentations --keys`. They are applied in the order of that list: first changes of geometry (affine,
elastic, misalignment, then the rotations; all in one map), then changes of intensity, noise last.
Sections are always the patch's own, across z. Geometric changes leave the voxel in the centre where it
is, so a slip of the central section appears as all others slipping the other way.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffn.training.augmentation import kinds
from ffn.training.augmentation.kinds import KINDS
from ffn.training.augmentation.parameters import (
    WHAT,
    Augmentation,
    check_voxel_size,
    parse_kind,
    to_json,
)
from ffn.utils.errors import UserError
from ffn.utils.texts import parse_json, without_mark
from ffn.volumes.units import KnownVoxelSize

# Kinds that are defined in physical space.
_PHYSICAL = ('affine', 'elastic', 'rotation_2d', 'rotation_3d')


@dataclass(frozen=True)
class AugmentationConfig:
    """How examples are augmented; without arguments, not at all.

    Attributes:
      voxel_size: x, y, z, of any unit; only the ratios matter. Rotations, affine changes and the
        smoothness of elastic ones are defined in physical space.
      affine: parameters of this kind; None, here as for all kinds below, if it is disabled.
    """

    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    affine: kinds.Affine | None = None
    elastic: kinds.Elastic | None = None
    misalignment: kinds.Misalignment | None = None
    rotation_2d: kinds.Rotation2d | None = None
    rotation_3d: kinds.Rotation3d | None = None
    contrast: kinds.Contrast | None = None
    brightness: kinds.Brightness | None = None
    gamma: kinds.Gamma | None = None
    occlusion: kinds.Occlusion | None = None
    out_of_focus_section: kinds.OutOfFocusSection | None = None
    partially_missing_section: kinds.PartiallyMissingSection | None = None
    missing_section: kinds.MissingSection | None = None
    noise: kinds.Noise | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'voxel_size', check_voxel_size(self.voxel_size))

    def chosen(self) -> dict[str, Augmentation]:
        """The enabled kinds by key, in the order in which they are applied."""
        return {key: getattr(self, key) for key in KINDS if getattr(self, key) is not None}

    def warn_of_contradiction(self, known: KnownVoxelSize | None) -> None:
        """Warns if voxels have other proportions here than elsewhere, and a chosen kind depends on them.

        Args:
          known: what the training or the volume says; None: nothing.
        """
        kinds_affected = [key for key in self.chosen() if key in _PHYSICAL]
        if known is None or not kinds_affected:
            return
        own, others = (np.divide(size, min(size)) for size in (self.voxel_size, known.xyz))
        if not np.allclose(own, others, rtol=1e-2, atol=0):
            logging.warning(
                'voxel_size of the augmentation, x,y,z %s, has other proportions than %s; %s would deform '
                'what is round: set it to the same',
                ','.join(f'{n:g}' for n in self.voxel_size),
                known,
                ', '.join(kinds_affected),
            )


def parse_augmentation(text_or_path: str) -> AugmentationConfig:
    """Reads the JSON object described above.

    Args:
      text_or_path: the JSON text, or the path of a file with it; '' for no augmentation.

    Raises:
      UserError: there is no such file, it is no JSON, or has unknown keys or values out of range.
    """
    if not text_or_path.strip():
        return AugmentationConfig()
    values = _load(text_or_path)
    if not isinstance(values, dict):
        raise UserError(
            f'{WHAT} holds {to_json(values)}; expected a JSON object, such as '
            '{"rotation_2d": {}}'
        )
    comment = values.pop('comment', '')
    if not isinstance(comment, str):
        raise UserError(f'{WHAT}: comment is {to_json(comment)}; expected a text')
    known = [item.name for item in fields(AugmentationConfig)]
    for key in values:
        if key not in known:
            raise UserError(
                f'{WHAT} has no key {to_json(key)}; it has {", ".join(known)} and comment'
            )
    parsed: dict[str, Any] = {
        key: parse_kind(KINDS[key], value) if key in KINDS else value
        for key, value in values.items()
    }
    return AugmentationConfig(**parsed)


def _load(text_or_path: str) -> Any:
    text, source = text_or_path, ''
    if not without_mark(text).lstrip().startswith(('{', '[')):
        path = Path(text_or_path)
        if not path.is_file():
            raise UserError(
                f'{WHAT} is {text_or_path!r}, where no file is; expected a JSON object or the path '
                'of a file with one'
            )
        source = f' {path}'
        try:
            text = path.read_text(encoding='utf-8')
        except UnicodeDecodeError as error:
            raise UserError(f'{WHAT} {path} is no UTF-8 text: {error}') from error
    return parse_json(text, f'{WHAT}{source}')


def describe() -> str:
    """All keys with their parameters, defaults, allowed ranges and meanings, as a Markdown table."""
    lines = [
        '| key | parameter | default | allowed | what it does |',
        '|---|---|---|---|---|',
        '| `voxel_size` | | 1, 1, 1 | more than 0 | size x,y,z of a voxel; only ratios matter |',
    ]
    for key, kind in KINDS.items():
        lines.append(f'| **`{key}`** | | | | {kind.summary()} |')
        for item in fields(kind):
            low, high = item.metadata['low'], item.metadata['high']
            default = item.default
            if isinstance(default, bool):
                value, allowed = to_json(default), 'true, false'
            else:
                numbers = default if isinstance(default, tuple) else (default,)
                value, allowed = ', '.join(f'{n:g}' for n in numbers), f'{low:g} … {high:g}'
            lines.append(f'| | `{item.name}` | {value} | {allowed} | {item.metadata["meaning"]} |')
    return '\n'.join(lines)
