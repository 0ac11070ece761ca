"""The command `ffn`: finds a subcommand and runs it; `ffn --help` is the map of all of them."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from ffn import __version__
from ffn.utils.errors import UserError, run_tool
from ffn.utils.startup import show_log


class Command(NamedTuple):
    """A subcommand.

    Attributes:
      module: of `ffn.cli`; its `main(argv)` runs it.
      summary: one line for the map.
    """

    module: str
    summary: str


COMMANDS: dict[str, dict[str, Command]] = {
    'From labels to a network': {
        'import-stack': Command('import_stack', 'images of sections → one volume'),
        'import-labels': Command('import_labels', 'label volumes of other tools → one volume'),
        'plan': Command('plan', 'settings for all stages, with the reason for each'),
        'partitions': Command(
            'partitions', 'how much of its surroundings each voxel shares a label with'
        ),
        'coordinates': Command('coordinates', 'balanced training locations'),
        'augmentations': Command('augmentations', 'pictures of what augmentation does'),
        'train': Command('train', 'train a network'),
        'convert-weights': Command('convert_weights', 'a TensorFlow checkpoint → Keras weights'),
        'import-weights': Command(
            'import_weights', 'a residual stack of Flax or Orbax → Keras weights'
        ),
    },
    'From a network to neurons': {
        'infer': Command('infer', 'segment one box or several'),
        'segment': Command('segment', 'segment a whole volume, subvolume by subvolume'),
        'assemble': Command('assemble', 'segmented subvolumes → one volume'),
        'consensus': Command('consensus', 'split objects wherever one of two segmentations does'),
        'agglomerate': Command('agglomerate', 'join pieces of neurons by resegmentation'),
        'fill': Command('fill', 'grow objects into the voxels that are left empty'),
    },
    'Looking and scoring': {
        'evaluate': Command('evaluate', 'score a segmentation against ground truth'),
        'compare': Command('compare', 'show where two segmentations differ'),
        'report': Command('report', 'what a whole-volume run looks like, without ground truth'),
        'held-out': Command('held_out', 'score checkpoints on a box with known labels'),
        'select': Command('select', 'choose a checkpoint and inference options'),
        'export': Command('export', 'write precomputed volumes for Neuroglancer'),
        'view': Command('view', 'volumes and results in Neuroglancer'),
        'serve': Command('serve', 'serve an exported folder to a Neuroglancer elsewhere'),
        'animate': Command('animate', 'an animation of one object as it grows'),
    },
    'Correcting it': {
        'seed': Command('seed', 'grow objects from voxels that you point at, live'),
        'queue': Command('queue', 'where a proofreader should look first'),
        'proofread': Command('proofread', 'merge, split and judge objects in Neuroglancer'),
        'apply-edits': Command('apply_edits', 'corrections → volumes, tables, labels to train on'),
        'merge-edits': Command('merge_edits', "two people's corrections → one journal"),
    },
    'Trying it out': {
        'demo': Command('demo', 'the whole pipeline on a generated sample'),
        'synthetic': Command('synthetic', 'generate a sample with ground truth'),
    },
}

SUMMARY = 'Flood-filling networks: tracing neurons in volumes of electron microscopy.'


def find_commands() -> dict[str, Command]:
    """All subcommands by the name that users type."""
    return {name: command for group in COMMANDS.values() for name, command in group.items()}


def overview() -> str:
    """The map of all subcommands, as `ffn --help` prints it."""
    lines = ['usage: ffn COMMAND [FLAGS]', '', SUMMARY, '']
    for title, commands in COMMANDS.items():
        lines += [f'{title}:', *(f'  {name:16} {c.summary}' for name, c in commands.items()), '']
    lines += [
        'ffn COMMAND --help lists the flags of a command, ffn --version prints the version.',
        'Triples of numbers are in the order x,y,z unless a flag says otherwise.',
    ]
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the subcommand that the command line names.

    Raises:
      UserError: there is no such subcommand.
    """
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ['--help']
    if name == 'help' and rest:
        name, rest = rest[0], ['--help']
    if name in ('-h', '--help', 'help'):
        print(overview())
    elif name == '--version':
        print(f'ffn {__version__}')
    else:
        importlib.import_module(f'ffn.cli.{_find(name).module}').main(rest)


def _find(name: str) -> Command:
    known = find_commands()
    if name not in known:
        close = difflib.get_close_matches(name.replace('_', '-'), known, n=1)
        hint = f'did you mean {close[0]}?' if close else f'expected one of {", ".join(known)}'
        raise UserError(f'ffn has no command {name!r}; {hint} ffn --help describes them all')
    return known[name]


def run() -> None:
    """The console entry point."""
    show_log()
    run_tool(main)
