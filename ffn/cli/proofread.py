"""`ffn proofread`: corrects a segmentation in Neuroglancer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from absl import logging

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.proofreading.editing.split import MAX_VOXELS
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, parse_voxel_size
from ffn.utils.settings import section, setting
from ffn.utils.signals import stop_on_signal, wait_for_stop
from ffn.volumes.units import KnownVoxelSize

if TYPE_CHECKING:
    from ffn.proofreading.editing.proofreading import Proofreading
    from ffn.proofreading.viewing.viewer import Viewer


@dataclass(frozen=True)
class Proofread:
    """Settings of the command."""

    volume: ProofreadVolume = section('What is proofread')
    edits: str = setting(
        'journal that receives every edit; created, or gone on with', metavar='FILE.jsonl'
    )
    image: str = setting('image to show below', default='', metavar='VOLUME')
    queue: str = setting(
        'places to look at, one after the other: table of ffn queue', default='', metavar='FILE.csv'
    )
    who: str = setting(
        'name of the proofreader, which the journal keeps', default='', metavar='NAME'
    )
    position: Xyz | None = setting(
        'voxel in the centre', default=None, parse=Xyz.parse, metavar='X,Y,Z'
    )
    voxel_size: tuple[float, float, float] | None = setting(
        'nanometres (default: what the volumes say)',
        default=None,
        parse=parse_voxel_size,
        metavar='X,Y,Z',
    )
    max_cut_voxels: int = setting(
        'voxels that are read at most to find all of a segment that is cut', default=MAX_VOXELS
    )
    port: int = setting('0: any free one', default=0)


def run(command: Proofread) -> None:
    """Serves the viewer until it is interrupted."""
    with open_session(command) as (viewer, _):
        print(f'open {viewer.url}', flush=True)
        stop = threading.Event()
        with stop_on_signal(stop):
            wait_for_stop(stop)


@contextlib.contextmanager
def open_session(command: Proofread) -> Iterator[tuple[Viewer, Proofreading]]:
    """Opens the session and a viewer in which keys edit it."""
    try:
        from ffn.proofreading.editing.proofread_actions import ProofreadActions
        from ffn.proofreading.viewing.viewer import Viewer
    except ImportError as error:
        raise UserError(
            'ffn proofread needs Neuroglancer: pip install "flood-filling-networks[view]"'
        ) from error
    from ffn.proofreading.editing.cut_masks import check_masks
    from ffn.proofreading.editing.journal import open_journal
    from ffn.proofreading.editing.proofreading import Proofreading
    from ffn.proofreading.editing.queue_table import read_queue
    from ffn.proofreading.viewing.agreement import agree
    from ffn.proofreading.viewing.things import layer_of, open_layer

    base = command.volume.base
    queue = read_queue(command.queue, base.made_from) if command.queue else []
    with (
        command.volume.source.open() as opened,
        open_journal(command.edits, base, command.who) as journal,
        Viewer(command.port) as viewer,
    ):
        volume = opened.require_labels()
        layers = [layer_of(volume, command.volume.labels, 'labels', 'labels')]
        if command.image:
            layers.append(open_layer(command.image, 'image', 'image'))
        *images, labels = agree(layers, command.voxel_size)
        if labels.voxel_size is not None:  # cuts are made in what is seen
            volume = volume.with_voxel_size(KnownVoxelSize(labels.voxel_size, 'as it is shown'))
        session = Proofreading(volume, command.volume.table, journal, queue, command.max_cut_voxels)
        check_masks(command.edits, session.objects.cuts)
        for problem in session.objects.problems:
            logging.warning('%s', problem)
        for image in images:
            viewer.add(image)
        with ProofreadActions(viewer, session, labels):
            if command.position is not None:
                viewer.look_at(command.position)
            yield viewer, session


def main(argv: Sequence[str] | None = None) -> None:
    """Serves a viewer in which a segmentation is corrected.

    Raises:
      UserError: the extra [view] is missing, a volume that cannot be opened, or a journal about another one.
    """
    parser = make_parser(
        'proofread',
        'Corrects a segmentation in Neuroglancer, in a browser of this machine; prints the address to open. Keys\n'
        'merge, split and mark objects, and judge the places of a queue; the status line lists them. Every edit is\n'
        'in the journal before it shows, so that nothing is lost if anything is killed.',
        epilog='ffn proofread --image volume.h5:raw --labels whole.h5:labels --merges again/merges.csv \\\n'
        '  --queue queue.csv --edits edits.jsonl',
    )
    add_settings(parser, 'Session', Proofread)
    run(read_settings(parser.parse_args(argv), Proofread))
