"""Stages whose tasks are the blocks of a box; each block leaves a file when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ffn.distributed.pool import Pool, run_stage
from ffn.utils.geometry import Box


def block_file(folder: Path, block: Box, suffix: str = '') -> Path:
    """The file of a block, FOLDER/Z/Y/X and what it ends with: never very many in a folder."""
    x, y, z = block.start
    return folder / str(z) / str(y) / f'{x}{suffix}'


def run_blocks(
    pool: Pool, function: Callable[..., object], arguments: tuple,
    parts: Callable[[], Iterable[Box]], folder: Path, what: str, quiet: bool = False,
    suffix: str = '',
) -> None:  # fmt: skip
    """Carries out the blocks that lack their file.

    Args:
      pool: what carries them out.
      function: called with the arguments, the block, and the path of its file, which it makes at last.
      arguments: the same for all.
      parts: gives the blocks; called twice, so that they need not be held in memory.
      folder: of their files.
      what: is done, for the progress bar and errors.
      quiet: no progress bar.
      suffix: of their files.

    Raises:
      UserError: see `ffn.distributed.pool.run_stage`.
    """

    def left() -> Iterator[tuple]:
        for block in parts():
            if not (path := block_file(folder, block, suffix)).exists():
                yield *arguments, block, path

    count = sum(1 for _ in left())
    for _ in run_stage(pool, function, left(), count, what, quiet, unit='block'):
        pass
