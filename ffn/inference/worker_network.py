"""Subvolumes segmented by a pool whose tasks share a network: one in this process, or one per Dask worker."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from absl import logging

from ffn.distributed.pool import Pool, run_stage
from ffn.inference.config import InferenceConfig
from ffn.inference.core.canvas import Interrupted
from ffn.inference.int8_ranges import settle
from ffn.inference.report import BoxReport
from ffn.inference.run_progress import RunProgress
from ffn.inference.runner import Runner
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box


@dataclass(frozen=True)
class NetworkFactory:
    """Makes the runner that the tasks of a process share; see `ffn.distributed.pool.Pool.share`.

    Attributes:
      config: what to do.
    """

    config: InferenceConfig

    interruption = Interrupted

    @property
    def threads(self) -> int:
        """Subvolumes that are segmented at a time where tasks run in this process."""
        return self.config.concurrent_requests

    def open(self) -> Runner:
        """Loads the network.

        Raises:
          UserError: see `Runner`.
        """
        from ffn.utils.startup import startup_messages_hidden

        with startup_messages_hidden():
            from ffn.models import precision

            device = precision.describe_device()
            has_gpu = precision.gpu_capability() is not None
        # Without a GPU, the run takes many times as long: this is also told where workers tell warnings alone.
        logging.log(logging.INFO if has_gpu else logging.WARNING, 'the network runs on %s', device)
        return Runner(self.config)


def resolve(config: InferenceConfig, pool: Pool) -> InferenceConfig:
    """Fixes what a configuration leaves open until it runs, so that all workers agree on it.

    Args:
      config: may name a folder of checkpoints, and the precision `auto`.
      pool: what will carry it out.

    Returns:
      The same with the newest checkpoint of the folder, with the precision that `auto` stands for, and with the
      ranges that int8 needs.
    """
    if config.precision == 'auto' and pool.distributed:
        precision = pool.restricted().call(ask_precision)
        config = dataclasses.replace(config, precision=precision)
    from ffn.utils.startup import startup_messages_hidden

    with startup_messages_hidden():
        config = config.resolve()
    if config.precision != 'int8':
        return config
    settled: InferenceConfig = pool.restricted().call(settle, config)
    return settled


def segment_subvolumes(
    workers: Pool, boxes: Iterable[Box], count: int, what: str, quiet: bool = False
) -> Iterator[BoxReport]:
    """Segments subvolumes and writes the results; see `Runner.run`.

    Shows a bar of seeds and objects if this process segments them, else one of subvolumes.

    Args:
      workers: a pool whose tasks share a runner, see `NetworkFactory`.
      boxes: the subvolumes.
      count: how many.
      what: name of the stage, for the progress bar and errors.
      quiet: no progress bar.

    Yields:
      What became of each, in the order in which they end.

    Raises:
      UserError: see `run_stage`.
      SystemExit: stopped by a signal, after checkpoints.
    """
    tasks = ((box,) for box in boxes)
    if workers.distributed:
        yield from run_stage(workers, segment_subvolume, tasks, count, what, quiet)
        return
    at_a_time = min(workers.capacity, count)
    if (batch_size := workers.call(lambda runner: runner.config.batch_size)) > at_a_time:
        logging.info(
            'batches hold at most %d of batch_size %d fields of view, one for each box at work',
            at_a_time,
            batch_size,
        )
    with RunProgress(count, quiet) as bar:
        segment = functools.partial(segment_subvolume, bar=bar)
        yield from run_stage(workers, segment, tasks, count, what, quiet=True)


def segment_subvolume(runner: Runner, box: Box, bar: RunProgress | None = None) -> BoxReport:
    """Segments a subvolume.

    Args:
      runner: started.
      box: the subvolume.
      bar: shows how far it is.

    Raises:
      UserError: see `Runner.run`.
      Interrupted: `runner.stop` was set; a checkpoint has been saved.
    """
    if bar is not None:
        runner.on_canvas = bar.canvas
    try:
        canvas = runner.run(box.start.zyx, box.size.zyx)
    finally:
        if bar is not None:
            bar.box_ended(box.start.zyx)
    if canvas is None:
        return BoxReport.without_canvas(box, 'exists')
    return BoxReport.of_canvas(canvas)


def ask_precision() -> str:
    """Finds out which precision `auto` stands for on the worker that this is called in.

    It asks a process of its own: in this one, that would already choose the GPU that it uses.

    Raises:
      UserError: it did not work.
    """
    program = 'from ffn.models.precision import choose_precision; print(choose_precision("auto"))'
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f'precision auto could not be settled: {done.stderr.strip()[-300:]}')
    return done.stdout.split()[-1]
