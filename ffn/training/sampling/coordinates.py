"""Training coordinates: voxels of partition volumes, every partition equally often, shuffled."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging
from tqdm import tqdm

from ffn.training.sampling.coordinate_records import CenterRecords
from ffn.training.sampling.partition_config import BACKGROUND, EXCLUDED
from ffn.training.sampling.partitions import count_values
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx, both_orders
from ffn.utils.parallel_gzip import write_gzip
from ffn.utils.progress import progress
from ffn.volumes.provenance import open_complete

CHUNK_RECORDS = 2**16


@dataclass(frozen=True)
class CandidateVolume:
    """The part of a partition volume that centres are sampled from.

    Attributes:
      name: `label_volume_name` of its records.
      box: the part, absolute.
      values: uint8 [n], partitions of the part's voxels in C order of [z, y, x].
    """

    name: str
    box: Box
    values: np.ndarray


def build_coordinates(
    volumes: dict[str, str],
    output: str,
    margin: Zyx,
    seed: int | None = None,
    shards: int = 1,
    max_coordinates: int | None = None,
    quiet: bool = False,
) -> dict[int, int]:
    """Samples coordinates from partition volumes and writes them as GZIP TFRecord.

    Every partition value, counted over all volumes together, gets as many records as the largest
    partition has voxels: a random permutation of its own voxels, repeated cyclically. All records are
    then shuffled together. Each is a tf.train.Example with `center` (int64 x, y, z, absolute) and
    `label_volume_name` (bytes).

    Args:
      volumes: {name: 'path:dataset'} of partition volumes, uint8 [z, y, x]; 255 is not sampled.
      output: file to write; with several shards, their names up to -00000-of-0000N.
      margin: minimum distance in voxels of a centre from the faces of its volume.
      seed: equal seeds give identical files; None draws one.
      shards: number of files.
      max_coordinates: maximum number of records; every partition still gets the same number.
      quiet: no progress bar.

    Returns:
      {partition: number of its voxels}; all partitions have the same number of records.

    Raises:
      UserError: a volume of another type or smaller than the margin, or nothing to sample.
    """
    if min(margin) < 0:
        raise UserError(f'--margin is {margin}; expected no negative number')
    if shards < 1:
        raise UserError(f'--shards is {shards}; expected 1 or more')
    if seed is not None and seed < 0:
        raise UserError(f'--seed is {seed}; expected 0 or more')
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    with contextlib.ExitStack() as files:
        names = shard_names(output, shards)
        paths = [files.enter_context(atomic_path(name)) for name in names]
        candidates = [read_candidates(name, spec, margin) for name, spec in volumes.items()]
        sampled, sizes = sample(candidates, np.random.default_rng(seed), max_coordinates)
        with progress(total=len(sampled), desc='records', unit_scale=True, quiet=quiet) as bar:
            for path, part in zip(paths, np.array_split(sampled, shards), strict=True):
                with open(path, 'wb') as file:
                    write_gzip(file, _chunks(part, candidates, bar))
    _warn_of_other_shards(names)
    if list(sizes) == [BACKGROUND]:
        logging.warning('all coordinates are of background, so a network would learn nothing else')
    logging.info(
        '%d records, %d of each of %d partitions; --seed=%d makes the same again',
        len(sampled),
        len(sampled) // len(sizes),
        len(sizes),
        seed,
    )
    return sizes


def shard_names(output: str, shards: int) -> list[str]:
    """File names: `output` itself, or output-00000-of-0000N and so on."""
    if shards == 1:
        return [output]
    return [f'{output}-{i:05d}-of-{shards:05d}' for i in range(shards)]


def read_candidates(name: str, spec: str, margin: Zyx) -> CandidateVolume:
    """Reads the voxels at least `margin` from the faces of a partition volume.

    Raises:
      UserError: it is not complete, does not hold uint8, or is smaller than the margins.
    """
    with open_complete(spec) as opened:
        if opened.dtype != np.uint8:
            raise UserError(
                f'{spec} holds {opened.dtype}; expected uint8, as compute_partitions.py writes it'
            )
        volume = opened.single_channel()
        box = volume.box.shrink(margin.xyz)
        if box.empty:
            raise UserError(
                f'--margin {both_orders(margin)} leaves nothing of {spec} of size '
                f'{both_orders(volume.shape_zyx)}; each side must be at least 2 * margin + 1'
            )
        values = volume.read(box).ravel()
        origin = Xyz(*(int(n) for n in volume.attrs.get('origin_xyz', (0, 0, 0))))
    return CandidateVolume(
        name, Box(Xyz(*(a + b for a, b in zip(box.start, origin, strict=True))), box.size), values
    )


def sample(
    candidates: Sequence[CandidateVolume],
    rng: np.random.Generator,
    max_coordinates: int | None = None,
) -> tuple[np.ndarray, dict[int, int]]:
    """Draws voxels so that every partition value is equally frequent, and shuffles them.

    Args:
      candidates: the volumes.
      rng: random generator.
      max_coordinates: maximum number of voxels to draw.

    Returns:
      Voxels, as unsigned indices [n] into the concatenated values of the candidates, and
      {partition: number of its voxels}.

    Raises:
      UserError: no voxel is left, or max_coordinates is below one per partition.
    """
    counts = np.sum([count_values(volume.values) for volume in candidates], axis=0)
    counts[EXCLUDED] = 0
    sizes = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    if not sizes:
        names = ', '.join(volume.name for volume in candidates)
        raise UserError(f'no voxel to sample in {names}: all within --margin are {EXCLUDED}')
    length = max(sizes.values())
    if max_coordinates is not None:
        length = min(length, max_coordinates // len(sizes))
        if length < 1:
            raise UserError(
                f'--max_coordinates is {max_coordinates}; expected at least {len(sizes)}, one for '
                'each partition'
            )
    ends = np.cumsum([len(volume.values) for volume in candidates])
    starts = [end - len(volume.values) for volume, end in zip(candidates, ends, strict=True)]
    drawn = np.empty(len(sizes) * length, np.min_scalar_type(int(ends[-1])))
    for i, value in enumerate(sizes):
        voxels = np.concatenate(
            [
                (np.flatnonzero(volume.values == value) + start).astype(drawn.dtype)
                for volume, start in zip(candidates, starts, strict=True)
            ]
        )
        permuted = rng.choice(voxels, min(len(voxels), length), replace=False)
        drawn[i * length : (i + 1) * length] = np.resize(permuted, length)
    rng.shuffle(drawn)
    return drawn, sizes


def _chunks(
    sampled: np.ndarray, candidates: Sequence[CandidateVolume], bar: tqdm
) -> Iterator[Callable[[], bytes]]:
    """Functions that each encode one chunk of records."""
    ends = np.cumsum([len(volume.values) for volume in candidates])
    records = [
        CenterRecords(volume.name, np.array(volume.box.start), np.array(volume.box.end) - 1)
        for volume in candidates
    ]
    for start in range(0, len(sampled), CHUNK_RECORDS):
        chunk = sampled[start : start + CHUNK_RECORDS]
        yield functools.partial(_encode, chunk, candidates, ends, records)
        bar.update(len(chunk))


def _encode(
    sampled: np.ndarray,
    candidates: Sequence[CandidateVolume],
    ends: np.ndarray,
    records: Sequence[CenterRecords],
) -> bytes:
    """Encodes the records of voxels, in their order; records with longer volume names are longer."""
    sampled = sampled.astype(np.int64)
    volume_of = np.searchsorted(ends, sampled, side='right')
    rows = np.empty((len(sampled), max(record.length for record in records)), np.uint8)
    lengths = np.array([record.length for record in records])[volume_of]
    for i, (volume, record) in enumerate(zip(candidates, records, strict=True)):
        own = np.flatnonzero(volume_of == i)
        index = sampled[own] - (ends[i] - len(volume.values))
        zyx = np.unravel_index(index, volume.box.size.zyx)
        xyz = np.stack(zyx[::-1], axis=1) + np.array(volume.box.start)
        rows[own, : record.length] = record.encode(xyz)
    if (lengths == rows.shape[1]).all():
        return rows.tobytes()
    return rows[np.arange(rows.shape[1]) < lengths[:, np.newaxis]].tobytes()


def _warn_of_other_shards(names: Sequence[str]) -> None:
    """A glob would also read shards that an earlier run wrote under the same name."""
    first = Path(names[0])
    stem = re.sub(r'-\d{5}-of-\d{5}$', '', first.name) if len(names) > 1 else first.name
    there = {path.name for path in first.parent.glob(f'{stem}-?????-of-?????')}
    others = sorted(there - {Path(name).name for name in names})
    if others:
        logging.warning(
            '%s: %d shards of another run lie beside the new ones (%s, ...); remove them or do not read '
            'them by a glob',
            first.parent,
            len(others),
            others[0],
        )
