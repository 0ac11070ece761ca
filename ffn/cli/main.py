"""The command `ffn`: finds a subcommand and runs it; `ffn --help` is the map of all of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

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
        'partitions': Command(
            'partitions', 'how much of its surroundings each voxel shares a label with'
        ),
        'coordinates': Command('coordinates', 'balanced training locations'),
        'augmentations': Command('augmentations', 'pictures of what augmentation does'),
        'train': Command('train', 'train a network'),
        'convert-weights': Command('convert_weights', 'a TensorFlow checkpoint → Keras weights'),
    },
    'From a network to neurons': {
        'infer': Command('infer', 'segment one box or several'),
        'segment': Command('segment', 'segment a whole volume, subvolume by subvolume'),
        'assemble': Command('assemble', 'segmented subvolumes → one volume'),
        'consensus': Command('consensus', 'split objects wherever one of two segmentations does'),
        'agglomerate': Command('agglomerate', 'join pieces of neurons by resegmentation'),
    },
    'Looking and scoring': {
        'evaluate': Command('evaluate', 'score a segmentation against ground truth'),
        'compare': Command('compare', 'show where two segmentations differ'),
        'held-out': Command('held_out', 'score checkpoints on a box with known labels'),
        'select': Command('select', 'choose a checkpoint and inference options'),
        'export': Command('export', 'write precomputed volumes for Neuroglancer'),
        'view': Command('view', 'serve an exported folder to Neuroglancer'),
        'animate': Command('animate', 'an animation of one object as it grows'),
    },
    'Trying it out': {
        'demo': Command('demo', 'the whole pipeline on a generated sample'),
        'synthetic': Command('synthetic', 'generate a sample with ground truth'),
    },
}


def overview() -> str:
    """The map of all subcommands, as `ffn --help` prints it."""
    lines = ['usage: ffn COMMAND [FLAGS]', '', __doc__.splitlines()[0], '']
    for title, commands in COMMANDS.items():
        lines += [f'{title}:', *(f'  {name:16} {c.summary}' for name, c in commands.items()), '']
    lines.append(
        'ffn COMMAND --help lists the flags of a command. Triples are x,y,z unless a flag says otherwise.'
    )
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the subcommand that the command line names.

    Raises:
      UserError: there is no such subcommand.
    """
    name, *rest = argv if argv is not None else sys.argv[1:] or ['--help']
    if name in ('-h', '--help', 'help'):
        print(overview())
        return
    known = {name: command for group in COMMANDS.values() for name, command in group.items()}
    if name not in known:
        raise UserError(f'ffn {name}: there is no such command; known are {", ".join(known)}')
    importlib.import_module(f'ffn.cli.{known[name].module}').main(rest)


def run() -> None:
    """The console entry point."""
    show_log()
    run_tool(main)
