"""Ranks the trials of a selection and writes what came out: a table, a plot and the best request.

See `ffn.evaluation.trials` for what is tried and `ffn.evaluation.trial_runs` for how trials are run.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffn.evaluation.trial_runs import SweepConfig, run_trials
from ffn.evaluation.trials import Result, Trial
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
    """Returns the step in a checkpoint's name, 0 if there is none."""
    number = checkpoint.rpartition('-')[2]
    return int(number) if number.isdecimal() else 0


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
    results = run_trials(trials, conditions, directory, **how)
    ranked = sorted(results, key=lambda result: result.rank(metric))
    write_table(directory / 'selection.csv', ranked)
    write_plot(directory / 'selection.png', results, metric)
    first = ranked[0].checkpoint, ranked[0].setting
    best = next(trial for trial in trials if (trial.checkpoint, trial.setting) == first)
    with atomic_path(directory / 'selected.pbtxt') as temporary:
        temporary.write_text(protos.to_text(best.request))
    return ranked
