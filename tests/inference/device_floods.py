"""Floods with the seed on the host and on the device of the active Keras backend: prints where they differ.

    KERAS_BACKEND=jax python -m tests.inference.device_floods

Prints JSON: name of a case → what was seen, of which `same` says whether every step, and all that came of them, is the
same. On a GPU, logits may differ in the last digits, and then so may moves.
"""

from __future__ import annotations

import dataclasses
import json
import threading

import numpy as np

from ffn.inference.core.canvas import Canvas
from ffn.inference.core.counters import Counters
from ffn.inference.core.device_canvas import DeviceCanvas
from ffn.inference.core.options import CanvasOptions
from ffn.inference.device_executor import DeviceExecutor, make_steps
from ffn.inference.seeds.policy import SeedPolicy
from ffn.models.model import create_model
from ffn.models.predictor import make_predictor
from ffn.utils.geometry import Xyz
from ffn.utils.logits import logit
from tests.inference import flood

OPTIONS = CanvasOptions(
    init_activation=logit(0.95),
    pad_value=logit(0.05),
    move_threshold=logit(0.9),
    segment_threshold=logit(0.6),
    min_boundary_dist=Xyz(1, 1, 1),
    min_segment_size=50,
)
# A network of random weights raises and lowers by little; it moves to what has hardly fallen.
RANDOM = CanvasOptions(
    init_activation=1.0,
    pad_value=-1.0,
    move_threshold=-0.95,
    segment_threshold=-0.97,
    disco_seed_threshold=0.02,
    min_segment_size=20,
    max_object_steps=12,
)


class Grid(SeedPolicy):
    """Seeds that are 6 voxels apart."""

    def points(self) -> np.ndarray:
        """See `SeedPolicy`."""
        return np.stack(np.mgrid[tuple(slice(3, n, 6) for n in self.view.image.shape)], -1).reshape(
            -1, 3
        )


def volume(seed: int, shape: tuple[int, int, int] = (14, 16, 22)) -> np.ndarray:
    """Bright bodies on black, other ones for every seed; float32 [z, y, x]."""
    rng = np.random.default_rng(seed)
    image = np.full(shape, -1, np.float32)
    for _ in range(5):
        first = [int(rng.integers(0, n - 6)) for n in shape]
        image[tuple(slice(a, a + int(rng.integers(5, 12))) for a in first)] = 1
    return image


def outcome(canvas: Canvas, steps: list) -> list:
    """All that must be the same."""
    values = canvas.counters.as_dict()
    return [
        steps,
        canvas.segmentation.tolist(),
        canvas.seg_prob.tolist(),
        {i: tuple(map(int, (*o.start_zyx, o.iters))) for i, o in canvas.origins.items()},
        {i: o.tolist() for i, o in canvas.overlaps.items()},
        canvas.limited,
        {n: v for n, v in values.items() if '-time-' not in n},
    ]


def run(model, executor, images, options, policy='') -> list:
    """Floods an image in each thread; returns what came of them."""
    found = [None] * len(images)

    def one(i):
        counters = Counters()
        device = isinstance(executor, DeviceExecutor)
        canvas = (DeviceCanvas if device else Canvas)(
            model.info, executor.client(counters), images[i], options, counters=counters,
            movement_policy=(policy, {}), keep_history=True,
        )  # fmt: skip
        steps = []
        with canvas.observed_by(
            lambda canvas: steps.extend(canvas.history[-1:] if canvas.growing else [])
        ):
            with executor.active():
                canvas.segment_all(Grid)
        found[i] = outcome(canvas, steps)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def compare(model, images, options, policy='', batch_size=1, slots=1) -> dict:
    """Floods images on the host, one after the other, and on the device, all at a time."""
    from ffn.inference.executor import Executor

    predict = make_predictor(model)
    steps = make_steps(model, options, slots)
    sizes = []
    make = steps.run
    steps.run = lambda rows: (sizes.append(len(rows)), make(rows))[1]
    host = [run(model, Executor(predict), [image], options, policy)[0] for image in images]
    device = run(model, DeviceExecutor(predict, steps, batch_size), images, options, policy)
    return {
        'same': host == device,
        'steps': sum(len(one[0]) for one in host),
        'deleted': sum(step[1] for one in host for step in one[0]),
        'objects': sum(len(one[3]) for one in host),
        'limited': sorted({limit for one in host for limit in one[5].values()}),
        'largest_batch': max(sizes),
    }


def main() -> None:
    """Prints what was found."""
    found = {}
    network = flood.make_network()
    for policy in ('', 'CoarseToFineMovementPolicy'):
        found[f'flood {policy}'] = compare(network, [volume(0)], OPTIONS, policy)
    images = [volume(i, shape) for i, shape in enumerate([(14, 16, 22), (12, 20, 15), (9, 10, 24)])]
    # Fewer slots than canvases, so that more are made while others are in use.
    found['together'] = compare(network, images, OPTIONS, '', batch_size=4, slots=1)
    sizes = {'fov_size': [9, 7, 5], 'deltas': [2, 2, 1], 'depth': 2, 'features': 4}
    network = create_model('convstack_3d.ConvStack3DFFNModel', sizes)
    network.initialize(np.random.default_rng(1))
    found['random'] = compare(network, [volume(3)], RANDOM)
    # Larger weights take away again what was filled before.
    for variable in network.trainable_variables:
        variable.assign(3 * np.asarray(variable))
    options = dataclasses.replace(
        RANDOM,
        disco_seed_threshold=-1.0,
        init_activation=4.0,
        max_object_steps=0,
        max_object_voxels=100,
    )
    found['deleting'] = compare(network, [volume(4)], options)
    print(json.dumps(found))


if __name__ == '__main__':
    main()
