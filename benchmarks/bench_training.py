"""A training step beside a bare forward-backward graph, bfloat16 beside float32, and the input.

    python -m benchmarks.bench_training --data FOLDER

Depth 12, FOV 33, 32 features, batch 4, plain gradient descent, as the published model was trained.
Ours and the bare graph (tf.nn and nothing else, entries of the gradient limited as ours are) take
turns in one process; so do the two precisions. The input is timed with the network left out: patches
of training_sample2, all examples of `fixed` moves of one step, with and without augmentation.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from benchmarks import measure, real_segmentation

if TYPE_CHECKING:
    from ffn.training.walks.walk import BatchWalker

Step = Callable[[Any], tuple[float, np.ndarray]]
DEPTH, FOV, BATCH, RATE = 12, 33, 4, 0.001
MODEL = 'convstack_3d.ConvStack3DFFNModel'
ARGS = {'depth': DEPTH, 'fov_size': [FOV] * 3, 'deltas': [8] * 3}


def bare_step(values: dict[str, np.ndarray]) -> Step:
    """Forward, backward and update in nothing but TensorFlow: (image, seed, labels, weights) → loss."""
    import tensorflow as tf

    variables = {name: tf.Variable(value) for name, value in values.items()}

    def conv(net: Any, layer: str) -> Any:
        weights, biases = (variables[f'seed_update/{layer}/{n}'] for n in ('weights', 'biases'))
        return tf.nn.bias_add(tf.nn.conv3d(net, weights, [1] * 5, 'SAME'), biases)

    spec = tf.TensorSpec((None, FOV, FOV, FOV, 1), tf.float32)

    @tf.function(input_signature=[spec] * 4)
    def step(image: Any, seed: Any, labels: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            net = conv(tf.nn.relu(conv(tf.concat([image, seed], -1), 'conv0_a')), 'conv0_b')
            for i in range(1, DEPTH):
                net += conv(tf.nn.relu(conv(tf.nn.relu(net), f'conv{i}_a')), f'conv{i}_b')
            logits = seed + conv(tf.nn.relu(net), 'conv_lom')
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits) * weights
            )
        ordered = list(variables.values())
        for variable, gradient in zip(ordered, tape.gradient(loss, ordered), strict=True):
            variable.assign_sub(RATE * tf.clip_by_value(gradient, -0.7, 0.7))
        return loss, logits

    def run(batch: Any) -> tuple[float, np.ndarray]:
        loss, logits = step(*map(tf.constant, batch))
        return float(loss), logits.numpy()

    return run


def our_step(precision: str) -> tuple[Step, dict[str, np.ndarray]]:
    """TrainStep of a fresh network: batch → loss, logits."""
    from ffn.models.model import create_model
    from ffn.training.optimizer_config import OptimizerConfig
    from ffn.training.train_step import TrainStep

    model = create_model(MODEL, ARGS, precision)
    model.initialize(np.random.default_rng(0))
    values = {name: np.asarray(v) for name, v in model.named_variables().items()}
    step = TrainStep(model, OptimizerConfig('sgd', RATE))

    def run(batch: Any) -> tuple[float, np.ndarray]:
        result = step(batch)
        return result.loss, result.logits

    return run, values


def time_steps(repeats: int) -> None:
    """Prints what a step takes."""
    from ffn.training.walks.walk import Batch

    ours, values = our_step('float32')
    ways = {'ours': ours, 'bare': bare_step(values), 'bfloat16': our_step('mixed_bfloat16')[0]}
    rng = np.random.default_rng(0)
    shape = (BATCH, FOV, FOV, FOV, 1)
    image, seed = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    labels = np.where(rng.random(shape) < 0.5, np.float32(0.95), np.float32(0.05))
    batch = Batch(image, seed, labels, np.ones(shape, np.float32))
    first = {name: way(batch)[0] for name, way in ways.items()}
    if abs(first['ours'] - first['bare']) > 1e-4:
        raise SystemExit(f'error: the two graphs differ: {first}')
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            ways[name](batch)
            times[name].append(time.perf_counter() - begin)
    own, bare, half = (statistics.median(times[name]) for name in ways)
    print(f'a step of {BATCH} FOVs, float32 {own * 1e3:8.0f} ms')
    print(f'bare TensorFlow graph     {bare * 1e3:8.0f} ms')
    print(f'ratio                     {own / bare:8.3f}   (target 1.10)')
    print(f'bfloat16                  {half * 1e3:8.0f} ms')
    print(f'float32 / bfloat16        {own / half:8.2f}   (target 1.5)')


def time_input(data: Path, repeats: int) -> None:
    """Prints how many patches a second the input gives, and what walking over them costs."""
    import tensorflow as tf

    from ffn.models.info import ModelInfo
    from ffn.training.augmentation.config import parse_augmentation
    from ffn.training.config import DataConfig, WalkConfig
    from ffn.training.input.examples import ExampleSource
    from ffn.training.walks.walk import BatchWalker
    from ffn.utils.geometry import Xyz

    info = ModelInfo(Xyz(8, 8, 8), *[Xyz(FOV, FOV, FOV)] * 3)
    walk = WalkConfig()
    size = walk.patch_size(info)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'volume.h5')
        real_segmentation.write_image(data, path)
        with h5py.File(path, 'a') as file:
            file['labels'] = measure.sample_labels(data)
        centers = np.random.default_rng(0).integers(45, 205, (5000, 3)).tolist()
        with tf.io.TFRecordWriter(f'{folder}/c', 'GZIP') as writer:
            for center in centers:
                made = tf.train.Example()
                made.features.feature['center'].int64_list.value.extend(center)
                made.features.feature['label_volume_name'].bytes_list.value.append(b'v')
                writer.write(made.SerializeToString())
        for name in ('', 'augmentation.json', 'augmentation_sections.json'):
            text = str(measure.ROOT / 'configs' / name) if name else ''
            config = DataConfig(
                f'{folder}/c',
                {'v': f'{path}:raw'},
                {'v': f'{path}:labels'},
                128,
                33,
                permutable_axes=(0, 1, 2),
                augmentation=parse_augmentation(text),
            )
            with ExampleSource(config, size, 0, 2 * BATCH) as source:
                [next(source) for _ in range(20)]
                count = 20 * repeats
                begin = time.perf_counter()
                [next(source) for _ in range(count)]
                rate = count / (time.perf_counter() - begin)
                print(f'patches of {size} a second, {name or "no augmentation":28s} {rate:7.0f}')
                if not name:
                    time_walk(BatchWalker(source, info, walk, BATCH), repeats)


def time_walk(walker: BatchWalker, repeats: int) -> None:
    """Prints what everything but the network takes in a step."""
    answer = np.full((BATCH, FOV, FOV, FOV, 1), 3.0, np.float32)
    steps = 20 * repeats
    begin = time.perf_counter()
    for _ in range(steps):
        walker.batch()
        walker.advance(answer)
    elapsed = (time.perf_counter() - begin) / steps
    print(f'a step without the network, examples included {elapsed * 1e3:7.2f} ms')


def main() -> None:
    """Prints the figures."""
    parser = measure.parser(__doc__)
    parser.set_defaults(repeats=7)
    args = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    time_input(args.data, args.repeats)
    time_steps(args.repeats)


if __name__ == '__main__':
    measure.run_bench(main)
