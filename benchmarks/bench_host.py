"""Time of everything around the network, per step: gathering, moving, writing, queueing.

    python -m benchmarks.bench_host

The network is a fixed function of the image that costs nothing: the image is an oracle's logits,
200 x 200 x 200 voxels, +4 inside of 27 objects and -4 between them. Field of view 33, deltas 8. The
canvas, through the executor, takes turns with a plain NumPy lower bound that makes the same steps:
gather image and seed, scatter the logits, find the maxima on the six faces. Processor time of the thread,
medians over the turns: what else runs on the machine hardly changes their ratio.

Then several canvases share a device that is simulated, all of them in one batch: 5 ms for every batch, and 1 ms.
"""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any

import numpy as np

from benchmarks import measure
from ffn.inference.core.canvas import Canvas
from ffn.inference.core.counters import Counters
from ffn.inference.core.options import CanvasOptions
from ffn.inference.executor import Executor
from ffn.models.info import ModelInfo
from ffn.utils.geometry import Xyz
from ffn.utils.logits import logit

SIZE, FOV, DELTA, OBJECTS = 200, 33, 8, 3
OPTIONS = CanvasOptions(
    init_activation=logit(0.95),
    pad_value=logit(0.05),
    move_threshold=logit(0.9),
    segment_threshold=logit(0.6),
    disco_seed_threshold=0.0,
)


def oracle() -> np.ndarray:
    """Logits of blocks so far apart that no field of view sees two: float32 [z, y, x]."""
    step = SIZE // OBJECTS
    wall = np.arange(SIZE) % step <= FOV // 2
    inside = ~(wall[:, None, None] | wall[None, :, None] | wall[None, None, :])
    return np.where(inside, np.float32(4), np.float32(-4))


def seeds(image: np.ndarray) -> list[tuple[int, int, int]]:
    """The middle of every block."""
    step = SIZE // OBJECTS
    middles = [i * step + step // 2 for i in range(OBJECTS)]
    return [(z, y, x) for z in middles for y in middles for x in middles if image[z, y, x] > 0]


class Given:
    """A seed policy of given points."""

    def __init__(self, points: list[tuple[int, int, int]]):
        self.total, self.index, self._points = len(points), 0, iter(points)

    def __next__(self) -> tuple[int, int, int]:
        point = next(self._points)
        self.index += 1
        return point

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint would hold."""
        return {'points': None, 'index': self.index}

    def set_state(self, state: dict[str, Any]) -> None:
        """Benchmarks do not continue from checkpoints."""
        raise NotImplementedError


def make_canvas(executor: Executor, image: np.ndarray) -> Canvas:
    """A canvas over the oracle."""
    fov, delta = Xyz(FOV, FOV, FOV), Xyz(DELTA, DELTA, DELTA)
    counters = Counters()
    info = ModelInfo(delta, fov, fov, fov)
    return Canvas(info, executor.client(counters), image, OPTIONS, counters=counters)


def walk(canvas: Canvas, start: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Where the field of view goes while one object grows."""
    positions: list[tuple[int, int, int]] = []
    canvas.segment_at(start, lambda canvas, position: positions.append(position))
    return positions


def lower_bound(image: np.ndarray, positions: list[tuple[int, int, int]]) -> float:
    """Seconds that plain NumPy takes for the same steps."""
    seed = np.full(image.shape, np.nan, np.float32)
    half, box = FOV // 2, slice(FOV // 2 - DELTA, FOV // 2 + DELTA + 1)
    begin = time.thread_time()
    for z, y, x in positions:
        fov = (
            slice(z - half, z + half + 1),
            slice(y - half, y + half + 1),
            slice(x - half, x + half + 1),
        )
        logits = image[fov].copy()
        seed[fov].copy()
        seed[fov] = logits
        near = logits[box, box, box]
        for face in (near[0], near[-1], near[:, 0], near[:, -1], near[:, :, 0], near[:, :, -1]):
            face.ravel()[face.argmax()]
    return time.thread_time() - begin


def host(repeats: int) -> None:
    """Prints the microseconds per step of the canvas and of the lower bound."""
    image = oracle()
    ours, bare = [], []
    for _ in range(repeats):
        canvas = make_canvas(Executor(lambda images, seeds: images), image)
        positions = [position for start in seeds(image) for position in walk(canvas, start)]
        canvas = make_canvas(Executor(lambda images, seeds: images), image)
        begin = time.thread_time()
        canvas.segment_all(Given(seeds(image)))
        ours.append((time.thread_time() - begin) / len(positions))
        bare.append(lower_bound(image, positions) / len(positions))
        if canvas.counters['predict-calls'] != len(positions) or len(canvas.origins) != 27:
            raise SystemExit('error: the two did not make the same steps')
    us, them = statistics.median(ours) * 1e6, statistics.median(bare) * 1e6
    print(f'steps of a run                {len(positions):8d}')
    print(f'everything but the network    {us:8.1f} us a step')
    print(f'plain NumPy lower bound       {them:8.1f} us a step')
    print(f'ratio                         {us / them:8.2f}   (target 1.85)')


def device(canvases: int, seconds: float) -> float:
    """Steps per second of several canvases on a device that takes so long for every batch of them."""
    image = oracle()

    def predict(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        time.sleep(seconds)
        return images

    executor = Executor(predict, canvases)
    made = [make_canvas(executor, image) for _ in range(canvases)]

    def segment(canvas: Canvas) -> None:
        with executor.active():
            canvas.segment_all(Given(seeds(image)))

    threads = [threading.Thread(target=segment, args=(canvas,)) for canvas in made]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begin
    return sum(canvas.counters['predict-calls'] for canvas in made) / elapsed


def main() -> None:
    """Prints the figures."""
    args = measure.parser(__doc__).parse_args()
    host(args.repeats)
    for seconds in (0.005, 0.001):
        one = statistics.median(device(1, seconds) for _ in range(3))
        for canvases in (2, 4, 8, 16):
            many = statistics.median(device(canvases, seconds) for _ in range(3))
            print(
                f'{canvases:2d} canvases, {1e3 * seconds:.0f} ms a batch {many:8.0f} steps/s; '
                f'one: {one:.0f}; ratio {many / one:.2f}'
                + ('   (target 7)' if (canvases, seconds) == (8, 0.005) else '')
            )


if __name__ == '__main__':
    measure.run_bench(main)
