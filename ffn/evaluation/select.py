"""Chooses a checkpoint and inference options by what they make of a held-out box.

    python -m ffn.evaluation.select --inference_request REQUEST.pbtxt --labels validation.h5:labels \
      --bounding_box 'start { x:0 y:0 z:150 } size { x:250 y:250 z:100 }' \
      --checkpoint model/model.ckpt-*.index \
      --vary inference_options.segment_threshold=0.4,0.6 --vary inference_options.move_threshold=0.8,0.9 \
      --output selection

segments the box with every checkpoint and every setting, ranks them and writes to the folder
selection.csv (all results, the best first), selection.png (how the metric goes with the training step,
and splits against mergers) and selected.pbtxt, the request that won. Run again, it makes only what is
missing; a grid can grow.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ffn.distributed.cluster import SCHEDULER_HELP
from ffn.evaluation.held_out import checkpoint_names
from ffn.evaluation.trial_runs import Conditions, run_trials
from ffn.evaluation.trials import METRICS, Result, Trial, make_trials, settings_of
from ffn.inference.request import parse_request, read_box
from ffn.utils import protos
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError, run_tool
from ffn.utils.startup import startup_messages_hidden


def write_table(path: Path, ranked: Sequence[Result]) -> None:
    """Writes results as CSV, whole or not at all."""
    names = list(ranked[0].scores)
    with atomic_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['checkpoint', 'setting', *names])
        for result in ranked:
            writer.writerow([result.checkpoint, result.setting, *map(result.scores.get, names)])


def write_plot(path: Path, results: Sequence[Result], metric: str) -> None:
    """Draws the metric over the training step, and splits against mergers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout='constrained')
    curve, plane = figure.subplots(1, 2)
    for setting in dict.fromkeys(result.setting for result in results):
        own = [result for result in results if result.setting == setting]
        own.sort(key=lambda result: step_of(result.checkpoint))
        steps = [step_of(result.checkpoint) for result in own]
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


def step_of(checkpoint: str) -> int:
    """The step in a checkpoint's name, 0 where there is none."""
    number = checkpoint.rpartition('-')[2]
    return int(number) if number.isdecimal() else 0


def select(
    trials: Sequence[Trial], conditions: Conditions, directory: Path, metric: str, **how: Any
) -> list[Result]:
    """Carries out trials, ranks them and writes what came out.

    Args:
      trials: see `run_trials`.
      conditions: see `run_trials`.
      directory: where it is written.
      metric: one of METRICS.
      **how: see `run_trials`.

    Returns:
      The results, the best first.

    Raises:
      UserError: see `run_trials`; also a metric that needs skeletons without any.
    """
    if metric in ('erl', 'normalised_erl') and not conditions.skeletons:
        raise UserError(f'--metric {metric} needs --skeletons')
    results = run_trials(trials, conditions, directory, **how)
    ranked = sorted(results, key=lambda result: result.rank(metric))
    write_table(directory / 'selection.csv', ranked)
    write_plot(directory / 'selection.png', results, metric)
    first = ranked[0].checkpoint, ranked[0].setting
    best = next(trial for trial in trials if (trial.checkpoint, trial.setting) == first)
    with atomic_path(directory / 'selected.pbtxt') as temporary:
        temporary.write_text(protos.to_text(best.request))
    return ranked


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Selects as the command line says.

    Returns:
      The results, the best first.

    Raises:
      UserError: see `select`; also if some trials failed, after the rest has been written.
    """
    args = _parser().parse_args(argv)
    request = parse_request(args.inference_request)
    names = checkpoint_names(args.checkpoint, request)
    trials = make_trials(request, names, settings_of(args.options, args.vary))
    metric = args.metric or ('erl' if args.skeletons else 'voi')
    conditions = Conditions(
        args.labels, read_box(args.bounding_box), tuple(args.skeletons), args.merge_threshold,
        args.max_steps, args.max_seconds,
    )  # fmt: skip
    if args.workers < 1:
        raise UserError(f'--workers is {args.workers}; expected 1 or more')
    with startup_messages_hidden():
        from ffn.models import precision

        precision.gpu_capability()
    ranked = select(
        trials, conditions, args.output, metric, scheduler=args.scheduler, workers=args.workers,
        quiet=args.quiet,
    )  # fmt: skip
    _print(ranked, metric, args.output)
    if len(ranked) < len(trials):
        raise UserError(f'{len(trials) - len(ranked)} of {len(trials)} trials failed, see above')
    return ranked


def _print(ranked: Sequence[Result], metric: str, directory: Path, at_most: int = 12) -> None:
    shown = list(dict.fromkeys([metric, 'voi_split', 'voi_merge', 'rand_error', 'filled_fraction']))
    print(' '.join(f'{name:>15}' for name in shown) + '  checkpoint, setting')
    for result in ranked[:at_most]:
        numbers = ' '.join(f'{result.scores[name]:15.4f}' for name in shown)
        print(f'{numbers}  {result.checkpoint}, {result.setting}')
    if len(ranked) > at_most:
        print(f'and {len(ranked) - at_most} more in {directory / "selection.csv"}')
    print(f'best by {metric}: {directory / "selected.pbtxt"}')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m ffn.evaluation.select', description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add('--inference_request', required=True, metavar='REQUEST', help='InferenceRequest, text '
        'format or a file; what it leaves out is taken from the training')  # fmt: skip
    add('--bounding_box', required=True, metavar='BOX', help='BoundingBox, text format or a file')
    add('--labels', required=True, metavar='PATH:DATASET', help='the truth')
    add('--checkpoint', nargs='+', default=[], metavar='PATH', help="what to try (the request's)")
    add('--options', action='append', default=[], metavar='NAME=TEXT', help='a setting: part of an '
        'InferenceRequest that overrides it; may be given again')  # fmt: skip
    add('--vary', action='append', default=[], metavar='FIELD=VALUE,VALUE', help='values of a field, '
        'such as inference_options.segment_threshold=0.4,0.6; may be given again, for all '
        'combinations')  # fmt: skip
    add('--output', required=True, type=Path, metavar='DIR', help='folder of the results')
    add('--metric', choices=sorted(METRICS), help='what decides (voi; erl with --skeletons)')
    add('--skeletons', nargs='+', default=[], metavar='FILE', help='SWC files, positions in the unit '
        'of voxel_size, for the expected run length')  # fmt: skip
    add('--merge_threshold', type=float, metavar='L', help='see python -m ffn.evaluation.evaluate')
    add('--scheduler', default='none', help=f'{SCHEDULER_HELP} (none)')
    add('--workers', type=int, default=2, metavar='N', help='processes of --scheduler local (2)')
    add('--max_steps', type=int, metavar='N', help='network steps of each, 0: no limit (4 times as '
        'many as cover the box)')  # fmt: skip
    add('--max_seconds', type=float, default=0, metavar='S', help='time for each, 0: no limit (0)')
    add('--quiet', action='store_true', help='no progress bar')
    return parser


if __name__ == '__main__':
    run_tool(main)
