"""`ffn select`: chooses a checkpoint and inference options by their scores on a held-out box."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from ffn.cli.flags import make_parser
from ffn.cli.held_out_flags import add_box_flags, add_limit_flags
from ffn.distributed.cluster import SCHEDULER_HELP
from ffn.evaluation.held_out_box import checkpoint_names
from ffn.evaluation.selection import select
from ffn.evaluation.trial_runs import SweepConfig
from ffn.evaluation.trials import METRICS, Result, make_settings, make_trials
from ffn.inference.request import parse_request, read_box
from ffn.utils.errors import UserError
from ffn.utils.startup import startup_messages_hidden
from ffn.utils.texts import check_folder


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Tries every checkpoint with every setting, and prints and writes the ranking.

    Returns:
      The results, best first.

    Raises:
      UserError: see `select`; also if some trials failed, after the rest has been written.
    """
    args = _parser().parse_args(argv)
    check_folder(args.output, '--output')
    request = parse_request(args.inference_request)
    names = checkpoint_names(args.checkpoint, request)
    trials = make_trials(request, names, make_settings(args.options, args.vary))
    metric = args.metric or ('erl' if args.skeletons else 'voi')
    config = SweepConfig(
        args.labels,
        read_box(args.bounding_box),
        tuple(args.skeletons),
        args.merge_threshold,
        args.max_steps,
        args.max_seconds,
        args.unlabelled,
    )
    if args.merge_threshold is not None and not 0 <= args.merge_threshold < math.inf:
        raise UserError(f'--merge_threshold is {args.merge_threshold:g}; expected 0 or more')
    if args.merge_threshold is not None and not args.skeletons:
        raise UserError('--merge_threshold needs --skeletons, whose run length it is for')
    if args.workers < 1:
        raise UserError(f'--workers is {args.workers}; expected 1 or more')
    with startup_messages_hidden():
        from ffn.models import precision

        precision.gpu_capability()
    ranked = select(
        trials,
        config,
        Path(args.output),
        metric,
        scheduler=args.scheduler,
        workers=args.workers,
        quiet=args.quiet,
    )
    _print_ranking(ranked, metric, Path(args.output))
    if len(ranked) < len(trials):
        raise UserError(f'{len(trials) - len(ranked)} of {len(trials)} trials failed, see above')
    return ranked


def _print_ranking(
    ranked: Sequence[Result], metric: str, directory: Path, at_most: int = 12
) -> None:
    shown = list(dict.fromkeys([metric, 'voi_split', 'voi_merge', 'rand_error', 'filled_fraction']))
    print(' '.join(f'{name:>15}' for name in shown) + '  checkpoint, setting')
    for result in ranked[:at_most]:
        numbers = ' '.join(f'{result.scores[name]:15.4f}' for name in shown)
        stopped = '' if result.scores.get('complete', True) else ' (stopped at a limit)'
        print(f'{numbers}  {result.checkpoint}, {result.setting}{stopped}')
    if len(ranked) > at_most:
        print(f'and {len(ranked) - at_most} more in {directory / "selection.csv"}')
    print(f'best by {metric}: {directory / "selected.pbtxt"}')


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        'select',
        'Segments a box with known labels with every checkpoint and every setting, ranks the\n'
        'results, and writes to a folder: selection.csv (all results, best first), selection.png\n'
        '(the metric over the training step, and splits against mergers) and selected.pbtxt, the\n'
        'request that won. Run again, it only makes what is missing; a grid can grow.',
        'ffn select --inference_request REQUEST.pbtxt --labels validation.h5:labels \\\n'
        "  --bounding_box 'start { x:0 y:0 z:150 } size { x:250 y:250 z:100 }' \\\n"
        '  --checkpoint model/model.ckpt-*.index --output selection \\\n'
        '  --vary inference_options.segment_threshold=0.4,0.6',
    )
    add = parser.add_argument_group('What is tried').add_argument
    add(
        '--inference_request',
        required=True,
        metavar='REQUEST',
        help='InferenceRequest, text format or a file; fields that it omits are taken from the '
        'training',
    )
    add(
        '--checkpoint',
        nargs='+',
        default=[],
        metavar='PATH',
        help="checkpoints to try (default: the request's own)",
    )
    add(
        '--options',
        action='append',
        default=[],
        metavar='NAME=TEXT',
        help='a setting: part of an InferenceRequest that overrides the request; repeatable',
    )
    add(
        '--vary',
        action='append',
        default=[],
        metavar='FIELD=VALUE,VALUE',
        help='values of a field, such as inference_options.segment_threshold=0.4,0.6; repeatable, for '
        'all combinations',
    )
    add = parser.add_argument_group('What it is scored on').add_argument
    add_box_flags(add)
    add(
        '--metric',
        choices=sorted(METRICS),
        help='what decides (default: voi; with --skeletons, erl)',
    )
    add(
        '--skeletons',
        nargs='+',
        default=[],
        metavar='FILE',
        help='SWC files, positions in the unit of voxel_size, for the expected run length',
    )
    add('--merge_threshold', type=float, metavar='LENGTH', help='see ffn evaluate')
    add = parser.add_argument_group('How it is run').add_argument
    add('--output', required=True, metavar='DIR', help='folder of the results')
    add('--scheduler', default='none', metavar='WHERE', help=SCHEDULER_HELP)
    add('--workers', type=int, default=2, metavar='N', help='processes of --scheduler local')
    add_limit_flags(add, 'trial')
    add('--quiet', action='store_true', help='no progress bar')
    return parser
