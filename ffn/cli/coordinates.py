"""`ffn coordinates` and build_coordinates.py: stage 2, locations to train at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ffn.cli.flags import parse_command, read_settings
from ffn.training.sampling.coordinates import build_coordinates
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from ffn.utils.settings import setting
from ffn.volumes.specs import split_named


@dataclass(frozen=True)
class Coordinates:
    """Settings of the command."""

    partition_volumes: Mapping[str, str] = setting(
        'name:path:dataset of each partition volume, separated by commas',
        parse=split_named,
        comma_list=True,
        metavar='VOLUMES',
    )
    coordinate_output: str = setting('TFRecord file to write, gzipped', metavar='FILE')
    margin: Zyx = setting(
        'minimum distance in voxels from the faces of a volume, z,y,x (!)',
        parse=Zyx.parse,
        comma_list=True,
        metavar='Z,Y,X',
    )
    seed: int | None = setting(
        'runs with the same seed write identical files; drawn at random if unset', default=None
    )
    shards: int = setting(
        'number of files; several are named OUTPUT-00000-of-0000N and so on', default=1
    )
    max_coordinates: int | None = setting(
        'maximum number of records, the same for each partition; no limit if unset', default=None
    )
    quiet: bool = setting('no progress bar', default=False)

    def __post_init__(self) -> None:
        if not self.coordinate_output:
            raise UserError('--coordinate_output is empty; expected a file to write')


def run(command: Coordinates) -> None:
    """Samples coordinates and writes them."""
    build_coordinates(
        dict(command.partition_volumes),
        command.coordinate_output,
        command.margin,
        seed=command.seed,
        shards=command.shards,
        max_coordinates=command.max_coordinates,
        quiet=command.quiet,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Samples coordinates to train at from partition volumes."""
    args = parse_command(
        'coordinates',
        'Samples coordinates to train at from partition volumes: every partition equally often,\n'
        'shuffled, as GZIP TFRecord.',
        'Sampling',
        Coordinates,
        argv,
        epilog='ffn coordinates --partition_volumes train:PARTITIONS.h5:af \\\n'
        '  --coordinate_output COORDINATES.tfrecord --margin 24,24,24',
    )
    run(read_settings(args, Coordinates))
