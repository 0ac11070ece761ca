"""Were subvolumes made with the same request, and from the same image, network and so on, as far as they say?

What each says is in its result, see `ffn.inference.input_identity`. Another request, and other content, is refused. One
that does not know an input, as of a volume of another program, may have been made from the same, and a file that has been
written since may be a copy: both are told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from ffn.assembly.subvolumes import MadeWith
from ffn.assembly.tiling import Tiling
from ffn.inference.input_identity import WRITTEN, find_alike, shared_inputs
from ffn.inference.request_identity import compare_requests
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.volumes.provenance import differences


class _Said(NamedTuple):
    place: Xyz
    known: Any


class SameInputs:
    """Compares requests and inputs of subvolumes one by one with those before."""

    def __init__(self, tiling: Tiling):
        self._tiling = tiling
        self._first: tuple[Xyz, MadeWith] | None = None
        self._said: dict[str, _Said] = {}
        self._doubts: dict[str, str] = {}

    def add(self, place: Xyz, made_with: MadeWith) -> None:
        """Compares what a subvolume says.

        Raises:
          UserError: another one says that it was made with another request, or from something else.
        """
        self._compare_request(place, made_with)
        here = self._tiling.subvolume(place).start
        for name, known in shared_inputs(made_with.inputs).items():
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

    def _compare_request(self, place: Xyz, made_with: MadeWith) -> None:
        if self._first is None:
            self._first = place, made_with
        first, before = self._first
        if made_with.request == before.request:
            return
        there, here = (self._tiling.subvolume(one).start for one in (first, place))
        alike = find_alike(before.inputs, made_with.inputs)
        if changes := compare_requests(before.request, made_with.request, alike):
            raise UserError(
                f'the subvolumes at {there} and {here} were segmented with different requests: {changes}; '
                'segment them with one'
            )

    def tell(self, folder: Path) -> None:
        """Warns of what is not certain."""
        if self._doubts:
            logging.warning(
                '%s: subvolumes may have been made from different inputs: %s; if they were, segment one of both again',
                folder,
                '; '.join(self._doubts.values()),
            )
