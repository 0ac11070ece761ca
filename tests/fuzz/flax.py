"""Loaders of checkpoints of Flax and Orbax, as far as a network that has their weights."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from ffn.models.flax_checkpoints import open_checkpoint
from ffn.models.flax_weights import make_network, read_network, read_step
from tests.fuzz.case import Loader
from tests.fuzz.mutations import VALUES, Rng, edit_json_file, pick
from tests.models.flax_files import parameters, under, write_flax, write_orbax

_SIZES = {'fov_size': [7, 5, 5], 'deltas': [1, 1, 1]}


def _arrays() -> dict[str, Any]:
    return {**under('params', parameters(features=2)), 'step': np.array(17)}


def _read(folder: Path) -> Any:
    checkpoint = open_checkpoint(folder / 'saved')
    args, weights = read_network(checkpoint)
    model = make_network(checkpoint, {**_SIZES, **args}, weights)
    step = read_step(checkpoint)
    return args, step, {name: np.asarray(value) for name, value in model.named_variables().items()}


def _good(value: Any) -> bool:
    args, step, weights = value
    return (
        args['depth'] > 0
        and (step is None or step >= 0)
        and all(np.isfinite(weight).all() for weight in weights.values())
    )


def _edit_flax(path: Path, rng: Rng) -> None:
    """Another array, name or value in a file of MessagePack."""
    tree = msgpack.unpackb(path.read_bytes(), strict_map_key=False)
    layers = tree['params']
    layer = pick(rng, sorted(layers))
    kind = pick(rng, sorted(layers[layer]))
    shape, dtype, data = msgpack.unpackb(layers[layer][kind].data)
    code = 1
    match int(rng.integers(7)):
        case 0:
            layers[layer] = pick(rng, VALUES[:10])
        case 1:
            layers[f'{layer}_'] = layers.pop(layer)
        case 2:
            del layers[layer][kind]
        case 3:
            shape = pick(
                rng, ([-1], [2**40], [], [0], 'x', None, shape[::-1], [*shape, 1], [2**62] * 4)
            )
        case 4:
            dtype = pick(
                rng, ('float64', 'int8', 'object', 'bfloat16', 'complex64', 'U1', '', 5, 'V4')
            )
        case 5:
            data = pick(rng, (b'', data[:-1], data * 2, b'\xff' * len(data), 'x', None))
        case _:
            code = int(rng.integers(8))
    if layer in layers and isinstance(layers[layer], dict) and kind in layers[layer]:
        packed = msgpack.packb((shape, dtype, data))
        layers[layer][kind] = msgpack.ExtType(code, packed)
    path.write_bytes(msgpack.packb(tree))


def _edit_orbax(driver: str, ocdbt: bool) -> Callable[[Path, Rng], None]:
    """Another shape, type or name of an array, or none."""

    def edit(path: Path, rng: Rng) -> None:
        arrays = _arrays()
        name = pick(rng, sorted(arrays))
        match int(rng.integers(5)):
            case 0:
                del arrays[name]
            case 1:
                arrays[f'{name}_'] = arrays.pop(name)
            case 2:
                arrays[name] = arrays[name].astype(pick(rng, ('f8', 'f2', 'i4', 'c8', '?')))
            case 3:
                arrays[name] = np.full(arrays[name].shape, pick(rng, (np.nan, np.inf, 1e300)))
            case _:
                arrays[name] = np.zeros(pick(rng, ((), (0,), (3, 3, 3, 2, 4), (2**12,))), 'f4')
        shutil.rmtree(path)
        write_orbax(path, arrays, driver, ocdbt)

    return edit


def _orbax(name: str, files: str, driver: str, ocdbt: bool, metadata: str = '') -> Loader:
    edits: list[tuple[str, Callable[[Path, Rng], None]]] = [('saved', _edit_orbax(driver, ocdbt))]
    if metadata:
        edits.append((metadata, edit_json_file))
    write = functools.partial(_write_orbax, driver=driver, ocdbt=ocdbt)
    return Loader(name, write, _read, (files,), tuple(edits), check=_good)


def _write_orbax(folder: Path, driver: str, ocdbt: bool) -> None:
    write_orbax(folder / 'saved', _arrays(), driver, ocdbt)


LOADERS = (
    Loader(
        'weights of Flax (MessagePack)',
        lambda folder: write_flax(folder / 'saved', _arrays()),
        _read,
        ('saved',),
        (('saved', _edit_flax),),
        check=_good,
    ),
    _orbax('weights of Orbax (OCDBT)', 'saved/**/*', 'zarr', True),
    _orbax('weights of Orbax (Zarr 2)', 'saved/*/*', 'zarr', False, 'saved/*/.zarray'),
    _orbax('weights of Orbax (Zarr 3)', 'saved/*/**/*', 'zarr3', False, 'saved/*/zarr.json'),
)
