"""`ffn partitions` and compute_partitions.py: stage 1, partitions of a label volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from absl import logging

from ffn.cli.flags import parse_command, read_settings
from ffn.training.sampling.partition_config import BACKGROUND, EXCLUDED, PartitionConfig
from ffn.training.sampling.partitions import write_partitions
from ffn.utils.settings import section, setting
from ffn.volumes.missing import MISSING_HELP, ON_MISSING, OnMissing


@dataclass(frozen=True)
class Partitions:
    """Settings of the command."""

    input_volume: str = setting('labels, path:dataset', metavar='VOLUME')
    output_volume: str = setting('HDF5 dataset to write, path:dataset', metavar='VOLUME')
    config: PartitionConfig = section('What is computed')
    missing: OnMissing = setting(
        MISSING_HELP,
        default='tell',
        choices=ON_MISSING,
        metavar='ACTION',
    )
    quiet: bool = setting('no progress bar', default=False)


def run(command: Partitions) -> None:
    """Computes partitions and logs how many voxels each has."""
    values, counts = write_partitions(
        command.input_volume,
        command.output_volume,
        command.config,
        command.quiet,
        command.missing,
    )
    for value, count in zip(values, counts, strict=True):
        logging.info('partition %3d: %12d voxels', value, count)
    of_objects = counts[~np.isin(values, (BACKGROUND, EXCLUDED))].sum()
    if not of_objects:
        logging.warning(
            'no voxel of an object can be trained on, so a network would learn background alone: what is labelled %s',
            _what_is_left_out(command.config),
        )
        return
    logging.info(
        '%d voxels of objects can be trained on: a network is usually trained until it has seen as many '
        'fields of view',
        of_objects,
    )


def _what_is_left_out(config: PartitionConfig) -> str:
    """What the settings leave out, in words."""
    radius = ','.join(map(str, config.lom_radius))
    reasons = [
        f'is smaller than min_size ({config.min_size} voxels)',
        f'nearer to the faces of the volume than lom_radius (x,y,z: {radius})',
        *(['not in id_whitelist'] if config.id_whitelist else []),
        *(['in exclusion_regions'] if config.exclusion_regions else []),
        *(['nearer to what mask_configs mask than lom_radius'] if config.masks else []),
    ]
    return f'{", ".join(reasons[:-1])} or {reasons[-1]}'


def main(argv: Sequence[str] | None = None) -> None:
    """Computes, for each labelled voxel, how much of the box around it its own object fills."""
    args = parse_command(
        'partitions',
        'Computes, for each labelled voxel, which fraction of the box around it its own object fills,\n'
        'as a class of one byte: what `ffn coordinates` samples from.',
        'Volumes',
        Partitions,
        argv,
        epilog='ffn partitions --input_volume LABELS.h5:stack --output_volume PARTITIONS.h5:af \\\n'
        '  --thresholds 0.025,0.05,0.075,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9 \\\n'
        '  --lom_radius 24,24,24 --min_size 10000',
    )
    run(read_settings(args, Partitions))
