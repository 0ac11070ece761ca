"""`ffn import-labels`: makes a label volume from HDF5 labels of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.utils.settings import setting
from ffn.volumes.unlabelled import UNLABELLED_HELP


@dataclass(frozen=True)
class ImportLabels:
    """Settings of the command."""

    input: str = setting(
        "HDF5 file, gzipped or not, with a label dataset or NeuroProof's pair: stack (supervoxel ids) and "
        'transforms (N×2: supervoxel id, body id)',
        metavar='FILE.h5[.gz]',
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
    unlabelled: int | None = setting(UNLABELLED_HELP, default=None, metavar='N')
    quiet: bool = setting('show no progress bar', default=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Imports labels as the command line says.

    Raises:
      UserError: see `ffn.volumes.import_labels.import_labels`.
    """
    parser = make_parser(
        'import-labels',
        'Makes a label volume that all commands read from HDF5 labels of other programs.',
        'ffn import-labels --input groundtruth.h5.gz --output train.h5:labels',
    )
    add_settings(parser, 'Labels', ImportLabels)
    command = read_settings(parser.parse_args(argv), ImportLabels)
    from ffn.volumes.import_labels import import_labels

    ids, dtype, size = import_labels(
        command.input,
        command.output,
        dataset=command.dataset,
        unlabelled=command.unlabelled,
        quiet=command.quiet,
    )
    background = 'with' if len(ids) and ids[0] == 0 else 'without'
    print(f'{command.output}: {dtype} {size}, {len(ids)} labels, {background} background 0')
