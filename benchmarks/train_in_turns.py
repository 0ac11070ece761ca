"""A training that makes steps when it is told to, and says what they took; `bench_training_time` runs it.

    python benchmarks/train_in_turns.py FLAGS

FLAGS are those of `ffn train`. Each line of standard input is a number of steps; for each, one line of JSON follows on
standard output: processor and wall time, losses, the time of each part. A number after `profile` adds the time of
TensorFlow's operations. When there are no more lines, one more step is made, a summary and a checkpoint are written, and the
last line of JSON has their times too.

Imports nothing of the benchmarks, so that it can run with an older ffn.
"""

from __future__ import annotations

import collections
import functools
import glob
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

Times = tuple[float, float]
# What the name of an operation contains → its group; the first that fits.
GROUPS = {
    'Conv3DBackpropFilter': 'convolutions: gradients of weights',
    'Conv2DBackpropFilter': 'convolutions: gradients of weights',
    'Conv3DBackpropInput': 'convolutions: gradients of activations',
    'Conv3D': 'convolutions: forward',
    'Bias': 'biases, ReLU, sums',
    'Relu': 'biases, ReLU, sums',
    'Add': 'biases, ReLU, sums',
    'Sub': 'biases, ReLU, sums',
}


def clock() -> Times:
    """Processor time of all threads, and wall time."""
    return time.process_time(), time.perf_counter()


def since(begin: Times) -> Times:
    """The times that have passed."""
    now = clock()
    return now[0] - begin[0], now[1] - begin[1]


def operations(folder: str) -> dict[str, float]:
    """Seconds of each group of operations in a profile."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    with open(glob.glob(f'{folder}/**/*.xplane.pb', recursive=True)[0], 'rb') as file:
        space.ParseFromString(file.read())
    seconds: dict[str, float] = collections.defaultdict(float)
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            # 'node:operation'; other events contain operations
            found = re.fullmatch(r'[^:]+:(\w+)', plane.event_metadata[event.metadata_id].name)
            if found:
                group = next((g for part, g in GROUPS.items() if part in found[1]), 'others')
                seconds[group] += event.duration_ps / 1e12
    return seconds


class Turns:
    """Measures turns of steps, and waits for the next where one ends."""

    def __init__(self) -> None:
        self._left = 0
        self._begin: Times | None = None
        self._losses: list[float] = []
        self._parts: dict[str, Times] = {}
        self._profile: tempfile.TemporaryDirectory[str] | None = None

    def time(self, owner: type, name: str, part: str) -> None:
        """Wraps a method, so that its time is added to that of a part."""
        method: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = clock()
            result = method(*args, **kwargs)
            cpu, wall = since(begin)
            before = self._parts.get(part, (0.0, 0.0))
            self._parts[part] = before[0] + cpu, before[1] + wall
            if part == 'network':
                self._losses.append(result.loss)
            return result

        setattr(owner, name, timed)

    def before_step(self) -> None:
        """Ends a turn and waits for the next, if it is time for that."""
        import tensorflow as tf

        if self._left == 0:
            self.report()
            words = sys.stdin.readline().split() or ['1']
            if words[0] == 'profile':
                self._profile = tempfile.TemporaryDirectory()
                tf.profiler.experimental.start(self._profile.name)
            self._left = int(words[-1])
            self._losses, self._parts, self._begin = [], {}, clock()
        self._left -= 1

    def report(self) -> None:
        """Prints what the turn took; an empty object before the first."""
        result: dict[str, Any] = {}
        if self._begin is not None:
            cpu, wall = since(self._begin)
            result = {'cpu': cpu, 'wall': wall, 'losses': self._losses, 'parts': self._parts}
        if self._profile is not None:
            import tensorflow as tf

            tf.profiler.experimental.stop()
            result['operations'] = operations(self._profile.name)
            self._profile.cleanup()
            self._profile = None
        print(json.dumps(result), flush=True)


def main() -> None:
    """Trains."""
    from ffn.cli import train
    from ffn.training.reporting import Report
    from ffn.training.run_checkpoints import RunCheckpoints
    from ffn.training.train_step import TrainStep
    from ffn.training.walks.walk import BatchWalker

    turns = Turns()
    turns.time(BatchWalker, 'batch', 'examples, fields of view')
    turns.time(TrainStep, '__call__', 'network')
    turns.time(BatchWalker, 'advance', 'moves')
    turns.time(Report, 'add_step', 'scores of walks')
    turns.time(Report, 'summarize', 'summary')
    turns.time(RunCheckpoints, 'save', 'checkpoint')
    batch = BatchWalker.batch

    def when_told(walker: BatchWalker) -> Any:
        turns.before_step()
        return batch(walker)

    setattr(BatchWalker, 'batch', when_told)  # noqa: B010
    train.main(sys.argv[1:])
    turns.report()


if __name__ == '__main__':
    main()
