"""`ffn infer` and run_inference.py: stage 4, boxes of a volume are segmented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ffn.cli.flags import parse_command, read_settings
from ffn.cli.request_flags import Changes
from ffn.utils.settings import section, setting
from ffn.volumes.missing import MISSING_HELP, ON_MISSING, OnMissing


@dataclass(frozen=True)
class Infer:
    """Settings of the command."""

    inference_request: str = setting(
        'InferenceRequest in text format, or a file with it', metavar='REQUEST'
    )
    bounding_box: str = setting(
        'what to segment: BoundingBox in text format, start and size in x, y, z, or a file with it',
        default='',
        metavar='BOX',
    )
    bounding_boxes: str = setting(
        'several boxes instead: BoundingBoxes in text format, or a file with it; as many are segmented '
        "at a time as the request's concurrent_requests says",
        default='',
        metavar='BOXES',
    )
    report: str = setting('file for a report of the run as JSON', default='', metavar='FILE')
    missing: OnMissing = setting(MISSING_HELP, default='tell', choices=ON_MISSING, metavar='ACTION')
    quiet: bool = setting('no progress bar', default=False)
    changes: Changes = section('In place of what the request says', default_factory=Changes)


def run(command: Infer) -> None:
    """Segments the boxes."""
    from ffn.inference import box_run

    box_run.segment(
        command.inference_request,
        command.bounding_box,
        command.bounding_boxes,
        command.changes.inference_options,
        command.changes.precision,
        command.report,
        command.quiet,
        command.missing,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Segments one box of a volume or several with a trained network."""
    args = parse_command(
        'infer',
        'Segments one box of a volume or several with a trained network. Writes seg-X_Y_Z.npz below\n'
        "the request's segmentation_output_dir, and counters.txt there. The network runs on Keras'\n"
        'TensorFlow backend, or on that which KERAS_BACKEND names.',
        'What is segmented, and how',
        Infer,
        argv,
        epilog='ffn infer --inference_request REQUEST.pbtxt \\\n'
        "  --bounding_box 'start { x:0 y:0 z:0 } size { x:250 y:250 z:250 }'",
    )
    run(read_settings(args, Infer))
