"""The flags that `ffn held-out` and `ffn select` share: the box with known labels, and limits."""

from __future__ import annotations

from collections.abc import Callable

from ffn.evaluation.held_out_box import TIMES_COVERED
from ffn.volumes.unlabelled import UNLABELLED_HELP


def add_box_flags(add: Callable[..., object]) -> None:
    """Adds the flags of the box and its labels.

    Args:
      add: add_argument of a group.
    """
    add(
        '--bounding_box',
        required=True,
        metavar='BOX',
        help='BoundingBox, start and size in x, y, z, text format or a file',
    )
    add('--labels', required=True, metavar='PATH:DATASET', help='the ground truth')
    add('--unlabelled', type=int, metavar='N', help=UNLABELLED_HELP)


def add_limit_flags(add: Callable[..., object], what: str) -> None:
    """Adds the flags that end a segmentation early.

    Args:
      add: add_argument of a group.
      what: what the limits are for, such as 'checkpoint'.
    """
    add(
        '--max_steps',
        type=int,
        metavar='N',
        help=f'network steps for each {what}, 0: no limit '
        f'(default: {TIMES_COVERED} times as many as cover the box)',
    )
    add(
        '--max_seconds',
        type=float,
        default=0,
        metavar='S',
        help=f'time for each {what}, 0: no limit',
    )
