"""`ffn queue`: where a proofreader should look first."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.distributed.pool import PoolConfig
from ffn.proofreading.editing.objects import replay
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.proofreading.editing.queue import QueueConfig, Queued, make_queue, measure_progress
from ffn.proofreading.editing.queue_table import write_queue
from ffn.proofreading.editing.survey import survey
from ffn.utils.errors import UserError
from ffn.utils.locks import exclusive_directory
from ffn.utils.settings import section, setting
from ffn.utils.texts import parse_object
from ffn.volumes import provenance


@dataclass(frozen=True)
class QueueCommand:
    """Settings of the command."""

    volume: ProofreadVolume = section('What is proofread')
    output: str = setting('table to write', metavar='FILE.csv')
    errors: str = setting(
        'report of ffn evaluate --json on the same segmentation', default='', metavar='FILE.json'
    )
    edits: str = setting(
        'journal of ffn proofread: what was judged there is left out',
        default='',
        metavar='FILE.jsonl',
    )
    config: QueueConfig = section('Which places are worth a look', default_factory=QueueConfig)
    pool: PoolConfig = section('Where it runs', default_factory=PoolConfig)
    quiet: bool = setting('no progress bar', default=False)


def run(command: QueueCommand) -> list[Queued]:
    """Measures all segments, and writes the queue."""
    volume = command.volume
    edits = volume.read_journal(command.edits).edits if command.edits else ()
    report = None
    if command.errors:
        path = Path(command.errors)
        if not path.exists():
            raise UserError(f'no such report: {path}')
        report = parse_object(path.read_bytes(), command.errors)
    objects = replay(volume.table.neighbours(), edits)
    folder = Path(f'{command.output}.segments')
    with exclusive_directory(folder), command.pool.open() as pool:
        made_from = {'labels': volume.base.labels, 'made_from': volume.base.made_from}
        provenance.claim(folder, made_from, advice='remove that folder')
        segments = survey(volume.source, folder, pool, command.quiet)
    queue = make_queue(command.config, volume.table, objects, segments, report)
    write_queue(command.output, queue)
    kinds = collections.Counter(one.item.kind for one in queue)
    counts = ', '.join(f'{count} {kind}' for kind, count in kinds.most_common()) or 'none'
    judged = measure_progress(objects).judged
    print(f'{len(queue)} places in {command.output} ({counts}); {judged} are judged already')
    return queue


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the table of places to look at.

    Raises:
      UserError: see `ffn.proofreading.editing.queue.make_queue`.
    """
    parser = make_parser(
        'queue',
        'Lists the places of a segmentation that a proofreader should look at, those first where most voxels are\n'
        'expected to be wrong: pairs that agglomeration was not sure about, joins of large pieces, objects that touch\n'
        'themselves, orphans, and errors that an evaluation found.',
        epilog='ffn queue --labels whole.h5:labels --merges again/merges.csv --output queue.csv',
    )
    add_settings(parser, 'Tables', QueueCommand, skip=('resource',))
    run(read_settings(parser.parse_args(argv), QueueCommand))
