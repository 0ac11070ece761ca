"""What networks cost: parameters, operations and memory of one step, as a Markdown table.

    python -m benchmarks.networks

Operations are those of the convolutions, two for a multiplication and an addition, zeros around the field of view
included. Memory is what XLA sets aside on a CPU besides weights, inputs and outputs, for one field of view in float32:
for a step of inference, and for the gradient of its loss. Nothing is timed, so that the machine makes no difference.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

os.environ['KERAS_BACKEND'] = 'jax'

import jax
import keras

from benchmarks import measure
from ffn.models.model import FFNModel, create_model

STACK, RESIDUAL = 'convstack_3d.ConvStack3DFFNModel', 'residual_stack.ResidualStackFFNModel'
CUBE = {'fov_size': [33, 33, 33], 'deltas': [8, 8, 8]}
SECTIONS = {'fov_size': [33, 33, 17], 'deltas': [8, 8, 4]}


class Row(NamedTuple):
    """A network of the table.

    Attributes:
      title: what it is.
      name: model_name.
      args: model_args.
      purpose: what it is for.
    """

    title: str
    name: str
    args: dict[str, Any]
    purpose: str


ROWS = (
    Row(
        'small stack',
        STACK,
        {'fov_size': [25, 25, 25], 'deltas': [8, 8, 8], 'depth': 6, 'features': 16},
        'CPUs; `models/fib25_small`',
    ),
    Row(
        'stack, depth 7',
        STACK,
        {'fov_size': [25, 25, 25], 'deltas': [8, 8, 8], 'depth': 7},
        '`models/fib25_medium`, and `fib25_medium_20nm`',
    ),
    Row('stack, depth 9', STACK, {**CUBE, 'depth': 9}, 'first trainings, isotropic; the default'),
    Row('stack, depth 12', STACK, {**CUBE, 'depth': 12}, 'the published FIB-SEM network'),
    Row(
        'residual stack, depth 11, without layer norm',
        RESIDUAL,
        {**CUBE, 'depth': 11, 'layer_norm': False},
        'the same function as the one above; for comparisons',
    ),
    Row(
        'residual stack, depth 11, layer norm',
        RESIDUAL,
        {**CUBE, 'depth': 11},
        'activations keep their scale, however deep; half as much memory again in training',
    ),
    Row(
        'residual stack, depth 12, layer norm',
        RESIDUAL,
        {**CUBE, 'depth': 12},
        'the default of this class, and of weights from `connectomics`',
    ),
    Row(
        'valid padding, depth 4',
        RESIDUAL,
        {**CUBE, 'deltas': [6, 6, 6], 'depth': 4, 'padding': 'valid'},
        'nothing that is predicted depends on zeros around the field of view',
    ),
    Row(
        'valid padding, depth 8, larger field of view',
        RESIDUAL,
        {'fov_size': [57, 57, 57], 'deltas': [8, 8, 8], 'depth': 8, 'padding': 'valid'},
        'the same, deep: much context for what is predicted',
    ),
    Row(
        'sections, all kernels 3,3,3',
        RESIDUAL,
        {**SECTIONS, 'depth': 8},
        'sections that are thicker than pixels are wide',
    ),
    Row(
        'sections, three flat stages (3,3,1)',
        RESIDUAL,
        {**SECTIONS, 'depth': 8, 'flat_stages': 3},
        'thick or badly aligned sections: each is looked at by itself first',
    ),
)


def count_operations(model: FFNModel) -> int:
    """Floating-point operations of all convolutions, from the shapes that a symbolic call has."""
    sizes = model.info.input_image_size, model.info.input_seed_size
    image, seed = (keras.Input((*size.zyx, 1)) for size in sizes)
    model.update(image, seed)
    return sum(
        2 * math.prod(layer.output.shape[1:]) * math.prod(layer.kernel.shape[:-1])
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv3D)
    )


def plan_memory(call: Callable[..., Any], model: FFNModel) -> int:
    """Bytes of temporary buffers that XLA plans for a function of weights, image and seed."""
    weights = [variable.value for variable in model.trainable_variables]
    batch = np.zeros((1, *model.info.input_image_size.zyx, 1), np.float32)
    return jax.jit(call).lower(weights, batch, batch).compile().memory_analysis().temp_size_in_bytes


def describe(row: Row) -> str:
    """A line of the table."""
    model = create_model(row.name, row.args)

    def predict(weights: list[Any], image: Any, seed: Any) -> Any:
        return model.stateless_call(weights, [], (image, seed))[0]

    def loss(weights: list[Any], image: Any, seed: Any) -> Any:
        return jax.numpy.logaddexp(0, predict(weights, image, seed)).mean()

    inference, training = (plan_memory(call, model) / 2**20 for call in (predict, jax.grad(loss)))
    sizes = (
        ','.join(map(str, size))
        for size in (model.info.input_image_size, model.info.pred_mask_size)
    )
    cells = (
        row.title,
        *sizes,
        f'{model.count_params():,}',
        f'{count_operations(model) / 1e9:.1f}',
        f'{inference:.0f}',
        f'{training:.0f}',
        row.purpose,
    )
    return f'| {" | ".join(cells)} |'


def main() -> None:
    """Prints the table, and the arguments of each network."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(
        '| network | FOV | predicted | parameters | GFLOP | inference, MiB | training, MiB | for |'
    )
    print('|---|---|---|' + '---:|' * 4 + '---|')
    for row in ROWS:
        print(describe(row), flush=True)
    print()
    for row in ROWS:
        print(f'- {row.title}: `{row.name}`, `{json.dumps(row.args)}`')


if __name__ == '__main__':
    measure.run_bench(main)
