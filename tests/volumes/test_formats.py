"""A format is a module with two functions."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes import formats
from ffn.volumes.opened_array import OpenedArray
from ffn.volumes.volume import open_volume


class Constant:
    """Volumes 'constant:VALUE'."""

    def recognizes(self, spec: str) -> bool:
        return spec.startswith('constant:')

    def open_array(self, spec: str) -> OpenedArray:
        array = np.full((4, 5, 6), int(spec.partition(':')[2]))
        return OpenedArray(array, {'kind': 'constant'}, (10, 0, 0))


def test_a_format_that_is_added_is_consulted_in_order(monkeypatch):
    with pytest.raises(UserError, match='no such file: constant'):
        open_volume('constant:7')
    monkeypatch.setattr(formats, 'FORMATS', (Constant(), *formats.FORMATS))
    with open_volume('constant:7') as volume:
        assert volume.box == Box(Xyz(0, 0, 10), Xyz(6, 5, 4))
        assert volume.attrs == {'kind': 'constant'}
        assert (volume.read(volume.box) == 7).all()
    with pytest.raises(UserError, match='no such file or folder: constant; expected path:dataset'):
        open_volume('constant')
