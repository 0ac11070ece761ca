"""`ffn fill`: objects grow into the voxels that flood filling has left empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffn.agglomeration.fill import Filled, Filling
from ffn.agglomeration.joined_volume import check_output, write_relabelled
from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.cli.label_box import box_of_labels
from ffn.distributed.pool import PoolConfig
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, parse_voxel_size
from ffn.utils.locks import exclusive_directory
from ffn.utils.settings import section, setting
from ffn.volumes.input_states import state_of
from ffn.volumes.outputs import OutputSpec, choose_voxel_size
from ffn.volumes.shards import Sharding
from ffn.volumes.specs import absolute_spec
from ffn.volumes.volume import VolumeSource

_CHUNK = Xyz(64, 64, 64)


@dataclass(frozen=True)
class Fill:
    """Settings of the command."""

    labels: str = setting('segmentation; what is 0 in it is filled', metavar='VOLUME')
    image: str = setting('image that it was made from; membranes are dark', metavar='VOLUME')
    output_volume: str = setting(
        'filled segmentation to write: FILE.h5:DATASET, or zarr://, zarr3://, n5:// or precomputed:// before a '
        'path',
        metavar='VOLUME',
    )
    folder: str = setting(
        'where it is recorded what has been written, so that a run that was stopped goes on',
        metavar='DIR',
    )
    bounding_box: str = setting(
        'what to fill and write: BoundingBox (x, y, z), text format or a file (default: all of the segmentation; '
        'a volume that begins at 0 may have space before its first object, which is not to be filled)',
        default='',
        metavar='BOX',
    )
    voxel_size: tuple[float, float, float] | None = setting(
        'nanometres; its proportions decide distances (default: what the volumes say, else cubes)',
        default=None,
        parse=parse_voxel_size,
        metavar='X,Y,Z',
    )
    filling: Filling = section('How objects grow', default_factory=Filling)
    sharding: Sharding = section('Shards', default_factory=Sharding)
    pool: PoolConfig = section('Where it runs', default_factory=PoolConfig)
    quiet: bool = setting('no progress bar', default=False)


def run(command: Fill) -> None:
    """Writes the filled volume; does what is missing.

    Raises:
      UserError: volumes that do not fit together, or an output that cannot be written.
    """
    labels = VolumeSource(absolute_spec(command.labels), field='--labels')
    image = VolumeSource(absolute_spec(command.image), field='--image')
    box, of_labels = box_of_labels(labels, command.bounding_box)
    with image.open() as opened:
        covered, size = opened.single_channel().box, opened.voxel_size
    if not covered.contains(box):
        raise UserError(
            f'--image covers {covered}, and what is to be filled is {box}; give --bounding_box'
        )
    of_image = None if size is None else size.of(image.name)
    voxel_size = choose_voxel_size(command.voxel_size, None, of_labels, of_image)
    filled = Filled(image, box, voxel_size, command.filling)
    chunk = command.sharding.default_chunk() or _CHUNK
    spec, folder = absolute_spec(command.output_volume), Path(command.folder)
    output = OutputSpec(spec, box, chunk, voxel_size, command.sharding.size)
    check_output(output, folder)
    with exclusive_directory(folder), command.pool.open() as pool:
        states = {**state_of(labels), **state_of(image)}
        write_relabelled(
            labels, filled, filled.identity, output, folder, pool, command.quiet, states
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Fills a segmentation.

    Raises:
      UserError: see `run`.
    """
    parser = make_parser(
        'fill',
        'Lets the objects of a segmentation grow into the voxels that it leaves empty, until they meet: through\n'
        'bright voxels before dark ones, a watershed of the image with the objects as markers. Objects keep their\n'
        'voxels and ids. A post-processing step of its own, for those who need dense labels: membranes are divided\n'
        'between their two sides, and a process that no object has reached goes to its neighbours. A run that was\n'
        'stopped goes on with what is missing.',
        epilog='ffn fill --labels joined.h5:labels --image image.h5:raw --output_volume filled.h5:labels --folder filled',
    )
    add_settings(parser, 'Volumes', Fill, skip=('resource',))
    command = read_settings(parser.parse_args(argv), Fill)
    run(command)
    print(f'{command.output_volume} is written')
