"""`ffn demo`: runs the whole pipeline on a generated sample."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.utils.errors import UserError
from ffn.utils.settings import setting


@dataclass(frozen=True)
class Demo:
    """Settings of the command."""

    output: str = setting(
        'folder for all results; that of an earlier demo is replaced',
        default='demo',
        metavar='FOLDER',
    )
    size: int = setting('voxels of each sample along each of x, y, z, 27 or more', default=128)
    train_steps: int = setting('training steps', default=5000)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the demo.

    Raises:
      UserError: a stage failed, or the segmentation is worse than it should be.
    """
    parser = make_parser(
        'demo',
        'Trains a small network on one generated sample, segments another that it has not seen, scores\n'
        'the result and writes a report. Each stage is run as a command, which is shown.',
        'ffn demo --output demo',
    )
    add_settings(parser, 'Demo', Demo)
    command = read_settings(parser.parse_args(argv), Demo)
    from ffn.demo import report, stages

    begin = time.monotonic()
    stages.check_settings(command.size, command.train_steps)
    folder = stages.prepare_folder(Path(command.output))
    commands = stages.run_stages(folder, command.size, command.train_steps)
    score = report.score_and_report(folder, commands)
    print(f'adapted Rand error on the unseen sample: {score.error:.4f}')
    print(f'{time.monotonic() - begin:.0f} s; report: {Path(command.output, "report.html")}')
    if not score.error <= report.MAX_ERROR:
        raise UserError(
            f'the adapted Rand error {score.error:.4f} is above {report.MAX_ERROR:.2f}: the '
            'segmentation is worse than this demo should give'
        )
