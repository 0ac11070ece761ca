"""A loader as the fuzzer sees it, and what a case came to."""

from __future__ import annotations

import dataclasses
import hashlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from ffn.utils.errors import UserError
from tests.fuzz.mutations import Rng, damage_file, pick

Edit = Callable[[Path, Rng], None]


class Outcome(StrEnum):
    """What became of a mutated file."""

    SAME = 'read as it was'
    REFUSED = 'refused in one line'
    OTHER = 'read as what it says now'
    FOREIGN = 'foreign exceptions'
    CRASH = 'crashes'
    HANG = 'hangs'
    MEMORY = 'over 2 GB'
    WRONG = 'wrong results taken'


DEFECTS = (Outcome.FOREIGN, Outcome.CRASH, Outcome.HANG, Outcome.MEMORY, Outcome.WRONG)


@dataclass(frozen=True)
class Loader:
    """Something that reads files.

    Attributes:
      name: of the kind of file.
      write: writes a valid sample into a folder.
      read: reads it, and returns everything that it takes from the files.
      files: patterns of the files in the folder that are damaged.
      edits: ways to make the files say something else, by the pattern of the file.
      sealed: whether the files have checksums of all that is read: when bytes are damaged, whatever is read must be
        what was written.
      check: whether a value is one that the rest of the program can work with.
      names_file: whether errors name the file; those about a request name its field.
    """

    name: str
    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    files: tuple[str, ...]
    edits: tuple[tuple[str, Edit], ...] = ()
    sealed: bool = False
    check: Callable[[Any], bool] = lambda value: True
    names_file: bool = True

    def mutate(self, folder: Path, rng: Rng) -> bool:
        """Changes the sample in a folder; returns whether its bytes were damaged, and not edited."""
        if self.edits and rng.random() < 0.5:
            pattern, edit = pick(rng, self.edits)
            edit(pick(rng, sorted(folder.glob(pattern))), rng)
            return False
        path = pick(rng, sorted(p for one in self.files for p in folder.glob(one) if p.is_file()))
        if rng.random() < 0.03:
            path.unlink()
        else:
            damage_file(path, rng)
        return True

    def judge(self, folder: Path, expected: str, damaged: bool) -> tuple[Outcome, str]:
        """Reads the changed sample; returns what came of it, and details of a defect."""
        try:
            value = self.read(folder)
        except UserError as error:
            named = not self.names_file or folder.name in str(error)
            return (Outcome.REFUSED, '') if named else (Outcome.FOREIGN, f'no file named: {error}')
        except MemoryError as error:
            return Outcome.MEMORY, describe(error)
        except OSError as error:
            if error.filename is not None:  # shown in one line as well
                return Outcome.REFUSED, ''
            return Outcome.FOREIGN, describe(error)
        except Exception as error:  # noqa: BLE001 - all that must not happen
            return Outcome.FOREIGN, describe(error)
        if digest(value) == expected:
            return Outcome.SAME, ''
        if damaged and self.sealed:
            return Outcome.WRONG, 'differs from what was written'
        try:
            usable = self.check(value)
        except Exception as error:  # noqa: BLE001 - it has not even the type that it should have
            return Outcome.WRONG, f'not usable: {describe(error)}'
        return (Outcome.OTHER, '') if usable else (Outcome.WRONG, f'not usable: {value!r}'[:300])


def describe(error: BaseException) -> str:
    """An exception with the last place in the project that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if '/ffn/' in f.filename.replace('\\', '/')] or frames
    place = f'{ours[-1].filename.rpartition("/ffn/")[2]}:{ours[-1].lineno}' if ours else ''
    return f'{type(error).__name__} at {place}: {" ".join(str(error).split())[:200]}'


def digest(value: Any) -> str:
    """Identifies a value: arrays, numbers, texts and containers of such."""
    hashed = hashlib.sha256()
    _add(value, hashed.update)
    return hashed.hexdigest()


def _add(value: Any, put: Callable[[bytes], Any]) -> None:
    put(type(value).__name__.encode())
    if isinstance(value, np.ndarray):
        put(f'{value.dtype.str}{value.shape}'.encode())
        if value.dtype.hasobject:
            _add(value.tolist(), put)
        else:
            put(np.ascontiguousarray(value).tobytes())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _add({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, put)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _add(key, put)
            _add(part, put)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for part in value:
            _add(part, put)
    else:
        put(repr(value).encode())
