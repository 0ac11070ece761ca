"""Random weights of the residual stack of connectomics, saved in every way that Flax and Orbax have, with what it computes.

    PYTHON benchmarks/flax_oracle.py FOLDER

PYTHON is that of an environment with connectomics, jax, flax and orbax-checkpoint; nothing of ours is imported. For
each case, the checkpoint goes to FOLDER/NAME, and inputs, the network's output and its sizes to FOLDER/NAME.npz.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import orbax.checkpoint.experimental.v1 as ocp_v1
from connectomics.jax.models.convstack import ConvstackConfig, ResConvStack
from flax import serialization
from flax.training import checkpoints, train_state

STEP = 1234
SMALL_XYZ = (23, 21, 19)


def train(tree: Any, module: Any) -> Any:
    """The state of a training with Adam."""
    state = train_state.TrainState.create(
        apply_fn=module.apply, params=tree['params'], tx=optax.adam(1e-3)
    )
    return state.replace(step=STEP)


def with_averages(path: Path, tree: Any, module: Any) -> None:
    """Averaged weights beside others."""
    others = jax.tree.map(lambda leaf: leaf + 1, tree['params'])
    content = {'params': others, 'ema_params': tree['params'], 'step': STEP}
    ocp.PyTreeCheckpointer().save(path, content)


def manager(path: Path, tree: Any, module: Any) -> None:
    """Two steps, of which the last has the weights."""
    state = train(tree, module)
    others = state.replace(params=jax.tree.map(lambda leaf: leaf + 1, state.params))
    with ocp.CheckpointManager(path) as managed:
        managed.save(STEP - 235, args=ocp.args.StandardSave(others))
        managed.save(STEP, args=ocp.args.StandardSave(state))


def composite(path: Path, tree: Any, module: Any) -> None:
    """An item besides the parameters."""
    items = {'train_state': ocp.args.StandardSave(train(tree, module))}
    with ocp.CheckpointManager(path) as managed:
        managed.save(STEP, args=ocp.args.Composite(**items, meta=ocp.args.JsonSave({'a': 1})))


def flax_file(path: Path, tree: Any, module: Any) -> None:
    """As Flax saves a training without Orbax."""
    flax.config.update('flax_use_orbax_checkpointing', False)
    checkpoints.save_checkpoint(path, train(tree, module), STEP)


def flax_with_orbax(path: Path, tree: Any, module: Any) -> None:
    """As Flax saves a training with Orbax."""
    flax.config.update('flax_use_orbax_checkpointing', True)
    checkpoints.save_checkpoint(path, train(tree, module), STEP)


def standard(path: Path, tree: Any, module: Any) -> None:
    """The checkpointer that Orbax recommends."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, train(tree, module))


def pytree(**options: bool) -> Callable[[Path, Any, Any], None]:
    """Variables, by the general checkpointer of Orbax."""

    def save(path: Path, tree: Any, module: Any) -> None:
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)).save(path, tree)

    return save


# Name → how it is saved, and what differs from the class's defaults; 'fov_size' is x, y, z.
CASES: dict[str, tuple[Callable[[Path, Any, Any], Any], dict[str, Any]]] = {
    'published size, parameters in MessagePack': (
        lambda path, tree, module: path.write_bytes(serialization.to_bytes(tree['params'])),
        {'depth': 12, 'features': 32, 'fov_size': (33, 33, 33)},
    ),
    'without layer norm, variables in MessagePack': (
        lambda path, tree, module: path.write_bytes(serialization.to_bytes(tree)),
        {'use_layernorm': False},
    ),
    'numbered layers, training state of Flax': (flax_file, {'enumerate_layers': True}),
    'three convolutions, Flax with Orbax': (flax_with_orbax, {'num_convs': 3}),
    'without padding, OCDBT': (pytree(), {'padding': 'valid'}),
    'kernel 5,3,1, Zarr 2 folders': (pytree(use_ocdbt=False), {'kernel_shape': (1, 3, 5)}),
    'one convolution, Zarr 3 folders': (
        pytree(use_ocdbt=False, use_zarr3=True),
        {'num_convs': 1},
    ),
    'features by layer, OCDBT of Zarr 3': (
        pytree(use_ocdbt=True, use_zarr3=True),
        {'features': (4, 6, 5, 6, 7, 6, 3, 6)},
    ),
    'flat and without padding, StandardCheckpointer': (
        standard,
        {'padding': 'valid', 'kernel_shape': (1, 3, 3)},
    ),
    'CheckpointManager, the last of two steps': (manager, {}),
    'CheckpointManager, one of two items': (composite, {'depth': 2}),
    'save_pytree of Orbax v1': (
        lambda path, tree, module: ocp_v1.save_pytree(path, tree),
        {'depth': 1},
    ),
    'averaged weights beside others (--params)': (with_averages, {}),
}


def write_case(folder: Path, number: int) -> None:
    """Saves random weights, and what the network computes with them."""
    save, sizes = list(CASES.values())[number]
    sizes = {'depth': 3, 'features': 8, **sizes}
    fov_xyz = sizes.pop('fov_size', SMALL_XYZ)
    module = ResConvStack(ConvstackConfig(**sizes))
    rng = np.random.default_rng(number)
    image, seed = rng.normal(size=(2, 2, *fov_xyz[::-1], 1)).astype(np.float32)
    seed *= 3
    inputs = np.concatenate([image, seed], -1)
    tree = module.init(jax.random.key(number), inputs)
    # Biases and scales as training leaves them: neither 0 nor 1.
    tree = jax.tree.map(
        lambda leaf: leaf + rng.normal(scale=0.1, size=leaf.shape).astype('f4'), tree
    )
    name = f'case-{number}'
    save(folder / name, tree, module)
    np.savez(
        folder / f'{name}.npz',
        image=image,
        seed=seed,
        update=np.asarray(module.apply(tree, inputs)),
        sizes=json.dumps({'fov_size': fov_xyz, 'padding': sizes.get('padding', 'same')}),
    )


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='where the checkpoints go')
    target = parser.parse_args().folder.absolute()
    for index in range(len(CASES)):
        write_case(target, index)
    print(json.dumps(list(CASES)))
