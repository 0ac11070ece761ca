"""The label volume in which joined segments have one id."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import fastremap
import numpy as np

from ffn.assembly.outputs import OutputSpec
from ffn.assembly.tiling import blocks
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.utils.progress import progress
from ffn.utils.volumes import Volume

# Chunks that are read and written in one go, along each axis.
BLOCK_CHUNKS = 4


def write_joined(
    labels: Volume, equivalences: Mapping[int, int], output: OutputSpec, record: Path,
    quiet: bool = False,
) -> None:  # fmt: skip
    """Writes a label volume with ids replaced, block by block.

    Args:
      labels: what is read.
      equivalences: id → id; others stay.
      output: where and which box of it.
      record: file that says which output this has begun, so that it may be begun again, and no other
        one is overwritten.
      quiet: no progress bar.

    Raises:
      UserError: there is another volume at the output, or it cannot be written.
    """
    table = np.array(sorted(equivalences.items()), np.uint64)
    wanted = {'output': output.spec, 'equivalences': hashlib.sha256(table.tobytes()).hexdigest()}
    known = json.loads(record.read_text()) if record.exists() else {}
    if known == {**wanted, 'complete': True} and output.exists():
        return
    if output.exists() and known.get('output') != output.spec:
        raise UserError(
            f'{output.spec} exists and is not of this run; choose another output volume'
        )
    _write_json(record, {**wanted, 'complete': False})
    with contextlib.ExitStack() as stack:
        if output.parallel:
            output.create()
            target = output.open_parallel()
        else:
            target = stack.enter_context(output.replace_hdf5())
        size = Xyz(*(n * BLOCK_CHUNKS for n in output.chunk))
        for block in progress(
            list(blocks(output.box, size)), desc='joined volume', unit='block', quiet=quiet
        ):
            data = labels.read(block)
            data = np.where(data > 0, data, 0).astype(np.uint64)
            target.write(
                block, fastremap.remap(data, dict(equivalences), preserve_missing_labels=True)
            )
    _write_json(record, {**wanted, 'complete': True})


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + '\n')
