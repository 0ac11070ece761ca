"""Trains a network in minutes on a GPU that JAX sees: images, walks and weights all stay on the device.

Needs the repository, NumPy, SciPy, Keras and JAX, nothing else, so that it runs on a bare machine. Where everything is
installed, prepare what it needs; a volume is image, labels and a partition volume of `ffn partitions`:

    python -m benchmarks.device_training --prepare --files training.npz \
      --volume image.h5:raw,labels.h5:labels,partitions.h5:af --volume …

Carry the file along, and there:

    KERAS_BACKEND=jax python -m benchmarks.device_training --files training.npz --output NAME.weights.h5 \
      --model_args '{…}' --seconds 240

It is `ffn train` with less to choose and nothing to go on from: Adam with a cosine over the time that it is given, running
averages, examples that are drawn from all classes of the partitions alike and turned and mirrored at random, and gain and offset of
their brightness. A walk goes on where `--fov_policy=max_pred_moves` might: to a place in the object, beside one where it
has been, that the network holds for the object; but on a grid of the deltas, and in random order. That is what allows to
make it with arrays alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import measure
from benchmarks.device_training_data import MEAN, STDDEV, Data, load, prepare
from ffn.models import keras_weights
from ffn.models.model import FFNModel, create_model
from ffn.models.saved_settings import settings_path, write_settings_file
from ffn.utils.checksums import file_digest
from ffn.utils.logits import logit

NAME = 'convstack_3d.ConvStack3DFFNModel'
SEED, PAD, THRESHOLD = 0.95, 0.05, 0.9
# Steps of one compiled call.
TOGETHER = 25
DECAY, BETAS, EPSILON = 0.999, (0.9, 0.999), 1e-8
WILD = 50.0


class Walks(NamedTuple):
    """A batch of walks; arrays of the device.

    Attributes:
      image: float32 [b, z, y, x].
      target: soft labels, likewise.
      weight: of each voxel in the loss, likewise.
      canvas: logits, likewise.
      been: bool [b, z, y, x] of the grid of positions.
      position: int32 [b, 3], on that grid.
    """

    image: Any
    target: Any
    weight: Any
    canvas: Any
    been: Any
    position: Any


class Weights(NamedTuple):
    """What training changes, each a list of arrays like the network's variables; and the number of updates."""

    values: Any
    averages: Any
    first: Any
    second: Any
    count: Any


class Training:
    """Steps of the training, as functions of arrays."""

    def __init__(self, model: FFNModel, data: Data, args: argparse.Namespace):
        """Makes one."""
        import jax.numpy as jnp

        self.model, self.data, self.batch, self.noise = model, data, args.batch, args.noise
        self.ends, reach = 1 / args.walk, args.reach
        self.fov, self.delta = model.info.input_image_size.z, model.info.deltas.z
        self.grid = 2 * reach + 1
        self.size = self.fov + 2 * reach * self.delta
        offsets = np.arange(self.size) - self.size // 2
        self.offsets = jnp.asarray(
            np.stack(np.meshgrid(*[offsets] * 3, indexing='ij'), -1).reshape(-1, 3)
        )

    def examples(self, key: Any) -> Walks:
        """New walks, which begin in the centre."""
        import jax
        import jax.numpy as jnp

        data, b = self.data, self.batch
        keys = jax.random.split(key, 7)
        kind = jax.random.categorical(keys[0], data.shares, shape=(b,))
        which = (jax.random.uniform(keys[1], (b,)) * data.counts[kind]).astype(jnp.int32)
        place = data.places[
            data.begins[kind] + jnp.minimum(which, data.counts[kind] - 1)
        ]  # volume, z, y, x
        order = jnp.argsort(jax.random.uniform(keys[2], (b, 3)), axis=1)
        signs = jnp.where(jax.random.bernoulli(keys[3], 0.5, (b, 3)), 1, -1)
        strides = data.strides[place[:, 0]]
        centre = data.first[place[:, 0]] + (place[:, 1:] * strides).sum(1)
        turned = jnp.take_along_axis(strides, order, axis=1) * signs
        index = centre[:, None] + jnp.einsum('vi,bi->bv', self.offsets, turned)
        shape = (b, *[self.size] * 3)
        labels, own = data.labels[index], data.labels[centre]
        gain = 1 + self.noise * jax.random.normal(keys[4], (b, 1))
        offset = self.noise * jax.random.normal(keys[5], (b, 1))
        image = data.image[index] * gain + offset
        grain = self.noise * jax.random.uniform(keys[6], (b, 1))
        image += grain * jax.random.normal(jax.random.fold_in(key, 7), image.shape)
        middle = self.size // 2
        canvas = jnp.full(shape, logit(PAD), jnp.float32)
        return Walks(
            image.reshape(shape),
            jnp.where(labels == own[:, None], SEED, 1 - SEED).astype(jnp.float32).reshape(shape),
            (labels > 0).astype(jnp.float32).reshape(shape),
            canvas.at[:, middle, middle, middle].set(logit(SEED)),
            jnp.zeros((b, *[self.grid] * 3), bool),
            jnp.full((b, 3), self.grid // 2, jnp.int32),
        )

    def cut(self, arrays: Any, positions: Any) -> Any:
        """Fields of view, [b, z, y, x, 1]."""
        import jax

        return jax.vmap(
            lambda a, p: jax.lax.dynamic_slice(a, tuple(p * self.delta), [self.fov] * 3)
        )(arrays, positions)[..., None]

    def moved(self, walks: Walks, logits: Any, key: Any) -> tuple[Walks, Any]:
        """The walks after a step, and which of them have ended."""
        import jax
        import jax.numpy as jnp

        def one(walk: Walks, logits: Any, key: Any) -> tuple[Walks, Any]:
            canvas = jax.lax.dynamic_update_slice(
                walk.canvas, logits, tuple(walk.position * self.delta)
            )
            been = walk.been.at[tuple(walk.position)].set(True)
            half, step = self.fov // 2, self.delta
            on_grid = (slice(half, half + (self.grid - 1) * step + 1, step),) * 3
            beside = jax.lax.reduce_window(been, False, jnp.logical_or, [3] * 3, [1] * 3, 'SAME')
            may = (
                beside
                & ~been
                & (canvas[on_grid] >= logit(THRESHOLD))
                & (walk.target[on_grid] > 0.5)
            )
            order = jnp.where(may, jax.random.uniform(key, may.shape), -1)
            to = jnp.stack(jnp.unravel_index(jnp.argmax(order), may.shape)).astype(jnp.int32)
            # Where a new network has gone wild, nothing is to be learned.
            ended = (
                ~may.any() | ~(jnp.abs(logits).max() < WILD) | (jax.random.uniform(key) < self.ends)
            )
            return walk._replace(canvas=canvas, been=been, position=to), ended

        return jax.vmap(one)(walks, logits, jax.random.split(key, self.batch))

    def step(self, walks: Walks, weights: Weights, rate: Any, key: Any) -> tuple[Any, ...]:
        """Makes a step: the walks and weights after it, and the loss."""
        import jax
        import jax.numpy as jnp

        image, target, weight, seed = (
            self.cut(array, walks.position)
            for array in (walks.image, walks.target, walks.weight, walks.canvas)
        )

        def loss_of(values: Any) -> tuple[Any, Any]:
            logits = self.model.stateless_call(values, [], (image, seed), training=True)[0]
            losses = jnp.maximum(logits, 0) - logits * target + jnp.log1p(jnp.exp(-jnp.abs(logits)))
            return (losses * weight).mean(), logits

        (loss, logits), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights.values)
        keys = jax.random.split(key, 2)
        walks, ended = self.moved(walks, logits[..., 0], keys[0])
        fresh = self.examples(keys[1])
        walks = jax.tree.map(
            lambda old, new: jnp.where(ended.reshape(-1, *[1] * (old.ndim - 1)), new, old),
            walks,
            fresh,
        )
        return walks, updated(weights, gradients, rate), loss

    def steps(self, walks: Walks, weights: Weights, rate: Any, key: Any) -> tuple[Any, ...]:
        """TOGETHER steps; the loss is their mean."""
        import jax

        def one(state: tuple[Walks, Weights], key: Any) -> Any:
            walks, weights, loss = self.step(*state, rate, key)
            return (walks, weights), loss

        keys = jax.random.split(key, TOGETHER)
        (walks, weights), losses = jax.lax.scan(one, (walks, weights), keys)
        return walks, weights, losses.mean()


def updated(weights: Weights, gradients: Any, rate: Any) -> Weights:
    """Adam, with gradients of a norm of at most 1; and the running averages."""
    import jax.numpy as jnp

    norm = jnp.sqrt(sum((g**2).sum() for g in gradients))
    good = jnp.isfinite(norm)
    gradients = [jnp.where(good, g / jnp.maximum(norm, 1), 0) for g in gradients]
    count = weights.count + 1
    (b1, b2), keep = BETAS, jnp.minimum(DECAY, count / (count + 9))
    first = [b1 * m + (1 - b1) * g for m, g in zip(weights.first, gradients, strict=True)]
    second = [b2 * v + (1 - b2) * g**2 for v, g in zip(weights.second, gradients, strict=True)]
    values = [
        w - rate * (m / (1 - b1**count)) / (jnp.sqrt(v / (1 - b2**count)) + EPSILON)
        for w, m, v in zip(weights.values, first, second, strict=True)
    ]
    averages = [keep * a + (1 - keep) * w for a, w in zip(weights.averages, values, strict=True)]
    return Weights(values, averages, first, second, count)


def train(args: argparse.Namespace, model: FFNModel) -> None:
    """Trains for as long as is allowed, and saves the averaged weights."""
    import jax
    import jax.numpy as jnp

    begin = time.monotonic()
    delta, fov = model.info.deltas.z, model.info.input_image_size.z
    shares = args.shares or [1.0] * 99
    data = load(args.files, shares, args.reach * delta + fov // 2)
    training = Training(model, data, args)
    values = [jnp.array(v.value) for v in model.trainable_variables]
    zeros = [jnp.zeros_like(v) for v in values]
    weights = Weights(
        values, [v + 0 for v in values], zeros, [z + 0 for z in zeros], jnp.float32(0)
    )
    key = jax.random.PRNGKey(args.seed)
    walks = jax.jit(training.examples)(key)
    steps = jax.jit(training.steps, donate_argnums=(0, 1))
    done, told, started = 0, 0.0, time.monotonic()
    # What compiles is done at a rate of nearly 0, and does not count.
    walks, weights, loss = steps(walks, weights, jnp.float32(1e-9), key)
    loss.block_until_ready()
    trained_from = time.monotonic()
    print(f'compiled in {trained_from - started:.0f} s', flush=True)
    losses: list[float] = []
    while (share := (time.monotonic() - begin) / args.seconds) < 1:
        warm = min(1.0, (done + 1) * TOGETHER / args.warmup)
        rate = args.learning_rate * warm * (1 + math.cos(math.pi * share)) / 2
        key, now = jax.random.split(key)
        walks, weights, loss = steps(walks, weights, jnp.float32(rate), now)
        losses.append(float(loss))
        done += 1
        if time.monotonic() - told > args.tell:
            told = time.monotonic()
            fovs = done * TOGETHER * args.batch
            print(
                f'{told - begin:6.0f} s, step {done * TOGETHER:6d}, loss {np.mean(losses[-20:]):.4f}, '
                f'{fovs / (told - trained_from):.0f} fields of view/s',
                flush=True,
            )
    save(args, model, weights.averages, done * TOGETHER)
    print(f'{done * TOGETHER} steps of {args.batch}: {args.output}')


def save(args: argparse.Namespace, model: FFNModel, values: list[Any], step: int) -> None:
    """Writes weights, and beside them what inference needs to know."""
    for variable, value in zip(model.trainable_variables, values, strict=True):
        variable.assign(value)
    keras_weights.save(model, args.output)
    settings = {
        'model_name': args.model_name,
        'model_args': json.loads(args.model_args),
        'image_mean': MEAN,
        'image_stddev': STDDEV,
        'init_activation': SEED,
        'seed_pad': PAD,
        'threshold': THRESHOLD,
        'precision': args.precision,
        'voxel_size': args.voxel_size,
        'step': step,
        'ema': True,
        keras_weights.DIGEST: file_digest(args.output),
    }
    write_settings_file(settings_path(args.output), settings)


def main() -> None:
    """Prepares or trains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=Path, required=True, help='what --prepare writes, NPZ')
    parser.add_argument('--prepare', action='store_true', help='write the file and stop')
    parser.add_argument('--volume', action='append', default=[], help='IMAGE,LABELS,PARTITIONS')
    parser.add_argument('--output', type=Path, help='NAME.weights.h5')
    parser.add_argument('--model_name', default=NAME)
    parser.add_argument(
        '--model_args',
        default='{"depth": 7, "features": 32, "fov_size": [25, 25, 25], "deltas": [8, 8, 8]}',
    )
    parser.add_argument('--precision', default='bfloat16', choices=['float32', 'bfloat16'])
    parser.add_argument('--voxel_size', nargs=3, type=float, default=[10, 10, 10], help='x y z, nm')
    parser.add_argument('--shares', nargs='+', type=float, help='how often each volume is drawn')
    parser.add_argument('--batch', type=int, default=32, help='fields of view of a step')
    parser.add_argument('--reach', type=int, default=2, help='deltas from the centre')
    parser.add_argument('--walk', type=float, default=24, help='fields of view of one, about')
    parser.add_argument('--noise', type=float, default=0.1, help='of brightness, 1: STDDEV')
    parser.add_argument('--learning_rate', type=float, default=1e-3)
    parser.add_argument('--warmup', type=int, default=500, help='steps')
    parser.add_argument('--seconds', type=float, default=60, help='for everything')
    parser.add_argument('--tell', type=float, default=10, help='seconds between lines')
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()
    if args.prepare:
        prepare(args.volume, args.files)
        return
    if not args.output:
        parser.error('--output is required')
    policy = args.precision if args.precision == 'float32' else f'mixed_{args.precision}'
    model = create_model(args.model_name, json.loads(args.model_args), policy)
    model.initialize(np.random.default_rng(args.seed))
    train(args, model)


if __name__ == '__main__':
    measure.run_bench(main)
