"""`ffn queue`: where a proofreader should look first."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffn.agglomeration.joined_volume import check_output, write_relabelled
from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.distributed.pool import PoolConfig
from ffn.proofreading.editing.cut_masks import NO_CUTS, CutLabels, check_masks, masks_folder
from ffn.proofreading.editing.disagreement import agreement, compare_with_others
from ffn.proofreading.editing.disagreement_volume import prepare
from ffn.proofreading.editing.object_facts import object_facts, write_objects
from ffn.proofreading.editing.objects import replay
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.proofreading.editing.queue import QueueConfig, Queued, make_queue, measure_progress
from ffn.proofreading.editing.queue_table import write_queue
from ffn.proofreading.editing.survey import survey
from ffn.utils.atomic import check_writable
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.utils.locks import exclusive_directory
from ffn.utils.settings import section, setting
from ffn.utils.texts import parse_object
from ffn.volumes import provenance
from ffn.volumes.input_states import state_of
from ffn.volumes.outputs import OutputSpec, choose_voxel_size
from ffn.volumes.specs import absolute_spec
from ffn.volumes.volume import VolumeSource

_CHUNK = Xyz(64, 64, 64)


@dataclass(frozen=True)
class QueueCommand:
    """Settings of the command."""

    volume: ProofreadVolume = section('What is proofread')
    output: str = setting('table to write', metavar='FILE.csv')
    errors: str = setting(
        'report of ffn evaluate --json on the same segmentation', default='', metavar='FILE.json'
    )
    others: tuple[str, ...] = setting(
        'other segmentations of the same volume, or of parts of it: in another order of seeds, with other thresholds, by '
        'another network. Where they differ from it is doubt',
        default=(),
        parse=lambda paths, flag: tuple(paths),
        comma_list=True,
        metavar='VOLUME,…',
    )
    disagreement: str = setting(
        'volume to write: how many of the others have another object at a voxel, in hundredths of all',
        default='',
        metavar='VOLUME',
    )
    objects: str = setting(
        'table to write of all objects: size, agreement with the others, the least sure decision about it',
        default='',
        metavar='FILE.csv',
    )
    edits: str = setting(
        'journal of ffn proofread: what was judged there is left out',
        default='',
        metavar='FILE.jsonl',
    )
    config: QueueConfig = section('Which places are worth a look', default_factory=QueueConfig)
    pool: PoolConfig = section('Where it runs', default_factory=PoolConfig)
    quiet: bool = setting('no progress bar', default=False)

    def __post_init__(self) -> None:
        if self.disagreement and not self.others:
            raise UserError('--disagreement needs --others')


def run(command: QueueCommand) -> list[Queued]:
    """Measures all segments, and writes the queue."""
    for flag in ('output', 'objects'):
        if path := getattr(command, flag):
            check_writable(path, f'--{flag}')
    volume = command.volume
    edits = volume.read_journal(command.edits).edits if command.edits else ()
    report = None
    if command.errors:
        path = Path(command.errors)
        if not path.exists():
            raise UserError(f'no such report: {path}')
        report = parse_object(path.read_bytes(), command.errors)
    objects = replay(volume.table.neighbours(), edits)
    cuts = NO_CUTS
    if command.edits:
        check_masks(command.edits, objects.cuts)
        cuts = CutLabels(masks_folder(command.edits).absolute(), tuple(objects.cuts))
    folder = Path(f'{command.output}.segments')
    doubt = None
    if command.disagreement:
        doubt = _output_like(volume.source, command.disagreement)
        check_output(doubt, folder)
    with exclusive_directory(folder), command.pool.open() as pool:
        made_from = {'labels': volume.base.labels, 'made_from': volume.base.made_from}
        provenance.claim(folder, made_from, advice='remove that folder')
        segments = survey(volume.source, folder, pool, command.quiet, cuts=cuts)
        others = compare_with_others(volume.source, command.others, objects, command.quiet, cuts)
        if doubt is not None:
            made = prepare(folder / 'others', objects, command.others, others, cuts)
            states = {**made.states, **state_of(volume.source)}
            identity = made.identity()
            write_relabelled(
                *(volume.source, made, identity, doubt, folder, pool, command.quiet, states),
                tell=False,
            )
    queue = make_queue(command.config, volume.table, objects, segments, report, others)
    write_queue(command.output, queue, volume.base.made_from)
    if command.objects:
        facts = object_facts(objects, segments, volume.table, agreement(others))
        write_objects(command.objects, facts)
    kinds = collections.Counter(one.item.kind for one in queue)
    counts = ', '.join(f'{count} {kind}' for kind, count in kinds.most_common()) or 'none'
    judged = measure_progress(objects).judged
    print(f'{len(queue)} places in {command.output} ({counts}); {judged} are judged already')
    return queue


def _output_like(source: VolumeSource, spec: str) -> OutputSpec:
    with source.open() as volume:
        box, size = volume.require_labels().box, volume.voxel_size
    known = None if size is None else size.of(source.name)
    return OutputSpec(absolute_spec(spec), box, _CHUNK, choose_voxel_size(None, None, known))


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the table of places to look at.

    Raises:
      UserError: see `ffn.proofreading.editing.queue.make_queue`.
    """
    parser = make_parser(
        'queue',
        'Lists the places of a segmentation that a proofreader should look at, those first where most is expected to\n'
        'be wrong: pairs that agglomeration was not sure about, joins of large pieces, objects that touch themselves,\n'
        'orphans, objects that other segmentations have otherwise, and errors that an evaluation found.',
        epilog='ffn queue --labels whole.h5:labels --merges again/merges.csv --output queue.csv \\\n'
        '  --others reverse --disagreement doubt.h5:doubt --objects objects.csv',
    )
    add_settings(parser, 'Tables', QueueCommand, skip=('resource',))
    run(read_settings(parser.parse_args(argv), QueueCommand))
