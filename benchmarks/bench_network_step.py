"""Time of one step of the published network, beside a bare TensorFlow graph of its convolutions.

    python -m benchmarks.bench_network_step --data FOLDER

Depth 12, FOV 33, 32 features, batch 1, float32. The two take turns in one process, so that a busy
machine slows both; what is compared are their medians.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure

DEPTH, FOV = 12, 33
CHECKPOINT = 'fib25/model/model.ckpt-27465036'


def bare_graph(stored: dict[str, np.ndarray]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The network in nothing but tf.nn, from checkpoint variables: (image, seed) → logits."""
    import tensorflow as tf

    def conv(net: Any, layer: str) -> Any:
        weights, biases = (
            tf.constant(stored[f'seed_update/{layer}/{n}']) for n in ('weights', 'biases')
        )
        return tf.nn.bias_add(tf.nn.conv3d(net, weights, [1] * 5, 'SAME'), biases)

    spec = tf.TensorSpec((None, FOV, FOV, FOV, 1), tf.float32)

    @tf.function(input_signature=(spec, spec))
    def step(image: Any, seed: Any) -> Any:
        net = conv(tf.nn.relu(conv(tf.concat([image, seed], -1), 'conv0_a')), 'conv0_b')
        for i in range(1, DEPTH):
            net += conv(tf.nn.relu(conv(tf.nn.relu(net), f'conv{i}_a')), f'conv{i}_b')
        return seed + conv(tf.nn.relu(net), 'conv_lom')

    return lambda image, seed: step(tf.constant(image), tf.constant(seed)).numpy()


def main() -> None:
    """Prints the figures."""
    parser = measure.parser(__doc__)
    parser.set_defaults(repeats=25)
    args = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    from ffn.models.checkpoints import read_variables
    from ffn.models.model import create_model
    from ffn.models.predictor import make_predictor
    from ffn.models.weights import load_weights

    path = Path(args.data, CHECKPOINT)
    model = create_model(
        'convstack_3d.ConvStack3DFFNModel',
        {'depth': DEPTH, 'fov_size': [FOV] * 3, 'deltas': [8] * 3},
    )
    load_weights(model, path)
    ways = {'ours': make_predictor(model), 'bare': bare_graph(read_variables(path))}
    rng = np.random.default_rng(0)
    image, seed = (rng.normal(size=(1, FOV, FOV, FOV, 1)).astype(np.float32) for _ in range(2))
    difference = np.abs(ways['ours'](image, seed) - ways['bare'](image, seed)).max()
    if difference > 1e-3:
        raise SystemExit(f'error: the two networks differ by {difference}')
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(args.repeats):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            ways[name](image, seed)
            times[name].append(time.perf_counter() - begin)
    ours, bare = (statistics.median(times[name]) for name in ways)
    operations = 2 * FOV**3 * 27 * (2 * 32 + (2 * DEPTH - 1) * 32 * 32)
    print(f'network step          {ours * 1e3:8.1f} ms    ({operations / ours / 1e9:.0f} GFLOP/s)')
    print(f'bare TensorFlow graph {bare * 1e3:8.1f} ms')
    print(f'ratio                 {ours / bare:8.3f}       (target 1.05)')


if __name__ == '__main__':
    measure.run_bench(main)
