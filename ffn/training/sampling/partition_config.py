"""What partitions are computed for, and where their classes are separated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ffn.inference import inference_pb2
from ffn.utils import protos
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.utils.settings import setting
from ffn.utils.texts import check_leading_zero
from ffn.volumes.masks import Mask
from ffn.volumes.unlabelled import UNLABELLED_HELP

N = TypeVar('N', int, float)

BACKGROUND, EXCLUDED = 0, 255
MAX_THRESHOLDS = EXCLUDED - 2


def _parse_numbers(kind: type[N]) -> Callable[[Sequence[str], str], tuple[N, ...]]:
    def parse(texts: Sequence[str], flag: str) -> tuple[N, ...]:
        for text in texts:
            check_leading_zero(text, flag)
        try:
            return tuple(kind(text) for text in texts)
        except ValueError as error:
            raise UserError(f'{flag} is {",".join(texts)!r}; expected a list of numbers') from error

    return parse


def format_numbers(numbers: Iterable[float]) -> str:
    """Numbers as a flag has them."""
    return ','.join(f'{n:g}' for n in numbers)


def _parse_spheres(
    texts: Sequence[str], flag: str
) -> tuple[tuple[float, float, float, float], ...]:
    numbers = _parse_numbers(float)(texts, flag)
    if len(numbers) % 4:
        raise UserError(f'{flag} has {len(numbers)} numbers; expected x,y,z,r for each sphere')
    return tuple(zip(*[iter(numbers)] * 4, strict=True))


def _parse_masks(text_or_path: str, flag: str) -> tuple[Mask, ...]:
    configs = protos.read_text_or_file(text_or_path, inference_pb2.MaskConfigs(), flag)
    return tuple(map(Mask.from_proto, configs.masks))


@dataclass(frozen=True)
class PartitionConfig:
    """What partitions are computed for, and where their classes are separated."""

    thresholds: tuple[float, ...] = setting(
        'ascending fractions of the box that separate the classes',
        parse=_parse_numbers(float),
        comma_list=True,
        metavar='F,F,…',
    )
    lom_radius: Xyz = setting(
        "radius in voxels of the box in which an object's voxels are counted",
        parse=Xyz.parse,
        comma_list=True,
        metavar='X,Y,Z',
    )
    id_whitelist: tuple[int, ...] = setting(
        'labels to compute; all others become background. All labels if unset',
        default=(),
        parse=_parse_numbers(int),
        comma_list=True,
        metavar='ID,ID,…',
    )
    exclusion_regions: tuple[tuple[float, float, float, float], ...] = setting(
        'spheres whose voxels are excluded: centre x,y,z and radius in voxels, one after the other',
        default=(),
        parse=_parse_spheres,
        comma_list=True,
        metavar='X,Y,Z,R,…',
    )
    masks: tuple[Mask, ...] = setting(
        'MaskConfigs in text format, or a file with it; voxels with a masked voxel in their box are '
        'excluded',
        default=(),
        parse=_parse_masks,
        flag='mask_configs',
        metavar='MASKS',
    )
    min_size: int = setting('segments with fewer voxels become background', default=10000)
    unlabelled: int | None = setting(UNLABELLED_HELP, default=None, metavar='N')

    def __post_init__(self) -> None:
        given = format_numbers(self.thresholds)
        if not 1 <= len(self.thresholds) <= MAX_THRESHOLDS:
            raise UserError(
                f'--thresholds has {len(self.thresholds)} values; expected 1 to {MAX_THRESHOLDS}'
            )
        if not all(a < b for a, b in zip(self.thresholds, self.thresholds[1:], strict=False)):
            raise UserError(f'--thresholds is {given}; expected ascending fractions')
        if not np.isfinite(self.thresholds).all():
            raise UserError(f'--thresholds is {given}; expected finite fractions')
        if min(self.lom_radius) < 0:
            raise UserError(f'--lom_radius is {self.lom_radius}; expected no negative number')
        if self.min_size < 0:
            raise UserError(f'--min_size is {self.min_size}; expected 0 or more voxels')
        for sphere in self.exclusion_regions:
            if not np.isfinite(sphere).all() or sphere[-1] < 0:
                raise UserError(
                    f'--exclusion_regions holds {format_numbers(sphere)}; expected x,y,z and a radius of 0 or more'
                )

    @property
    def count_limits(self) -> np.ndarray:
        """The thresholds as counts: the least count whose fraction of the box reaches each, int64.

        Fractions are quotients of float64; a limit is moved until its quotient reaches the threshold
        and that of the count below does not, so that rounding decides no voxel.
        """
        volume = int(np.prod([2 * r + 1 for r in self.lom_radius]))
        limits = []
        for threshold in self.thresholds:
            limit = int(min(max(np.ceil(threshold * volume), 0), volume + 1))
            while limit <= volume and limit / volume < threshold:
                limit += 1
            while limit > 0 and (limit - 1) / volume >= threshold:
                limit -= 1
            limits.append(limit)
        return np.array(limits, np.int64)
