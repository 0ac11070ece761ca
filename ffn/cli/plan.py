"""`ffn plan`: settings for all stages from an image and labels, with the reason for each."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.planning.files import check_folder, write_plan
from ffn.planning.measure import measure
from ffn.planning.rules import Plan, make_plan
from ffn.utils.errors import UserError
from ffn.utils.geometry import parse_voxel_size
from ffn.utils.settings import setting
from ffn.utils.startup import startup_messages_hidden


@dataclass(frozen=True)
class PlanCommand:
    """Settings of the command."""

    image: str = setting('the image', metavar='PATH:DATASET')
    labels: str = setting('labels of the image, or of a part of it that says where it lies')
    output: str = setting('folder for the files of the plan', metavar='FOLDER')
    voxel_size: tuple[float, float, float] | None = setting(
        'nanometres, where the volumes do not say',
        default=None,
        parse=parse_voxel_size,
        metavar='X,Y,Z',
    )
    batch_size: int = setting('examples of a training step', default=4)
    memory: float = setting(
        'GiB of memory for training; 0: half of this machine', default=0.0, metavar='GIB'
    )
    replace: bool = setting(
        'replace files in --output that hold something else than this plan, such as your changes',
        default=False,
    )
    time: bool = setting('measure how long a training step takes here', default=True)
    quiet: bool = setting('no progress bar', default=False)


def run(command: PlanCommand) -> Plan:
    """Measures, plans, writes and prints."""
    if command.batch_size < 1:
        raise UserError(f'--batch_size is {command.batch_size}; expected 1 or more')
    check_folder(command.output)
    if not 0 <= command.memory < math.inf:
        raise UserError(
            f'--memory is {command.memory:g}; expected GiB, or 0 for half of this machine'
        )
    measured = measure(command.image, command.labels, command.voxel_size, command.quiet)
    with startup_messages_hidden():
        from ffn.models import precision

        has_gpu = precision.gpu_capability() is not None
    memory = command.memory or _memory_gib() / 2
    plan = make_plan(measured, memory, has_gpu, command.batch_size)
    commands = write_plan(plan, measured, Path(command.output), command.batch_size, command.replace)
    for choice in plan.choices:
        value = json.dumps(choice.value) if isinstance(choice.value, dict) else choice.value
        print(f'{choice.name}: {value}\n    {choice.reason}')
    if command.time:
        from ffn.planning.timing import time_step

        with startup_messages_hidden():
            seconds = time_step(plan['model_args'], command.batch_size)
        print(
            f'time: {1000 * seconds / 60:.3g} minutes per 1,000 steps, {plan["max_steps"] * seconds / 3600:.3g} '
            'hours for max_steps\n    measured with random data on this machine'
        )
    for warning in plan.warnings:
        print(f'WARNING: {warning}')
    print('run:', *commands.values(), sep='\n    ')
    return plan


def _memory_gib() -> float:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30


def main(argv: Sequence[str] | None = None) -> Plan:
    """Plans a training and inference after it.

    Raises:
      UserError: volumes that do not fit each other, or hold no labels; files that would be replaced.
    """
    parser = make_parser(
        'plan',
        'Reads an image and its labels, and writes settings for all stages, each with its reason: flag\n'
        'files for partitions, coordinates and training, an augmentation, and a request. Also tells what\n'
        'is doubtful in the data. Everything may be changed in the files; changed ones are replaced only\n'
        'with --replace.',
        epilog='ffn plan --image train.h5:raw --labels train.h5:labels --output plan\n'
        'ffn partitions --flagfile=plan/partitions.flags',
    )
    add_settings(parser, 'Data and machine', PlanCommand)
    return run(read_settings(parser.parse_args(argv), PlanCommand))
