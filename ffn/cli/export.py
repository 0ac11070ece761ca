"""`ffn export`: precomputed volumes, meshes and skeletons for Neuroglancer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.distributed.pool import PoolConfig
from ffn.export.meshes import MeshConfig
from ffn.export.neuroglancer import export
from ffn.export.properties import LISTED
from ffn.export.skeletons import SkeletonConfig
from ffn.utils.errors import UserError
from ffn.utils.geometry import parse_voxel_size
from ffn.utils.settings import section, setting
from ffn.volumes.missing import MISSING_HELP, ON_MISSING, OnMissing
from ffn.volumes.shards import Sharding
from ffn.volumes.unlabelled import UNLABELLED_HELP


@dataclass(frozen=True)
class Export:
    """Settings of the command."""

    output: str = setting('folder to write', metavar='DIR')
    voxel_size: tuple[float, float, float] | None = setting(
        'nanometres (default: what the volumes say)',
        default=None,
        parse=parse_voxel_size,
        metavar='X,Y,Z',
    )
    image: str = setting('image volume', default='', metavar='PATH:DATASET')
    labels: str = setting(
        f'label volume; sizes are listed for its {LISTED:,} largest segments, as viewers load all at once',
        default='',
        metavar='PATH:DATASET',
    )
    unlabelled: int | None = setting(UNLABELLED_HELP, default=None, metavar='N')
    scales: int = setting(
        'resolutions at most; 0: until one chunk holds the volume', default=0, metavar='N'
    )
    missing: OnMissing = setting(MISSING_HELP, default='tell', choices=ON_MISSING, metavar='ACTION')
    sharding: Sharding = section('Chunks', default_factory=Sharding)
    write_empty: bool = setting(
        'also store chunks that are 0 everywhere, on which CloudVolume fails unless it is told to fill them; '
        'not with shards',
        default=False,
    )
    meshes: MeshConfig = section('Meshes', default_factory=MeshConfig)
    skeletons: SkeletonConfig = section('Skeletons', default_factory=SkeletonConfig)
    pool: PoolConfig = section('Where it runs', default_factory=PoolConfig)
    quiet: bool = setting('no progress bar', default=False)

    def __post_init__(self) -> None:
        if self.scales < 0:
            raise UserError(f'--scales is {self.scales}; expected 0 or more')
        if self.unlabelled is not None and not self.labels:
            raise UserError('--unlabelled is for --labels, which are not given')


def run(command: Export) -> None:
    """Exports."""
    volumes = {'image': command.image, 'labels': command.labels}
    volumes = {name: spec for name, spec in volumes.items() if spec}
    folder = Path(command.output)
    with command.pool.open() as pool:
        export(
            folder,
            volumes,
            command.voxel_size,
            pool,
            command.scales,
            command.quiet,
            command.unlabelled,
            command.sharding,
            command.write_empty,
            command.missing,
            command.meshes,
            command.skeletons,
        )
    print(f'written to {folder}; to see it: ffn view {folder}')


def main(argv: Sequence[str] | None = None) -> None:
    """Writes an image and labels for Neuroglancer.

    Raises:
      UserError: see `ffn.export.neuroglancer.export`.
    """
    parser = make_parser(
        'export',
        'Writes an image, labels or both as precomputed volumes of several resolutions, with the sizes of\n'
        'all segments and a viewer state, for Neuroglancer. Each scale halves the axes along which voxels\n'
        'are smallest; image values are averaged, of labels the most frequent one counts, background last.\n'
        'With --meshes and --skeletons, also surfaces and centre lines of all segments, which can be added to an export\n'
        'later: what is there already stays. A stopped export resumes where it left off.',
        epilog='ffn export --output view --voxel_size 8,8,30 \\\n'
        '  --image volume.h5:raw --labels joined.h5:labels --meshes --skeletons\n'
        'ffn view view',
    )
    add_settings(parser, 'What is exported', Export, skip=('resource',))
    run(read_settings(parser.parse_args(argv), Export))
