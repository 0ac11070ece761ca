"""Carrying out the trials of a selection, one after the other or on a cluster."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffn.distributed.cluster import open_client
from ffn.evaluation.erl import erl_score
from ffn.evaluation.held_out_box import HeldOutBox
from ffn.evaluation.held_out_score import HeldOutScore
from ffn.evaluation.skeletons import Skeletons, read_skeletons
from ffn.evaluation.trials import Result, Trial, collect_scores, read_result, write_result
from ffn.inference.request import voxel_size_zyx
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.utils.progress import progress


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """What all trials have in common.

    Attributes:
      labels: the truth, 'path:dataset'.
      box: what is segmented.
      skeletons: SWC files for the expected run length; none: without.
      merge_threshold: see `ffn.evaluation.erl`; None: the default.
      max_steps: see `HeldOutBox`.
      max_seconds: see `HeldOutBox`.
    """

    labels: str
    box: Box
    skeletons: tuple[str, ...] = ()
    merge_threshold: float | None = None
    max_steps: int | None = None
    max_seconds: float = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**dataclasses.asdict(self), 'box': str(self.box)}


class Scorer:
    """Carries out trials one after the other; those with equal settings share a compiled network."""

    def __init__(self, conditions: SweepConfig):
        """Takes the conditions; nothing is read yet."""
        self._conditions = conditions
        self._box: HeldOutBox | None = None
        self._setting: bytes = b''

    def __call__(self, trial: Trial) -> Result:
        """Segments the box and scores it.

        Raises:
          UserError: see `HeldOutBox`.
        """
        held_out = self._held_out(trial)
        found = held_out.segment(trial.checkpoint)
        score = HeldOutScore.of(held_out.truth, found)
        return Result(
            trial.checkpoint,
            trial.setting,
            collect_scores(score, self._erl(trial, found.labels, held_out.box)),
        )

    def _held_out(self, trial: Trial) -> HeldOutBox:
        setting = _without_checkpoint(trial)
        if self._box is None or setting != self._setting:
            self.close()
            c = self._conditions
            self._box = HeldOutBox(
                trial.request,
                c.labels,
                c.box,
                max_steps=c.max_steps,
                max_seconds=c.max_seconds,
            )
            self._setting = setting
        return self._box

    def _erl(self, trial: Trial, labels: np.ndarray, box: Box) -> Mapping[str, float]:
        if not self._conditions.skeletons:
            return {}
        size = voxel_size_zyx(trial.request)[::-1]
        skeletons = _inside(read_skeletons(self._conditions.skeletons, size), box)
        segments = labels[tuple((skeletons.voxels_zyx - box.start.zyx).T)]
        score = erl_score(
            skeletons, segments.astype(np.uint64), size, self._conditions.merge_threshold
        )
        return {'erl': score.erl, 'normalised_erl': score.normalised_erl}

    def close(self) -> None:
        """Lets go of the network."""
        if self._box is not None:
            self._box.close()
        self._box = None


def _inside(skeletons: Skeletons, box: Box) -> Skeletons:
    clipped = skeletons.clipped(box)
    if not len(clipped.edges):
        raise UserError(f'no edge of the skeletons lies in {box}')
    return clipped


def _without_checkpoint(trial: Trial) -> bytes:
    request = type(trial.request)()
    request.CopyFrom(trial.request)
    request.ClearField('model_checkpoint_path')
    return request.SerializeToString(deterministic=True)


def run_sweep(
    trials: Sequence[tuple[Path, Trial]],
    conditions: SweepConfig,
    done: Callable[[], object] = lambda: None,
) -> list[str]:
    """Carries out trials, each of which writes its result as soon as it has one.

    Args:
      trials: path of the result, and what is tried.
      conditions: the box and its truth.
      done: called after each.

    Returns:
      What went wrong, a line for each trial that could not be carried out.
    """
    scorer, failed = Scorer(conditions), []
    try:
        for path, trial in trials:
            try:
                write_result(path, scorer(trial))
            except (UserError, OSError) as error:
                failed.append(
                    f'{trial.checkpoint}, {trial.setting}: {" ".join(str(error).split())}'
                )
                logging.error('%s', failed[-1])
            done()
    finally:
        scorer.close()
    return failed


def run_trials(
    trials: Sequence[Trial],
    conditions: SweepConfig,
    directory: Path,
    scheduler: str = 'none',
    workers: int = 2,
    quiet: bool = False,
) -> list[Result]:
    """Carries out the trials that have no result yet.

    Args:
      trials: what is tried; those of a setting after each other.
      conditions: the box and its truth.
      directory: results are kept there.
      scheduler: 'none' for one after the other in this process, or where a Dask cluster is, see
        `ffn.distributed.cluster`; it shares the file system.
      workers: number of local workers.
      quiet: no progress bar.

    Returns:
      The results of all trials that could be carried out.

    Raises:
      UserError: none could be.
    """
    paths = [directory / 'trials' / f'{t.key(conditions.as_dict())}.json' for t in trials]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    todo = [pair for pair in zip(paths, trials, strict=True) if read_result(pair[0]) is None]
    if len(todo) < len(trials):
        logging.info('%d of %d trials have a result already', len(trials) - len(todo), len(trials))
    failed: list[str] = []
    with progress(total=len(todo), desc='selecting', unit='trial', quiet=quiet) as bar:
        if scheduler == 'none':
            failed = run_sweep(todo, conditions, bar.update)
        elif todo:
            failed = _on_cluster(todo, conditions, scheduler, workers, bar.update)
    results = [result for path in paths if (result := read_result(path)) is not None]
    if not results:
        raise UserError(failed[0])
    return results


def _on_cluster(
    todo: Sequence[tuple[Path, Trial]],
    conditions: SweepConfig,
    scheduler: str,
    workers: int,
    done: Callable[[int], object],
) -> list[str]:
    failed: list[str] = []
    with open_client(scheduler, workers) as client:
        # A worker compiles the network once for each part: few parts, but enough for all workers.
        size = max(1, len(todo) // (2 * max(len(client.nthreads()), 1)))
        parts = [
            group[i : i + size]
            for _, equal in itertools.groupby(todo, key=lambda pair: pair[1].setting)
            for group in [list(equal)]
            for i in range(0, len(group), size)
        ]
        from distributed import as_completed

        futures = {client.submit(run_sweep, part, conditions): len(part) for part in parts}
        for future in as_completed(futures):
            failed += future.result()
            done(futures[future])
    return failed
