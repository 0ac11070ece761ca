"""Writes label volumes that are made from another one: joined segments share an id."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np

from ffn.distributed.blockwise import run_blocks
from ffn.distributed.pool import Pool
from ffn.inference import inference_pb2
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.utils.id_tables import IdTable
from ffn.utils.labels import remap
from ffn.utils.progress import progress
from ffn.volumes.input_states import record_states, were_written_anew
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.provenance import read_input_stamp, read_stamp, record_output, recorded_stamps
from ffn.volumes.unlabelled import Met, Tally, met_by
from ffn.volumes.volume import Volume, VolumeSource

# Number of chunks along each axis that are read and written at a time.
BLOCK_CHUNKS = 4
RECORD, TABLE, WRITTEN = 'joined_volume.json', 'equivalences.npy', 'joined_blocks'
NOTHING_KNOWN: Mapping[str, str] = MappingProxyType({})


class Relabelling(Protocol):
    """How the labels of a written volume follow from those of another; it can be sent to other processes."""

    def read(self, labels: Volume, block: Box) -> np.ndarray:
        """Reads a block with new labels.

        Args:
          labels: the other volume.
          block: box to read.

        Returns:
          uint64 [z, y, x].
        """


@dataclass(frozen=True)
class JoinedIds:
    """Replaces ids.

    Attributes:
      table: ids and their replacements.
    """

    table: IdTable

    def read(self, labels: Volume, block: Box) -> np.ndarray:
        """See `Relabelling`."""
        return read_joined(labels, self.table.read(), block)


def write_joined(
    segmentation: VolumeSource,
    equivalences: Mapping[int, int],
    output: OutputSpec,
    folder: Path,
    pool: Pool,
    quiet: bool = False,
) -> None:
    """Writes a label volume with ids replaced, block by block; finished blocks are not repeated.

    Args:
      segmentation: volume to read.
      equivalences: id → id; other ids are unchanged.
      output: volume to write, and its box.
      folder: receives a record of what has been written and where, so that no other volume is
        overwritten.
      pool: runs the tasks, for outputs that several processes may write.
      quiet: no progress bar.

    Raises:
      UserError: another volume exists at the output, or it cannot be written.
    """
    table = np.array(sorted(equivalences.items()), np.uint64).reshape(-1, 2)
    relabelling = JoinedIds(IdTable.write(folder / TABLE, table))
    write_relabelled(
        *(segmentation, relabelling, table.tobytes(), output, folder, pool, quiet), tell=False
    )


def write_relabelled(
    segmentation: VolumeSource,
    relabelling: Relabelling,
    identity: bytes,
    output: OutputSpec,
    folder: Path,
    pool: Pool,
    quiet: bool = False,
    states: Mapping[str, str] = NOTHING_KNOWN,
    tell: bool = True,
) -> None:
    """Writes a label volume that is made from another one, block by block; see `write_joined`.

    Args:
      segmentation: volume to read.
      relabelling: what becomes of its labels.
      identity: all that the new labels depend on besides the volume.
      output: volume to write, and its box.
      folder: see `write_joined`.
      pool: see `write_joined`.
      quiet: no progress bar.
      states: of inputs that the identity does not tell from others of the same name, see `ffn.volumes.input_states`.
      tell: log how many voxels are not labelled, unless that was done where the volume was read before.

    Raises:
      UserError: another volume exists at the output, or it cannot be written.
    """
    source_stamp = read_input_stamp(segmentation)
    made_from = json.dumps([_as_text(segmentation), source_stamp, describe(output)])
    stamp = hashlib.sha256(made_from.encode() + identity).hexdigest()
    written, there = folder / WRITTEN / stamp, check_output(output, folder)
    anew = there != stamp or were_written_anew(folder, stamp, states)
    if anew:
        shutil.rmtree(written, ignore_errors=True)
    record_output(folder / RECORD, output.spec, stamp)  # before the output carries it
    size = Xyz(*(max(n * BLOCK_CHUNKS, m) for n, m in zip(output.chunk, output.unit, strict=True)))

    def parts() -> Iterator[Box]:
        chunks = map(output.whole_chunks, blocks(output.box, size))
        return (block for block in chunks if not block.empty)

    tally = Tally()
    if output.parallel:
        output.create(stamp, anew)
        record_states(folder, stamp, states)
        arguments = segmentation, relabelling, output
        run_blocks(
            *(pool, write_block, arguments, parts, written, 'joined volume', quiet),
            receive=tally.add,
        )
        output.finish(stamp)
    elif anew:
        with output.replace_hdf5(stamp) as target, segmentation.open() as volume:
            labels = volume.require_labels()
            for block in progress(list(parts()), desc='joined volume', unit='block', quiet=quiet):
                target.write(block, relabelling.read(labels, block))
            tally.add(met_by(labels.unlabelled))
    if tell:
        tally.tell()
    record_states(folder, stamp, states)


def check_output(output: OutputSpec, folder: Path) -> str | None:
    """Checks that an existing output was started by this run.

    Returns:
      Its stamp, or None if there is no output yet.

    Raises:
      UserError: it belongs to another run, or such a volume is impossible.
    """
    output.check('--output_volume')
    there = read_stamp(output.spec) if output.exists() else None
    if there is not None and there not in recorded_stamps(folder / RECORD, output.spec):
        raise UserError(
            f'{output.spec} exists and does not belong to this run; choose another output volume'
        )
    if output.parallel:  # others are replaced
        output.check_stored_voxel_size('--output_volume')
    return there


def write_block(
    segmentation: VolumeSource, relabelling: Relabelling, output: OutputSpec, block: Box, mark: Path
) -> Met | None:
    """Writes one block of an output that several processes may write, and marks it as written.

    Args:
      segmentation: volume to read.
      relabelling: what becomes of its labels.
      output: existing volume.
      block: whole chunks.
      mark: file to create afterwards.

    Returns:
      What has no label among the voxels that were read.
    """
    with segmentation.open() as volume:
        labels = volume.require_labels()
        output.open_parallel().write(block, relabelling.read(labels, block))
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return met_by(labels.unlabelled)


def read_joined(volume: Volume, table: np.ndarray, block: Box) -> np.ndarray:
    """Reads a block and replaces ids.

    Args:
      volume: labels.
      table: uint64 [n, 2], id and its replacement, ascending by id.
      block: box to read.

    Returns:
      uint64 [z, y, x].
    """
    return remap(volume.read(block), table[:, 0], table[:, 1], others='keep')


def describe(output: OutputSpec) -> str:
    """Returns all that decides how the volume is written; stamps of written volumes depend on this text."""
    size = output.voxel_size or (1.0, 1.0, 1.0)  # as it was written when 1 nm was the default
    text = f'OutputSpec(spec={output.spec!r}, box={output.box!r}, chunk={output.chunk!r}, voxel_size={size!r})'
    return text if output.shard is None else f'{text}, shard={output.shard!r}'


def _as_text(source: VolumeSource) -> str:
    """Returns the volume as a request names it; stamps of written volumes depend on this text."""
    if source.tensorstore:
        return str(inference_pb2.DecoratedVolume(tensorstore=source.tensorstore))
    return str(inference_pb2.DecoratedVolume(hdf5=source.spec))
