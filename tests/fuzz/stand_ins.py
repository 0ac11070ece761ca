"""Loaders that do one thing wrong with every mutated file, so that the fuzzer is seen to notice it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ffn.utils.errors import UserError
from tests.fuzz.case import Loader

_TEXT = 'as it was'


def _write(folder: Path) -> None:
    (folder / 'file').write_text(_TEXT)


def _reader(of_mutated: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        return _TEXT if (folder / 'file').read_text() == _TEXT else of_mutated(folder)

    return read


def _change(path: Path, rng: np.random.Generator) -> None:
    path.write_text('changed')


def _refuse(folder: Path) -> None:
    raise UserError(f'{folder} is refused')


def _loader(name: str, of_mutated: Callable[[Path], Any], usable: bool = True) -> Loader:
    edits = (('file', _change),)
    # Only edits: damaged bytes may be no text.
    return _OnlyEdits(
        name, _write, _reader(of_mutated), ('file',), edits, check=lambda value: usable
    )


class _OnlyEdits(Loader):
    def mutate(self, folder: Path, rng: np.random.Generator) -> bool:
        _change(folder / 'file', rng)
        return False


LOADERS = (
    _loader('foreign', lambda folder: {}['absent']),
    _loader('crash', lambda folder: os._exit(3)),
    _loader('hang', lambda folder: time.sleep(60)),
    _loader('memory', lambda folder: np.empty(2**40, np.uint8)),
    _loader('wrong', lambda folder: 'unusable', usable=False),
    _loader('refused', _refuse),
    _loader('same', lambda folder: _TEXT),
    _loader('other', lambda folder: 'another'),
)
