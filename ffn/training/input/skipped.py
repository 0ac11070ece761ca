"""What is told of coordinates that no example can be made of, for each volume by itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from absl import logging

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx, both_orders

# Coordinates in a row, none of which can be used.
_GIVE_UP_AFTER = 2000
# Coordinates of a volume, or all it has if these are fewer, after which it is told how many were skipped.
_FIRST = 2000
# Where several processes share them, each sees few of a small volume, but others whenever these are shuffled anew.
_LEAST_OF_SHARED = 100

_LEAVES, _OUTSIDE, _NO_LABEL = 'out of bounds', 'outside the labels', 'not labelled'
_ADVICE = {
    _LEAVES: 'leaves the volume; such coordinates are skipped (build_coordinates --margin avoids them)',
    _OUTSIDE: 'has its centre outside the labels, {box}; such coordinates are skipped (they are of another volume, '
    'or of this one where it began elsewhere)',
    _NO_LABEL: 'has no label in its centre; such coordinates are skipped (partitions computed anew avoid them)',
}


class SkippedCoordinates:
    """Counts the coordinates of each volume, and tells of those that are skipped."""

    def __init__(
        self,
        boxes: Mapping[str, Box],
        counts: Mapping[str, int],
        size: Zyx,
        weighted: bool,
        processes: int,
    ):
        """Has seen none.

        Args:
          boxes: labels of each volume.
          counts: number of coordinates of each volume.
          size: of a patch.
          weighted: whether each volume has a share of the coordinates.
          processes: number of those that share the coordinates.
        """
        self._boxes, self._size, self._weighted = boxes, size, weighted
        least = 1 if processes == 1 else _LEAST_OF_SHARED
        shares = {name: math.ceil(counts.get(name, 0) / processes) for name in boxes}
        self._first = {name: max(least, min(_FIRST, share)) for name, share in shares.items()}
        self._seen: Counter[str] = Counter()
        self._skipped: dict[str, Counter[str]] = {name: Counter() for name in boxes}
        self._in_vain, self._any_used = 0, False

    def use(self, name: str) -> None:
        """Counts a coordinate of which there is an example."""
        self._in_vain, self._any_used = 0, True
        self._count(name)

    def skip(self, center: Xyz, name: str, leaves: bool, position: int) -> None:
        """Counts a coordinate that is skipped.

        Args:
          center: its place.
          name: its volume.
          leaves: whether the patch around it leaves the volume; otherwise it has no label.
          position: number of the next coordinate.

        Raises:
          UserError: so many in a row cannot be used, and none could before.
        """
        self._in_vain += 1
        reason, skipped = self._reason(center, name, leaves), self._skipped[name]
        skipped[reason] += 1
        if skipped[reason] == 1:
            advice = _ADVICE[reason].format(box=self._boxes[name])
            logging.warning('the patch around %s of %r %s', center, name, advice)
        self._count(name)
        if self.search_is_long and not self._any_used:
            raise UserError(
                f'{self._in_vain} coordinates in a row, up to number {position}, are out of bounds for patches '
                f'of {both_orders(self._size)}, or without a label; were they built for other volumes, or with too '
                'small a --margin?'
            )

    @property
    def search_is_long(self) -> bool:
        """Whether many in a row could not be used."""
        return self._in_vain >= _GIVE_UP_AFTER

    def _reason(self, center: Xyz, name: str, leaves: bool) -> str:
        if not leaves:
            return _NO_LABEL
        return _LEAVES if self._boxes[name].contains(Box(center, Xyz(1, 1, 1))) else _OUTSIDE

    def _count(self, name: str) -> None:
        """Tells how many of the first coordinates of a volume were skipped, once these were seen."""
        self._seen[name] += 1
        skipped = self._skipped[name]
        if self._seen[name] != self._first[name] or not skipped:
            return
        reasons = ', '.join(f'{count} {reason}' for reason, count in skipped.items())
        if skipped.total() == self._seen[name]:
            logging.warning(
                'none of the first %d coordinates of %r can be used (%s), so that the network learns nothing from it; '
                'were they built for another volume, or with too small a --margin?',
                *(self._seen[name], name, reasons),
            )
            return
        logging.warning(
            '%d of the first %d coordinates of %r were skipped (%s)%s',
            *(skipped.total(), self._seen[name], name, reasons),
            '; its share in --volume_weights counts them as well' if self._weighted else '',
        )
