"""Which pairs belong to one object of a ground truth, and which do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from absl import logging

from ffn.agglomeration.examples import Pair
from ffn.agglomeration.features import FEATURES
from ffn.agglomeration.fitting import KnownPairs
from ffn.utils.errors import UserError
from ffn.utils.labels import find_ids
from ffn.utils.settings import check_needed, setting
from ffn.volumes.specs import absolute_spec
from ffn.volumes.volume import VolumeSource


@dataclass(frozen=True)
class FitConfig:
    """What a classifier is fitted to.

    Attributes:
      truth: ground truth, if there is one.
      examples: tables of pairs that a person has judged.
      min_majority: see its help.
    """

    truth: VolumeSource | None = setting(
        'fit a classifier to this ground truth, a label volume, and write it to fit.json in '
        'output_directory',
        default=None,
        flag='fit',
        parse=lambda text, flag: VolumeSource(absolute_spec(text)) if text else None,
        metavar='TRUTH',
    )
    examples: tuple[str, ...] = setting(
        'fit to these tables of pairs, beside --fit or instead of it; ffn apply-edits --examples writes them of what '
        'was proofread',
        default=(),
        flag='fit_examples',
        parse=lambda paths, flag: tuple(paths),
        comma_list=True,
        metavar='FILE.csv',
    )
    min_majority: float = setting(
        'a segment belongs to an object of the ground truth if that has this fraction of its voxels; pairs of '
        'which one belongs to none are left out of the fit',
        default=0.75,
        metavar='F',
    )

    def __post_init__(self) -> None:
        if not 0.5 < self.min_majority <= 1:
            raise UserError(
                f'--min_majority is {self.min_majority:g}; expected more than 0.5, to 1'
            )
        check_needed(self, 'truth', besides=['examples'])

    @property
    def is_asked(self) -> bool:
        """Whether anything is fitted."""
        return self.truth is not None or bool(self.examples)


class Owners(NamedTuple):
    """The objects that segments belong to.

    Attributes:
      segments: uint64 [n], ascending.
      objects: uint64 [n], 0 for those that belong to none.
    """

    segments: np.ndarray
    objects: np.ndarray

    def of(self, segments: np.ndarray) -> np.ndarray:
        """The objects of segments, uint64 of the same shape; 0 for none."""
        at, found = find_ids(self.segments, segments.ravel())
        objects = self.objects[at] if len(self.objects) else np.zeros(len(at), np.uint64)
        return np.where(found, objects, np.uint64(0)).reshape(segments.shape)

    def as_dict(self) -> dict[int, int]:
        """Segment → its object, for those that belong to one."""
        clear = self.objects > 0
        return dict(zip(self.segments[clear].tolist(), self.objects[clear].tolist(), strict=True))


def find_owners(overlaps: np.ndarray, min_majority: float) -> Owners:
    """Finds the object that has most of each segment.

    Args:
      overlaps: uint64 [m, 3], see `ffn.agglomeration.overlaps.count_overlaps`.
      min_majority: fraction of all voxels of a segment, also of those that are in no object, that it must have.
    """
    segments, which = np.unique(overlaps[:, 0], return_inverse=True)
    totals = np.bincount(which, overlaps[:, 2].astype(np.float64), len(segments))
    objects = np.zeros(len(segments), np.uint64)
    # The largest overlap of each segment comes last, and stays.
    for row in np.argsort(overlaps[:, 2], kind='stable'):
        _, one, voxels = overlaps[row]
        is_clear = one > 0 and float(voxels) >= min_majority * totals[which[row]]
        objects[which[row]] = one if is_clear else 0
    return Owners(segments, objects)


def known_pairs(
    tables: Iterable[np.ndarray], owners: Owners | None, examples: Mapping[Pair, Pair]
) -> tuple[KnownPairs, dict[str, int]]:
    """Chooses the pairs whose objects are known.

    Args:
      tables: arrays of `ffn.agglomeration.evidence_table.ROW`.
      owners: objects of the segments; None without a ground truth.
      examples: pair of segments → their objects, which count for this pair alone.

    Returns:
      The pairs; and how many were left out, and why.
    """
    counts, left = {'not_resegmented': 0, 'unclear_object': 0}, set(examples)
    features, objects = [np.zeros((0, len(FEATURES)))], [np.zeros((0, 2), np.uint64)]
    for table in tables:
        pairs = np.stack([table['id_a'], table['id_b']], axis=1)
        both = np.zeros(pairs.shape, np.uint64) if owners is None else owners.of(pairs)
        if examples:
            for row, pair in enumerate(map(tuple, pairs.tolist())):
                both[row] = examples.get(pair, both[row])
                left.discard(pair)
        clear, measured = (both > 0).all(axis=1), np.isfinite(table['features']).all(axis=1)
        if owners is not None:
            counts['unclear_object'] += int(np.count_nonzero(~clear))
        counts['not_resegmented'] += int(np.count_nonzero(clear & ~measured))
        features.append(table['features'][measured & clear])
        objects.append(both[measured & clear])
    if left:
        logging.warning(
            '%d examples are left out, as these pairs are no candidates within --max_distance, such as %d and %d',
            len(left),
            *min(left),
        )
    counts['no_candidate'] = len(left)
    return KnownPairs(np.concatenate(features), np.concatenate(objects)), counts
