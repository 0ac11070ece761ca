"""Were subvolumes made from the same image, network and so on, as far as they say?

What each says is in its result, see `ffn.inference.input_identity`. Other content is refused. One that does not know an
input, as of a volume of another program, may have been made from the same, and a file that has been written since may
be a copy: both are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from ffn.assembly.tiling import Tiling
from ffn.inference.input_identity import WRITTEN
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.volumes.provenance import differences


class _Said(NamedTuple):
    place: Xyz
    known: Any


class SameInputs:
    """Compares the inputs of subvolumes one by one with those before."""

    def __init__(self, tiling: Tiling):
        self._tiling = tiling
        self._said: dict[str, _Said] = {}
        self._doubts: dict[str, str] = {}

    def add(self, place: Xyz, inputs: Mapping[str, Any]) -> None:
        """Compares what a subvolume says.

        Raises:
          UserError: another one says that it was made from something else.
        """
        here = self._tiling.subvolume(place).start
        for name, known in inputs.items():
            other = self._said.setdefault(name, _Said(place, known))
            if other.known == known:
                continue
            there = self._tiling.subvolume(other.place).start
            change = differences({name: other.known}, {name: known})
            if other.known and known and not name.endswith(WRITTEN):
                raise UserError(
                    f'the subvolumes at {there} and {here} were made from different inputs: {change}; segment them '
                    'with the same'
                )
            self._doubts.setdefault(name, f'{change}, of those at {there} and {here}')
            if not other.known:
                self._said[name] = _Said(place, known)

    def tell(self, folder: Path) -> None:
        """Warns of what is not certain."""
        if self._doubts:
            logging.warning(
                '%s: subvolumes may have been made from different inputs: %s; if they were, segment one of both again',
                folder,
                '; '.join(self._doubts.values()),
            )
