"""`ffn merge-edits`: one journal of two people's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.proofreading.editing.cut_masks import masks_folder
from ffn.proofreading.editing.journal import write_journal
from ffn.proofreading.editing.merge_journals import combine, copy_masks
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.utils.errors import UserError
from ffn.utils.settings import section, setting


@dataclass(frozen=True)
class MergeEdits:
    """Settings of the command."""

    volume: ProofreadVolume = section('What was proofread')
    first: str = setting('a journal', metavar='FILE.jsonl')
    second: str = setting('another one', metavar='FILE.jsonl')
    output: str = setting('journal to write', metavar='FILE.jsonl')
    prefer: str = setting(
        'whose edits count where they contradict each other; without it, the later ones, and the command fails',
        default='',
        choices=('first', 'second'),
    )


def run(command: MergeEdits) -> None:
    """Writes the journal of both, and tells their conflicts.

    Raises:
      UserError: they contradict each other, and it is not said which one counts.
    """
    paths = Path(command.first), Path(command.second)
    output = Path(command.output)
    if output.exists():
        raise UserError(f'{output} exists; give another --output')
    first, second = map(command.volume.read_journal, paths)
    found = combine(command.volume.table.neighbours(), first, second, command.prefer)
    copy_masks(found.journal, [masks_folder(path) for path in paths], masks_folder(output))
    write_journal(output, found.journal)
    for conflict in found.conflicts:
        print(f'{paths[0 if conflict.first else 1]}: {conflict.edit.number}: {conflict.text}')
    print(f'{output} has {len(found.journal.edits)} edits')
    if found.conflicts and not command.prefer:
        raise UserError(
            f'the journals contradict each other in {len(found.conflicts)} edits, and the later ones count in {output}; '
            'undo edits there, or remove it and give --prefer first or second'
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Makes one journal of two.

    Raises:
      UserError: see `run`; journals of different segmentations.
    """
    parser = make_parser(
        'merge-edits',
        'Makes one journal of two, which two people began on the same segmentation, and tells what they contradict\n'
        'each other in; the exit status is 1 then, unless --prefer says whose edits count.',
        epilog='ffn merge-edits --labels whole.h5:labels --first ada.jsonl --second bob.jsonl --output both.jsonl',
    )
    add_settings(parser, 'Journals', MergeEdits)
    run(read_settings(parser.parse_args(argv), MergeEdits))
