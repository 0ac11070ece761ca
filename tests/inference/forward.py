"""The published network on the active Keras backend against stored steps: prints the differences.

    KERAS_BACKEND=jax python -m tests.inference.forward STEPS.npz WEIGHTS

STEPS.npz has `image`, `seed` and `logits`, float32 [n, z, y, x]; WEIGHTS is a checkpoint or
NAME.weights.h5. Prints JSON: precision → greatest difference in all logits, and the greatest part of
a step's voxels that lie on the other side of one half.
"""

from __future__ import annotations

import json
import sys

import keras
import numpy as np

from ffn.models.model import create_model
from ffn.models.predictor import make_predictor
from ffn.models.weights import load_weights

NAME = 'convstack_3d.ConvStack3DFFNModel'
ARGS = {'depth': 12, 'fov_size': [33, 33, 33], 'deltas': [8, 8, 8]}


def differences(steps: dict[str, np.ndarray], weights: str, precision: str) -> list[float]:
    """Greatest difference, and greatest part of voxels of a step that are decided otherwise."""
    model = create_model(NAME, ARGS, precision)
    load_weights(model, weights)
    predict = make_predictor(model)
    images, seeds = (steps[name][..., np.newaxis] for name in ('image', 'seed'))
    # Three at a time: a size that is no power of two.
    found = np.concatenate(
        [np.array(predict(images[i : i + 3], seeds[i : i + 3])) for i in range(0, len(images), 3)]
    )[..., 0]
    if found.dtype != np.float32:
        raise SystemExit(f'logits are {found.dtype}')
    otherwise = (found >= 0) != (steps['logits'] >= 0)
    return [
        float(np.abs(found - steps['logits']).max()),
        float(otherwise.mean(axis=(1, 2, 3)).max()),
    ]


if __name__ == '__main__':
    with np.load(sys.argv[1]) as stored:
        arrays = dict(stored)
    result = {p: differences(arrays, sys.argv[2], p) for p in ('float32', 'bfloat16')}
    print(json.dumps({'backend': keras.config.backend(), **result}))
