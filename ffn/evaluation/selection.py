"""Ranks the trials of a selection and writes what came out: a table, a plot and the best request.

See `ffn.evaluation.trials` for what is tried and `ffn.evaluation.trial_runs` for how trials are run.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from ffn.evaluation.trial_runs import SweepConfig, run_trials
from ffn.evaluation.trials import Result, Trial
from ffn.models.checkpoints import KERAS_ENDING
from ffn.utils import protos
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.locks import exclusive_directory


def write_table(path: Path, ranked: Sequence[Result]) -> None:
    """Writes results as CSV, atomically."""
    names = list(ranked[0].scores)
    with atomic_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['checkpoint', 'setting', *names])
        for result in ranked:
            writer.writerow([result.checkpoint, result.setting, *map(result.scores.get, names)])


def write_plot(path: Path, results: Sequence[Result], metric: str) -> None:
    """Plots the metric over the training step, and splits against mergers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout='constrained')
    curve, plane = figure.subplots(1, 2)
    for setting in dict.fromkeys(result.setting for result in results):
        own = [result for result in results if result.setting == setting]
        own.sort(key=lambda result: parse_step(result.checkpoint))
        steps = [parse_step(result.checkpoint) for result in own]
        curve.plot(steps, [r.scores[metric] for r in own], marker='.', label=setting)
        splits, merges = ([r.scores[name] for r in own] for name in ('voi_split', 'voi_merge'))
        plane.scatter(splits, merges, label=setting, s=16)
    curve.set(xlabel='training step', ylabel=metric)
    plane.set(xlabel='VOI split, bits', ylabel='VOI merge, bits')
    for axes in (curve, plane):
        axes.grid(alpha=0.3)
    curve.locator_params(axis='x', nbins=6)
    figure.legend(
        *curve.get_legend_handles_labels(), loc='outside lower center', ncols=4, fontsize='small'
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format='png')


def parse_step(checkpoint: str) -> int:
    """Returns the step in a checkpoint's name, model.ckpt-N or NAME-N.weights.h5; 0 if there is none."""
    named = re.search(rf'-([0-9]+)(?:{re.escape(KERAS_ENDING)})?$', checkpoint)
    return int(named[1]) if named else 0


def select(
    trials: Sequence[Trial], conditions: SweepConfig, directory: Path, metric: str, **how: Any
) -> list[Result]:
    """Runs trials, ranks them and writes selection.csv, selection.png and selected.pbtxt.

    Args:
      trials: see `run_trials`.
      conditions: see `run_trials`.
      directory: receives the files.
      metric: one of METRICS.
      **how: see `run_trials`.

    Returns:
      The results, best first.

    Raises:
      UserError: see `run_trials`; also a metric that needs skeletons without any, or a folder that another
        selection works in.
    """
    if metric in ('erl', 'normalised_erl') and not conditions.skeletons:
        raise UserError(f'--metric {metric} needs --skeletons')
    with exclusive_directory(directory):
        return _select(trials, conditions, directory, metric, how)


def _select(
    trials: Sequence[Trial],
    conditions: SweepConfig,
    directory: Path,
    metric: str,
    how: Mapping[str, Any],
) -> list[Result]:
    pairs = run_trials(trials, conditions, directory, **how)
    write_plot(directory / 'selection.png', [result for _, result in pairs], metric)
    pairs.sort(key=lambda pair: pair[1].rank(metric))
    ranked = [result for _, result in pairs]
    write_table(directory / 'selection.csv', ranked)
    best = pairs[0][0]
    with atomic_path(directory / 'selected.pbtxt') as temporary:
        temporary.write_text(protos.to_text(best.request))
    _warn_of_best(ranked[0], metric)
    return ranked


def _warn_of_best(best: Result, metric: str) -> None:
    """Tells where the first rank says less than it seems to."""
    if not best.scores.get('complete', True):
        logging.warning(
            'the best trial was stopped at a limit, and is ranked by what it had segmented by then; give --max_steps or '
            '--max_seconds a greater value, or 0'
        )
    if not best.scores.get('filled_fraction', 1):
        logging.warning(
            'the best trial segmented nothing: %s counts what is wrong with segments, and there are none',
            metric,
        )
