"""`ffn import-labels`: makes a label volume from HDF5 labels of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, parse_voxel_size
from ffn.utils.settings import setting
from ffn.volumes.downsample import NO_FACTORS, parse_factors
from ffn.volumes.importing.imported import format_size
from ffn.volumes.importing.instances import InstanceRule, Link
from ffn.volumes.unlabelled import UNLABELLED_HELP


@dataclass(frozen=True)
class ImportLabels:
    """Settings of the command."""

    input: str = setting(
        "HDF5 file, gzipped or not, with a label dataset or NeuroProof's pair: stack (supervoxel ids) and "
        'transforms (N×2: supervoxel id, body id); or any volume (path:dataset, a folder of Zarr or N5, a '
        'URL); or a pattern of PNG, TIFF or MRC files in quotes, with labels of 1 to 32 bits or ids as RGB',
        metavar='VOLUME',
    )
    output: str = setting(
        'dataset to write; the other datasets of the file are kept', metavar='FILE.h5:DATASET'
    )
    dataset: str | None = setting(
        'label dataset to import, without transforms. If unset: stack with its transforms where the file has '
        'both, else the only integer volume of the file',
        default=None,
        metavar='NAME',
    )
    voxel_size: tuple[float, float, float] | None = setting(
        'size of a voxel of the input in nanometres, x,y,z; without it, as the input says',
        default=None,
        parse=parse_voxel_size,
        metavar='X,Y,Z',
    )
    channel: int | None = setting('of several channels, the one to take, from 0', default=None)
    downsample: Xyz = setting(
        'how many voxels become one, with their most frequent label, x,y,z',
        default=NO_FACTORS,
        parse=parse_factors,
        metavar='X,Y,Z',
    )
    instances: InstanceRule | None = setting(
        'make objects of a mask, its connected components: membrane:VALUE (all voxels of other values are '
        'the inside of objects), foreground:VALUE, or foreground (all but 0); after downsampling',
        default=None,
        parse=InstanceRule.parse,
        metavar='MASK',
    )
    unlabelled: int | None = setting(UNLABELLED_HELP, default=None, metavar='N')
    link: str = setting(
        'what makes one object of --instances from section to section: faces, voxels that share a face; or, for '
        'serial sections, overlap: parts of sections that overlap each other most',
        default='faces',
        choices=get_args(Link),
    )
    quiet: bool = setting('show no progress bar', default=False)

    @property
    def rule(self) -> InstanceRule | None:
        """What objects are made of; None: labels are taken as they are."""
        return self.instances and replace(self.instances, link=cast(Link, self.link))


def main(argv: Sequence[str] | None = None) -> None:
    """Imports labels as the command line says.

    Raises:
      UserError: see `ffn.volumes.importing.import_labels.import_labels`.
    """
    parser = make_parser(
        'import-labels',
        'Makes a label volume that all commands read from labels of other programs.',
        'ffn import-labels --input groundtruth.h5.gz --voxel_size 8,8,8 --output train.h5:labels',
    )
    add_settings(parser, 'Labels', ImportLabels)
    command = read_settings(parser.parse_args(argv), ImportLabels)
    if command.instances is None and command.link != 'faces':
        raise UserError(
            f'--link {command.link} is for objects that --instances makes of a mask; labels are taken as they are'
        )
    from ffn.volumes.importing.import_labels import import_labels

    done = import_labels(
        command.input,
        command.output,
        dataset=command.dataset,
        unlabelled=command.unlabelled,
        voxel_size=command.voxel_size,
        channel=command.channel,
        downsample=command.downsample,
        instances=command.rule,
        quiet=command.quiet,
    )
    if done.story:
        print(done.story)
    background = 'with' if len(done.ids) and done.ids[0] == 0 else 'without'
    print(
        f'{command.output}: {done.dtype} {done.size}, {len(done.ids)} labels, {background} background 0'
        f'{format_size(done.voxel_size)}'
    )
