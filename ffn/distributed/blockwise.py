"""Stages whose tasks are the blocks of a box; a file for each block marks that it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ffn.distributed.pool import Pool, run_stage
from ffn.utils.geometry import Box


def block_file(folder: Path, block: Box, suffix: str = '') -> Path:
    """Path of a block's file, FOLDER/Z/Y/X and a suffix, so that no folder holds very many."""
    x, y, z = block.start
    return folder / str(z) / str(y) / f'{x}{suffix}'


def run_blocks(
    pool: Pool,
    function: Callable[..., object],
    arguments: tuple[Any, ...],
    parts: Callable[[], Iterable[Box]],
    folder: Path,
    what: str,
    quiet: bool = False,
    suffix: str = '',
    receive: Callable[[Any], None] = lambda found: None,
) -> None:
    """Runs the tasks of all blocks that have no file yet.

    Args:
      pool: runs the tasks.
      function: called with the arguments, the block, and the path of its file, which it writes last.
      arguments: the same for all blocks.
      parts: returns the blocks; called twice, so that they need not be held in memory.
      folder: of the files.
      what: name of the stage, for the progress bar and errors.
      quiet: no progress bar.
      suffix: of the files.
      receive: called with what each task returns.

    Raises:
      UserError: see `ffn.distributed.pool.run_stage`.
    """

    def left() -> Iterator[tuple[Any, ...]]:
        for block in parts():
            if not (path := block_file(folder, block, suffix)).exists():
                yield *arguments, block, path

    count = sum(1 for _ in left())
    for found in run_stage(pool, function, left(), count, what, quiet, unit='block'):
        receive(found)
