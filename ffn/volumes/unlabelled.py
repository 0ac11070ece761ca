"""Which voxels of a label volume nobody has labelled: one rule, for everything that reads labels.

In files of this field a label below 0, or 2^64-1, means 'not labelled', as does 2^32-1 in uint32 volumes
whose metadata say so. A user may name one more value. Such voxels are background: they belong to no object.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from ffn.utils.labels import NOT_LABELLED

UNLABELLED_HELP = "another label that means 'not labelled', besides those below 0 and 2^64-1; such voxels are background"
_IN_32_BITS = 2**32 - 1
# Names of attributes that say which label, or which value of a missing chunk, is none.
_ATTRIBUTE = re.compile(
    'unlabel|not_?label|ignore|background|fill_?value|missing|no_?data|invalid', re.I
)


class Met(NamedTuple):
    """Voxels of labels that were read.

    Attributes:
      name: of the volume.
      unlabelled: how many have no label.
      voxels: all of them.
    """

    name: str
    unlabelled: int
    voxels: int


class Unlabelled:
    """Which labels of a volume mean 'not labelled', and how many voxels that were read have them.

    Attributes:
      values: these labels, but for those below 0.
      given: the one that a user gave, if any.
      is_needed: whether the volume's type holds any of them, or one was given: that it never occurs is told.
    """

    def __init__(
        self, name: str, dtype: np.dtype, attrs: Mapping[str, Any], given: int | None = None
    ):
        """Applies the rule to a volume.

        Args:
          name: what messages call the volume.
          dtype: of its labels.
          attrs: its attributes.
          given: what else means 'not labelled', as --unlabelled says.
        """
        stated = [_IN_32_BITS] if dtype == np.uint32 and _says_32_bits(attrs) else []
        self.values = (*([] if given is None else [given]), *stated, NOT_LABELLED)
        limits = np.iinfo(dtype) if dtype.kind in 'iu' else None
        self.is_needed = given is not None or (
            limits is not None
            and (limits.min < 0 or any(0 <= value <= limits.max for value in self.values))
        )
        self._name, self._lock, self.given = name, threading.Lock(), given
        self._unlabelled = self._voxels = 0
        self._met_given = False

    def find(self, labels: np.ndarray, stored: bool = True) -> np.ndarray | None:
        """Finds voxels without a label, and notes whether one has the label that was given.

        Args:
          labels: integer or bool, any shape.
          stored: whether they are as stored. Bodies that stand in for supervoxels are numbered on their own: of these, only
            what always means 'not labelled' does.

        Returns:
          bool of that shape, or None where all voxels have one.
        """
        if labels.dtype.kind == 'b' or not labels.size:
            return None
        found = None
        if labels.dtype.kind == 'i' and labels.min() < 0:
            found = labels < 0
        greatest = int(labels.max())  # faster than to compare each voxel
        for value in self.values if stored else (NOT_LABELLED,):
            if 0 <= value <= greatest:
                here = labels == labels.dtype.type(value)
                if here.any():
                    found = here if found is None else found | here
        if stored and found is not None and self.given is not None and not self._met_given:
            self._met_given = bool((labels[found] == self.given).any())
        return found

    def clear(self, labels: np.ndarray, stored: bool = True) -> np.ndarray:
        """Makes voxels without a label background, 0, and counts them.

        Args:
          labels: integer or bool, any shape.
          stored: see `find`.

        Returns:
          The same array where all voxels have a label, else a new one of that type.
        """
        found = self.find(labels, stored)
        with self._lock:
            self._voxels += labels.size
            self._unlabelled += 0 if found is None else int(np.count_nonzero(found))
        return labels if found is None else np.where(found, labels.dtype.type(0), labels)

    @property
    def count(self) -> int:
        """Number of voxels without a label that `clear` has met."""
        return self._unlabelled

    def met(self) -> Met:
        """What `clear` has met, which can be sent to another process."""
        return Met(self._name, self._unlabelled, self._voxels)

    def restart(self) -> None:
        """Counts from 0 again."""
        self._unlabelled = self._voxels = 0
        self._met_given = False

    @property
    def may_hold_given(self) -> bool:
        """Whether voxels have the label that was given, as far as they were looked at."""
        return self._met_given or not self._voxels

    def tell(self, absent: int | None) -> None:
        """Logs how many voxels without a label `clear` has met, if any.

        Args:
          absent: see `tell_unlabelled`.
        """
        tell_unlabelled(self._name, self._unlabelled, self._voxels, absent)


def tell_unlabelled(name: str, unlabelled: int, voxels: int, absent: int | None = None) -> None:
    """Logs how many voxels of a volume have no label, if there are any.

    Args:
      name: of the volume.
      unlabelled: voxels without a label.
      voxels: all that were looked at.
      absent: label that a user gave as one that means 'not labelled', and that none of them has.
    """
    if absent is not None and voxels:
        logging.warning(
            '%s: none of %d voxels has the label %d that --unlabelled names', name, voxels, absent
        )
    if unlabelled:
        logging.warning(
            '%s: %d of %d voxels (%.1f %%) are not labelled; they are background',
            name,
            unlabelled,
            voxels,
            100 * unlabelled / voxels,
        )


def met_by(rule: Unlabelled | None) -> Met | None:
    """What a volume's rule has met; None where there is none."""
    return None if rule is None else rule.met()


class Tally:
    """Adds up what the tasks of a stage have met, in whichever processes they ran."""

    def __init__(self) -> None:
        self._met: dict[str, Met] = {}

    def add(self, met: Met | None) -> None:
        """Adds what a task has met; None: a volume whose voxels all have labels."""
        if met is not None:
            before = self._met.get(met.name, Met(met.name, 0, 0))
            self._met[met.name] = Met(
                met.name, before.unlabelled + met.unlabelled, before.voxels + met.voxels
            )

    def tell(self) -> None:
        """Logs, one line a volume, how many voxels have no label."""
        for one in self._met.values():
            tell_unlabelled(*one)


@contextlib.contextmanager
def counted(*rules: Unlabelled | None) -> Iterator[None]:
    """Logs, one line a volume, how many voxels without a label are met within the block.

    That a label which was given is in none is told where no volume that it was given for may hold it.
    """
    volumes = list(dict.fromkeys(rule for rule in rules if rule is not None))
    for rule in volumes:
        rule.restart()
    yield
    held = {rule.given for rule in volumes if rule.may_hold_given}
    for rule in volumes:
        rule.tell(None if rule.given in held else rule.given)


def says_unlabelled(attribute: str) -> bool:
    """Whether an attribute of this name may say which label is none."""
    return _ATTRIBUTE.search(attribute) is not None


def _says_32_bits(attrs: Mapping[str, Any]) -> bool:
    """Whether attributes say that 2^32-1, or -1, is no label."""
    for name, value in attrs.items():
        if says_unlabelled(name):
            with contextlib.suppress(TypeError, ValueError):
                values = [int(v) for v in np.ravel(value).tolist()]
                if {_IN_32_BITS, -1} & set(values):
                    return True
    return False
