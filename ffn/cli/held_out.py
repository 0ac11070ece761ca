"""`ffn held-out`: scores checkpoints on a box that training has not seen."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ffn import __version__
from ffn.cli.flags import make_parser
from ffn.cli.held_out_flags import add_box_flags, add_limit_flags
from ffn.evaluation.held_out_box import HeldOutBox, checkpoint_names
from ffn.evaluation.held_out_score import HEADER, HeldOutScore
from ffn.inference.request import parse_request, read_box
from ffn.utils.atomic import check_writable, write_json
from ffn.utils.geometry import Box
from ffn.utils.startup import startup_messages_hidden


def main(argv: Sequence[str] | None = None) -> dict[str, HeldOutScore]:
    """Segments the box with each checkpoint and prints its scores; writes no segmentation.

    Returns:
      Checkpoint → score.

    Raises:
      UserError: see `HeldOutBox`.
    """
    args = _parser().parse_args(argv)
    if args.json:
        check_writable(args.json, '--json')
    request = parse_request(args.inference_request, args.inference_options)
    names, box = checkpoint_names(args.checkpoint, request), read_box(args.bounding_box)
    scores: dict[str, HeldOutScore] = {}
    with HeldOutBox(
        request,
        args.labels,
        box,
        max_steps=args.max_steps,
        max_seconds=args.max_seconds,
        quiet=args.quiet,
        unlabelled=args.unlabelled,
    ) as held_out:
        with startup_messages_hidden():
            from ffn.models import precision

            precision.gpu_capability()
        # Not flushed: where it cannot be written, there is a score at least.
        print(f'{HEADER}  checkpoint')
        for name in names:
            scores[name] = held_out.evaluate(name)
            try:
                print(f'{scores[name].row()}  {name}', flush=True)
            finally:
                if args.json:
                    _write_scores(args.json, args.labels, held_out.box, scores)
    if len(scores) > 1:
        print(f'least Rand error: {min(scores, key=lambda name: scores[name].rand_error)}')
    return scores


def _write_scores(path: Path, labels: str, box: Box, scores: dict[str, HeldOutScore]) -> None:
    report = {
        'version': __version__,
        'labels': labels,
        'box': {'start_xyz': list(box.start), 'size_xyz': list(box.size)},
        'scores': [{'checkpoint': n, **dataclasses.asdict(s)} for n, s in scores.items()],
    }
    write_json(path, report)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        'held-out',
        'Segments a box with known labels with each checkpoint and scores the results, which\n'
        'shows how well whole objects are traced. Writes no segmentation.',
        'ffn held-out --inference_request REQUEST.pbtxt --labels train.h5:labels \\\n'
        "  --bounding_box 'start { x:0 y:0 z:150 } size { x:250 y:250 z:100 }' \\\n"
        '  --checkpoint model/model.ckpt-*.index',
    )
    add = parser.add_argument_group('What is scored').add_argument
    add(
        '--inference_request',
        required=True,
        metavar='REQUEST',
        help='InferenceRequest, text format or a file; fields that it omits are taken from the '
        'training of each checkpoint',
    )
    add(
        '--inference_options',
        default='',
        metavar='OPTIONS',
        help="InferenceOptions that override the request's",
    )
    add_box_flags(add)
    add(
        '--checkpoint',
        nargs='+',
        default=[],
        metavar='PATH',
        help="checkpoints to score (default: the request's own)",
    )
    add = parser.add_argument_group('Limits and output').add_argument
    add_limit_flags(add, 'checkpoint')
    add('--json', type=Path, metavar='FILE', help='also write the scores to this file')
    add('--quiet', action='store_true', help='no progress bar')
    return parser
