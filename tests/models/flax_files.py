"""Parameters of a residual stack by the names that Flax gives them, and checkpoints as Flax and Orbax write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import tensorstore as ts


def parameters(
    depth: int = 1,
    convs: int = 2,
    features: int = 3,
    kernel_zyx: Sequence[int] = (3, 3, 3),
    layer_norm: bool = True,
    numbered: bool = False,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Random parameters, float32, such as 'pre_a/kernel'; numbered: '0:pre_a/kernel'."""
    letters = 'abcdef'[:convs]
    layers = [f'pre_{letter}' for letter in letters]
    layers += [f'res{module}{letter}' for module in range(depth) for letter in letters]
    shapes = {f'{layer}/kernel': (*kernel_zyx, features, features) for layer in layers}
    shapes['pre_a/kernel'] = (*kernel_zyx, 2, features)
    shapes |= {f'{layer}/bias': (features,) for layer in layers}
    shapes |= {'output/kernel': (1, 1, 1, features, 1), 'output/bias': (1,)}
    if numbered:
        layers.append('output')
        shapes = {f'{layers.index(name.split("/")[0])}:{name}': s for name, s in shapes.items()}
    for norm in range(depth + 2 if layer_norm else 0):
        shapes |= {f'LayerNorm_{norm}/{kind}': (features,) for kind in ('scale', 'bias')}
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The same with other names: 'params/pre_a/kernel' for 'pre_a/kernel'."""
    return {f'{prefix}/{name}': value for name, value in arrays.items()}


def pack_array(array: np.ndarray) -> msgpack.ExtType:
    """An array as Flax packs it."""
    content = (array.shape, array.dtype.name, array.tobytes())
    return msgpack.ExtType(1, msgpack.packb(content, use_bin_type=True))


def write_flax(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Writes a file as Flax does; values that are no arrays are packed as they are."""
    tree: dict[str, Any] = {}
    for name, value in arrays.items():
        node = tree
        *folders, last = name.split('/')
        for key in folders:
            node = node.setdefault(key, {})
        node[last] = pack_array(value) if isinstance(value, np.ndarray) else value
    path.write_bytes(msgpack.packb(tree))
    return path


def write_orbax(
    folder: Path, arrays: Mapping[str, Any], driver: str = 'zarr', ocdbt: bool = True
) -> Path:
    """Writes a folder as Orbax does: of Zarr 2 or 3 ('zarr3'), in a database or as folders."""
    base: dict[str, Any] = {'driver': 'file', 'path': f'{folder}/'}
    for name, value in arrays.items():
        array = np.asarray(value)
        key = name.replace('/', '.') + '/'
        place = {'driver': 'ocdbt', 'base': base, 'path': key} if ocdbt else None
        metadata = {'compressor': {'id': 'zstd'}} if driver == 'zarr' else {}
        spec = {
            'driver': driver,
            'kvstore': place or {'driver': 'file', 'path': f'{folder}/{key}'},
            'metadata': {'shape': list(array.shape), **metadata},
            'store_data_equal_to_fill_value': True,
        }
        ts.open(spec, create=True, dtype=array.dtype).result().write(array).result()
    return folder
