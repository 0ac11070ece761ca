"""Running the trials of a selection, one after the other or on a cluster."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffn.distributed.pool import Pool, open_pool, run_stage
from ffn.evaluation.erl import erl_score
from ffn.evaluation.held_out_box import HeldOutBox
from ffn.evaluation.held_out_score import HeldOutScore
from ffn.evaluation.skeletons import Skeletons, read_skeletons
from ffn.evaluation.trial_digests import input_digests, truth_digest, weights_digest
from ffn.evaluation.trials import Result, Trial, collect_scores, read_result, write_result
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box

Trials = Sequence[tuple[Path, Trial]]
"""Trials of one setting, each with the path of its result."""


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """What all trials have in common.

    Attributes:
      labels: ground truth, 'path:dataset'.
      box: what is segmented.
      skeletons: SWC files for the expected run length; if empty, it is not computed.
      merge_threshold: see `ffn.evaluation.erl`; None: the default.
      max_steps: see `HeldOutBox`.
      max_seconds: see `HeldOutBox`.
      unlabelled: see `HeldOutBox`.
    """

    labels: str
    box: Box
    skeletons: tuple[str, ...] = ()
    merge_threshold: float | None = None
    max_steps: int | None = None
    max_seconds: float = 0
    unlabelled: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON; results are named after it."""
        return {**dataclasses.asdict(self), 'box': str(self.box)}


class Scorer:
    """Runs trials one after the other; successive trials of a setting share a compiled network.

    A copy in another process starts without a network. A context manager.
    """

    def __init__(self, config: SweepConfig):
        """Takes the settings; nothing is read yet."""
        self._config = config
        self._box: HeldOutBox | None = None
        self._setting: bytes = b''

    def __getstate__(self) -> dict[str, Any]:
        return {'_config': self._config, '_box': None, '_setting': b''}

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the network."""
        if self._box is not None:
            self._box.close()
        self._box = None

    def score(self, trial: Trial) -> Result:
        """Segments the box and compares with the ground truth.

        Raises:
          UserError: see `HeldOutBox`.
        """
        held_out = self._open_box(trial)
        held_out.start(trial.checkpoint)
        skeletons = self._read_skeletons(held_out)  # before anything that takes long
        found = held_out.segment(trial.checkpoint)
        score = HeldOutScore.of(held_out.truth, found)
        erl = self._score_skeletons(skeletons, held_out, found.labels)
        return Result(trial.checkpoint, trial.setting, collect_scores(score, erl))

    def _open_box(self, trial: Trial) -> HeldOutBox:
        setting = _serialize_setting(trial)
        if self._box is None or setting != self._setting:
            self.close()
            config = self._config
            self._box = HeldOutBox(
                trial.request,
                config.labels,
                config.box,
                max_steps=config.max_steps,
                max_seconds=config.max_seconds,
                unlabelled=config.unlabelled,
            )
            self._setting = setting
        return self._box

    def _read_skeletons(self, held_out: HeldOutBox) -> Skeletons | None:
        if not self._config.skeletons:
            return None
        size = held_out.voxel_size
        if size is None:
            raise UserError(
                'the voxel size is not known, by which skeletons are placed in the volume: set voxel_size '
                'in the request'
            )
        return read_skeletons(self._config.skeletons, size).clipped(held_out.box)

    def _score_skeletons(
        self, skeletons: Skeletons | None, held_out: HeldOutBox, labels: np.ndarray
    ) -> Mapping[str, float]:
        size = held_out.voxel_size
        if skeletons is None or size is None:
            return {}
        segments = labels[tuple((skeletons.voxels_zyx - held_out.box.start.zyx).T)]
        score = erl_score(skeletons, segments.astype(np.uint64), size, self._config.merge_threshold)
        return {'erl': score.erl, 'normalised_erl': score.normalised_erl}


def _serialize_setting(trial: Trial) -> bytes:
    request = type(trial.request)()
    request.CopyFrom(trial.request)
    request.ClearField('model_checkpoint_path')
    return request.SerializeToString(deterministic=True)


def run_sweep(scorer: Scorer, trials: Trials, keep: bool) -> list[str]:
    """Runs trials; each writes its result as soon as it has one.

    Args:
      scorer: runs them.
      trials: paths of the results, and the trials.
      keep: keep the scorer's network for further trials.

    Returns:
      One line for each trial that failed.
    """
    failed = []
    try:
        for path, trial in trials:
            try:
                write_result(path, scorer.score(trial))
            except (UserError, OSError) as error:
                reason = ' '.join(str(error).split())
                failed.append(f'{trial.checkpoint}, {trial.setting}: {reason}')
                logging.error('%s', failed[-1])
    finally:
        if not keep:
            scorer.close()
    return failed


def run_trials(
    trials: Sequence[Trial],
    config: SweepConfig,
    directory: Path,
    scheduler: str = 'none',
    workers: int = 2,
    quiet: bool = False,
) -> list[tuple[Trial, Result]]:
    """Runs the trials that have no result yet.

    Args:
      trials: the trials; those of a setting after each other.
      config: the box and its ground truth.
      directory: results are kept there.
      scheduler: 'none' for one after the other in this process, or where a Dask cluster is, see
        `ffn.distributed.cluster`; it shares the file system.
      workers: number of local workers.
      quiet: no progress bar.

    Returns:
      All trials that succeeded, each with its result, under the names that it has here.

    Raises:
      UserError: none did.
    """
    pairs = list(zip(_paths(trials, config, directory), trials, strict=True))
    distinct: dict[Path, Trial] = {}
    for path, trial in pairs:  # settings of several names may be the same request
        distinct.setdefault(path, trial)
    todo = [pair for pair in distinct.items() if read_result(pair[0]) is None]
    if len(todo) < len(distinct):
        done = len(distinct) - len(todo)
        logging.info('%d of %d trials have a result already', done, len(distinct))
    failed: list[str] = []
    if todo:
        with (
            open_pool(scheduler, 0 if scheduler == 'none' else workers) as pool,
            Scorer(config) as scorer,
        ):
            tasks = ((scorer, part, not pool.distributed) for part in _divide(todo, pool))
            for lines in run_stage(
                pool,
                run_sweep,
                tasks,
                len(todo),
                'selecting',
                quiet,
                weight=lambda task: len(task[1]),
                unit='trial',
            ):
                failed += lines
    results = [
        (trial, dataclasses.replace(result, checkpoint=trial.checkpoint, setting=trial.setting))
        for path, trial in pairs
        if (result := read_result(path)) is not None
    ]
    if not results:
        raise UserError(failed[0])
    return results


def _paths(trials: Sequence[Trial], config: SweepConfig, directory: Path) -> list[Path]:
    """The file of each result, named after all that it depends on; see `Trial.key`."""
    content = truth_digest(config.labels, config.box, config.skeletons)
    models = {trial.checkpoint: weights_digest(trial.checkpoint) for trial in trials}
    inputs = input_digests((trial.request for trial in trials), config.box)
    folder, common = directory / 'trials', {**config.as_dict(), 'content': content}
    folder.mkdir(parents=True, exist_ok=True)
    return [
        folder
        / f'{trial.key({**common, "model": models[trial.checkpoint], "inputs": digest})}.json'
        for trial, digest in zip(trials, inputs, strict=True)
    ]


def _divide(todo: Trials, pool: Pool) -> Iterator[Trials]:
    """Divides trials into tasks of one setting each.

    In another process, each task compiles the network: few tasks, but enough for all workers.
    """
    size = max(1, len(todo) // (2 * pool.capacity)) if pool.distributed else 1
    for _, equal in itertools.groupby(todo, key=lambda pair: pair[1].setting):
        group = list(equal)
        for i in range(0, len(group), size):
            yield group[i : i + size]
