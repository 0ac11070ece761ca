"""Arrays in checkpoints of Flax and Orbax, read without either, and without JAX.

Flax writes one file of MessagePack, in which arrays are extensions. Orbax writes a folder with a Zarr array for each
parameter: as folders in it, or as keys of an OCDBT database (https://google.github.io/tensorstore/kvstore/ocdbt).
Neither holds code, and nothing is unpickled.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffn.utils.errors import UserError, damage_told

ADVICE = 'take a copy; expected a file of Flax (MessagePack) or a folder of Orbax'
_MANIFEST = 'manifest.ocdbt'
# In folders of earlier Orbax, what is not stored as arrays of its own: a file like those of Flax.
_AGGREGATE = 'checkpoint'
# Metadata of an array → TensorStore's driver.
_DRIVERS = {'.zarray': 'zarr', 'zarr.json': 'zarr3'}
_NUMBERED = re.compile(r'(?:(?:checkpoint|ckpt)[_-])?(\d{1,18})(?:\.(?:flax|msgpack))?')
# Extensions of Flax: an array, a scalar of NumPy.
_ARRAYS = (1, 3)
# No parameter of a network has as many numbers; metadata that is damaged may say so.
_MOST_NUMBERS = 2**27


@dataclass(frozen=True)
class FlaxCheckpoint:
    """What a checkpoint holds.

    Attributes:
      path: the file or folder that is read.
      step: in the name of the file, or of the folder or one around it; None where none has a number.
      readers: name, such as 'params/pre_a/kernel', → reads the array.
    """

    path: Path
    step: int | None
    readers: Mapping[str, Callable[[], np.ndarray]]

    def read(self, name: str) -> np.ndarray:
        """Reads an array.

        Args:
          name: one of `readers`.

        Raises:
          UserError: it is damaged.
        """
        with damage_told(self.path, f'{name} cannot be read: {ADVICE}'):
            return self.readers[name]()


def open_checkpoint(path: str | Path) -> FlaxCheckpoint:
    """Opens a checkpoint.

    Args:
      path: file of Flax; folder of Orbax; or a folder of numbered ones, for that with the highest number.

    Raises:
      UserError: there is none, it is damaged, or the package msgpack is needed and not installed.
    """
    found, step = _find(Path(path))
    with damage_told(found, ADVICE):
        if found.is_file():
            readers = dict(_unpacked(found))
        else:
            readers = dict(_stored(found))
    return FlaxCheckpoint(found, step, readers)


def _find(path: Path) -> tuple[Path, int | None]:
    """Descends to the file or folder of a checkpoint; also returns the last number on the way."""
    step = _number(path)
    while not (path.is_file() or _is_orbax(path)):
        if not path.is_dir():
            raise UserError(f'no such file or folder: {path}')
        if (path / _AGGREGATE).is_file():
            return path / _AGGREGATE, step
        children = list(path.iterdir())
        numbered = [child for child in children if _number(child) is not None]
        if numbered:
            path = max(numbered, key=lambda child: _number(child) or 0)
            step = _number(path)
            continue
        items = sorted(child for child in children if _is_orbax(child))
        if len(items) != 1:
            names = ', '.join(item.name for item in items)
            raise UserError(
                f'{path} holds several items; give one of them: {names}'
                if items
                else f'{path} holds no checkpoint; expected a file of Flax (MessagePack), a folder of Orbax with '
                f'{_MANIFEST} or Zarr arrays, or numbered ones of either'
            )
        (path,) = items
    return path, step


def _number(path: Path) -> int | None:
    found = _NUMBERED.fullmatch(path.name)
    return int(found[1]) if found else None


def _is_orbax(path: Path) -> bool:
    # TensorStore takes a folder without a manifest for an empty database.
    return path.is_dir() and ((path / _MANIFEST).is_file() or any(_array_folders(path)))


def _array_folders(folder: Path) -> Iterator[Path]:
    """Metadata of the arrays that are folders in it."""
    for marker in _DRIVERS:
        yield from folder.glob(f'*/{marker}')


def _unpacked(path: Path) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Names and readers of the arrays in a file of MessagePack."""
    try:
        import msgpack
    except ImportError as error:
        raise UserError(
            f'{path}: files of Flax need msgpack: pip install "flood-filling-networks[flax]"'
        ) from error
    content = msgpack.unpackb(path.read_bytes(), strict_map_key=False)
    if not isinstance(content, dict):
        raise ValueError(f'it holds {type(content).__name__}, no parameters by name')
    for name, leaf in _leaves(content):
        if isinstance(leaf, msgpack.ExtType) and leaf.code in _ARRAYS:
            yield name, functools.partial(_unpack_array, leaf.data)
        elif isinstance(leaf, int | float):
            yield name, functools.partial(np.asarray, leaf)


def _leaves(tree: Mapping[Any, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f'{prefix}{key}/')
        else:
            yield f'{prefix}{key}', value


def _unpack_array(packed: bytes) -> np.ndarray:
    import ml_dtypes  # noqa: F401 - makes bfloat16 known
    import msgpack

    shape, dtype, data = msgpack.unpackb(packed)
    return np.frombuffer(data, np.dtype(dtype)).reshape(shape)


def _stored(folder: Path) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Names and readers of the arrays in a folder of Orbax."""
    import tensorstore as ts

    store: dict[str, Any] = {'driver': 'file', 'path': f'{folder.absolute()}/'}
    if (folder / _MANIFEST).is_file():
        store = {'driver': 'ocdbt', 'base': store}
        keys = [key.decode() for key in ts.KvStore.open(store).result().list().result()]
    else:
        keys = [f'{path.parent.name}/{path.name}' for path in _array_folders(folder)]
    for key in sorted(keys):
        array, _, marker = key.rpartition('/')
        if marker in _DRIVERS:
            place = {**store, 'path': f'{store.get("path", "")}{array}/'}
            spec = {'driver': _DRIVERS[marker], 'kvstore': place}
            yield array.replace('.', '/'), functools.partial(_read_store, spec)


def _read_store(spec: Mapping[str, Any]) -> np.ndarray:
    import tensorstore as ts

    store = ts.open({**spec, 'fill_missing_data_reads': False}, open=True, read=True).result()
    chunk: Sequence[Any] = store.chunk_layout.read_chunk.shape or ()  # a scalar has none
    for shape in (store.shape, chunk):
        if math.prod(shape) > _MOST_NUMBERS:
            raise ValueError(f'shape {tuple(shape)}')
    array: np.ndarray = store.read().result()
    return array
