"""`ffn apply-edits`: what proofreading has corrected, as volumes and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from ffn.agglomeration.examples import write_examples
from ffn.agglomeration.joined_volume import check_output
from ffn.agglomeration.merges import write_equivalences
from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.distributed.pool import PoolConfig
from ffn.proofreading.editing.apply import EditedVolume, check_done
from ffn.proofreading.editing.cut_masks import CutLabels, check_masks, masks_folder
from ffn.proofreading.editing.edits import Edit
from ffn.proofreading.editing.examples import find_examples
from ffn.proofreading.editing.merge_table import MergeTable
from ffn.proofreading.editing.notes import write_notes
from ffn.proofreading.editing.objects import Objects, replay
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.utils.atomic import check_writable
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, parse_voxel_size
from ffn.utils.locks import exclusive_directory
from ffn.utils.settings import section, setting
from ffn.volumes.outputs import OutputSpec, choose_voxel_size
from ffn.volumes.shards import Sharding
from ffn.volumes.specs import absolute_spec

_CHUNK = Xyz(64, 64, 64)


@dataclass(frozen=True)
class ApplyEdits:
    """Settings of the command."""

    volume: ProofreadVolume = section('What was proofread')
    edits: str = setting('journal of ffn proofread', metavar='FILE.jsonl')
    output_volume: str = setting('corrected segmentation to write', default='', metavar='VOLUME')
    equivalences: str = setting(
        'table to write, id and id of its object, instead of a volume or besides one',
        default='',
        metavar='FILE.csv',
    )
    done_labels: str = setting(
        'label volume to write for training: objects that are done; all else is 2^64-1, not labelled',
        default='',
        metavar='VOLUME',
    )
    done_weights: str = setting(
        'weights of the loss to write: 1 in objects that are done and around them, 0 elsewhere',
        default='',
        metavar='VOLUME',
    )
    around_done: Xyz = setting(
        'how far around objects that are done weights are 1, in voxels; half of the field of view',
        default=Xyz(16, 16, 16),
        parse=Xyz.parse,
        metavar='X,Y,Z',
    )
    examples: str = setting(
        'table to write of pairs of segments that were judged, merged or split, for ffn agglomerate --fit_examples',
        default='',
        metavar='FILE.csv',
    )
    notes: str = setting(
        'table to write of the notes and where they are', default='', metavar='FILE.csv'
    )
    folder: str = setting(
        'where it is recorded what has been written (default: EDITS.applied)',
        default='',
        metavar='DIR',
    )
    voxel_size: tuple[float, float, float] | None = setting(
        'nanometres (default: what the segmentation says)',
        default=None,
        parse=parse_voxel_size,
        metavar='X,Y,Z',
    )
    sharding: Sharding = section('Shards', default_factory=Sharding)
    pool: PoolConfig = section('Where it runs', default_factory=PoolConfig)
    quiet: bool = setting('no progress bar', default=False)

    @property
    def records(self) -> Path:
        """Where it is recorded what has been written."""
        return Path(self.folder or f'{self.edits}.applied')

    @property
    def volumes(self) -> dict[str, str]:
        """Flag → volume that is to be written."""
        names = ('output_volume', 'done_labels', 'done_weights')
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def run(command: ApplyEdits) -> Objects:
    """Replays the journal, and writes what is asked for.

    Returns:
      The objects after all edits.
    """
    tables = command.equivalences, command.examples, command.notes
    if not (command.volumes or any(tables)):
        raise UserError(
            'nothing is asked for; give --output_volume, --equivalences, --done_labels, --done_weights, '
            '--examples or --notes'
        )
    for flag in ('equivalences', 'examples', 'notes'):
        if path := getattr(command, flag):
            check_writable(path, f'--{flag}')
    journal = command.volume.read_journal(command.edits)
    table = command.volume.table
    objects = replay(table.neighbours(), journal.edits)
    for problem in objects.problems:
        logging.warning('%s', problem)
    if command.volumes or command.notes:
        check_masks(command.edits, objects.cuts)
    outputs = _check_outputs(command, objects)
    _write_tables(command, table, journal.edits, objects)
    if outputs:
        _write_volumes(command, objects, outputs)
    return objects


def _check_outputs(command: ApplyEdits, objects: Objects) -> dict[str, OutputSpec]:
    """Flag → volume to write, checked before anything is written."""
    outputs = {name: _output(command, spec) for name, spec in command.volumes.items()}
    for output in outputs.values():
        check_output(output, command.records)
    if command.done_labels or command.done_weights:
        check_done(objects, outputs.get('done_labels'), command.around_done)
    return outputs


def _write_tables(
    command: ApplyEdits, table: MergeTable, edits: Sequence[Edit], objects: Objects
) -> None:
    if command.equivalences:
        write_equivalences(Path(command.equivalences), objects.equivalences())
        if objects.cuts:
            logging.warning(
                '%s cannot tell where %d segments were cut: their parts are in --output_volume only',
                command.equivalences,
                len(objects.cuts),
            )
    if command.examples:
        found = find_examples(table, edits)
        write_examples(Path(command.examples), found, command.volume.base.made_from)
    if command.notes:
        labels = CutLabels(masks_folder(command.edits), tuple(objects.cuts))
        with command.volume.source.open() as volume:
            write_notes(Path(command.notes), objects, labels, volume.require_labels())


def _write_volumes(
    command: ApplyEdits, objects: Objects, outputs: Mapping[str, OutputSpec]
) -> None:
    with exclusive_directory(command.records), command.pool.open() as pool:
        masks = masks_folder(command.edits)
        source = command.volume.source
        edited = EditedVolume(source, objects, masks, command.records, pool, command.quiet)
        if 'output_volume' in outputs:
            edited.write_objects(outputs['output_volume'])
        if 'done_labels' in outputs:
            edited.write_done_labels(outputs['done_labels'])
        if 'done_weights' in outputs:
            edited.write_done_weights(outputs['done_weights'], command.around_done)


def _output(command: ApplyEdits, spec: str) -> OutputSpec:
    with command.volume.source.open() as volume:
        box, size = volume.require_labels().box, volume.voxel_size
    known = None if size is None else size.of(command.volume.labels)
    voxel_size = choose_voxel_size(command.voxel_size, None, known)
    chunk = command.sharding.default_chunk() or _CHUNK
    return OutputSpec(absolute_spec(spec), box, chunk, voxel_size, command.sharding.size)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes what edits make of a segmentation.

    Raises:
      UserError: a journal of another segmentation, or an output that cannot be written.
    """
    parser = make_parser(
        'apply-edits',
        'Writes what the edits of `ffn proofread` make of a segmentation: the corrected volume, a table of which\n'
        'segments are one object, labels and weights to train on of the objects that are done, and examples of pairs\n'
        'for agglomeration. A run that was stopped goes on with what is missing.',
        epilog='ffn apply-edits --labels precomputed://whole --merges again/merges.csv --edits edits.jsonl \\\n'
        '  --output_volume precomputed://corrected --done_labels precomputed://done --done_weights precomputed://weights',
    )
    add_settings(parser, 'What is written', ApplyEdits, skip=('resource',))
    command = read_settings(parser.parse_args(argv), ApplyEdits)
    objects = run(command)
    table = objects.equivalences()
    print(
        f'{len(table)} segments are {len(set(table.values()))} objects, {len(objects.cuts)} segments were cut, '
        f'{len(objects.done_objects())} objects are done'
    )
