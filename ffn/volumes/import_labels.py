"""Labels of other programs to HDF5, one block in memory at a time.

The input holds a plain label dataset, or NeuroProof's pair: `stack`, supervoxel ids, and `transforms`, N×2,
supervoxel id and body id. Labels are stored in the smallest unsigned type that holds the greatest.
"""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastremap
import h5py
import numpy as np
from tqdm import tqdm

from ffn.utils.arrays import native
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx, blocks
from ffn.utils.labels import find_ids
from ffn.utils.progress import progress
from ffn.volumes.hdf5 import describe_datasets, open_hdf5, replaced_dataset, split_output
from ffn.volumes.unlabelled import Unlabelled, counted
from ffn.volumes.volume import Volume

STACK, TRANSFORMS = 'stack', 'transforms'
_CHUNK = 64
_BLOCK_ZYX = Zyx(_CHUNK, 512, 512)


@dataclass(frozen=True)
class Transforms:
    """The body that each supervoxel belongs to; 0, and what is not labelled, is background unless listed.

    Attributes:
      supervoxels: int64 or uint64 [n], ascending, distinct.
      bodies: int64 or uint64 [n].
    """

    supervoxels: np.ndarray
    bodies: np.ndarray

    @classmethod
    def from_table(cls, table: np.ndarray, what: str) -> Transforms:
        """Reads rows of supervoxel id and body id.

        Raises:
          UserError: the table has another shape or type, or gives a supervoxel two bodies.
        """
        if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind not in 'iu':
            raise UserError(
                f'{what} is {table.dtype} of shape {table.shape}; expected integers, N×2: '
                'supervoxel id, body id'
            )
        table = np.unique(native(table), axis=0)
        twice = table[1:, 0] == table[:-1, 0]
        if twice.any():
            raise UserError(f'{what} gives supervoxel {table[1:, 0][twice][0]} two bodies')
        # Bodies are wide enough for one that means 'not labelled'.
        wide = np.uint64 if table.dtype.kind == 'u' else np.int64
        return cls(table[:, 0], table[:, 1].astype(wide))

    def apply(self, labels: np.ndarray, what: str, rule: Unlabelled) -> np.ndarray:
        """Replaces supervoxels by their bodies.

        Args:
          labels: integer, any shape, as stored.
          what: name of the labels, for errors.
          rule: which supervoxels, and which bodies, are none; it counts their voxels.

        Returns:
          Bodies, of the same shape.

        Raises:
          UserError: a supervoxel without a body.
        """
        ids, inverse = fastremap.unique(labels, return_inverse=True)
        wide = ids.astype(self.supervoxels.dtype)
        at, known = find_ids(self.supervoxels, wide)
        known &= wide == ids
        unlabelled = rule.find(ids)
        none = np.zeros(len(ids), bool) if unlabelled is None else unlabelled & ~known
        unknown = ids[~known & (ids != 0) & ~none]
        if len(unknown):
            raise UserError(
                f'{what}: {TRANSFORMS} lists no body for supervoxel {unknown[0]}; complete it, or '
                f'import the supervoxels themselves with --dataset {STACK}'
            )
        bodies = np.zeros(len(ids), self.bodies.dtype)
        bodies[known] = self.bodies[at[known]]
        bodies[none] = np.iinfo(bodies.dtype).max if bodies.dtype.kind == 'u' else -1
        return rule.clear(bodies[inverse].reshape(labels.shape))


@contextlib.contextmanager
def unpacked(path: Path, folder: Path) -> Iterator[Path]:
    """Yields the path of an HDF5 file, which is unpacked to a temporary file in `folder` if it is gzipped.

    Raises:
      UserError: the file is missing or truncated.
    """
    if not path.is_file():
        raise UserError(f'no such file: {path}')
    with open(path, 'rb') as file:
        packed = file.read(2) == b'\x1f\x8b'
    if not packed:
        yield path
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix='.import.', suffix='.h5.tmp') as target:
        try:
            with gzip.open(path) as source:
                shutil.copyfileobj(source, target, 2**20)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f'{path} is no whole gzip file: {error}') from error
        target.flush()
        yield Path(target.name)


def _open_labels(
    file: h5py.File, path: Path, dataset: str | None, unlabelled: int | None
) -> tuple[Volume, Transforms | None, Unlabelled]:
    """Finds the labels of a file, the transforms that belong to them, and which of them are none."""
    transforms = None
    if dataset is None:
        if STACK in file and TRANSFORMS in file:
            transforms = Transforms.from_table(file[TRANSFORMS][:], f'{path}:{TRANSFORMS}')
            dataset = STACK
        else:
            dataset = _only_volume(file, path)
    item = file.get(dataset)
    if not isinstance(item, h5py.Dataset):
        raise UserError(f'{path} holds no dataset {dataset!r}; it holds {describe_datasets(file)}')
    volume = Volume(f'{path}:{dataset}', item, item.attrs)
    volume = volume.require_labels(unlabelled)
    return volume, transforms, volume.unlabelled or volume.label_rule(unlabelled)


def _only_volume(file: h5py.File, path: Path) -> str:
    found: list[str] = []

    def note(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim in (3, 4) and item.dtype.kind in 'iub':
            found.append(name)

    file.visititems(note)
    if len(found) != 1:
        raise UserError(
            f'{path} holds {len(found)} datasets that can be labels; choose one with --dataset: '
            f'{describe_datasets(file)}'
        )
    return found[0]


def import_labels(
    source: str | Path,
    output: str,
    *,
    dataset: str | None = None,
    unlabelled: int | None = None,
    quiet: bool = False,
) -> tuple[np.ndarray, np.dtype, Xyz]:
    """Writes labels of another program as an HDF5 dataset, chunked and gzipped.

    Voxels that are not labelled, see `ffn.volumes.unlabelled`, become background.

    Args:
      source: HDF5 file, gzipped or not.
      output: 'path:dataset'; other datasets of the file are kept.
      dataset: a plain label dataset; None: NeuroProof's pair, or the only label dataset there is.
      unlabelled: another label that means 'not labelled'; with transforms, of supervoxels and bodies.
      quiet: no progress bar.

    Returns:
      Distinct labels, uint64, ascending, including 0 if there is background; type and size of the
      dataset.

    Raises:
      UserError: a file or dataset is missing or holds no labels, or the transforms do not fit.
    """
    path = Path(source)
    folder = Path(split_output(output, '--output')[0]).absolute().parent
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_hdf5(str(stack.enter_context(unpacked(path, folder)))))
        volume, transforms, rule = _open_labels(file, path, dataset, unlabelled)
        parts = list(blocks(volume.box, _BLOCK_ZYX.xyz))
        bar = stack.enter_context(
            progress(total=2 * len(parts), desc='labels', unit='block', quiet=quiet)
        )
        with counted(rule):
            ids = _all_ids(volume, transforms, rule, parts, bar)
        dtype = np.min_scalar_type(int(ids.max(initial=0)))
        target, name = stack.enter_context(replaced_dataset(output, '--output'))
        written = target.create_dataset(
            name,
            volume.shape_zyx,
            dtype,
            chunks=tuple(min(_CHUNK, n) for n in volume.shape_zyx),
            compression='gzip',
            shuffle=True,
        )
        for block in parts:
            written[block.slices_zyx] = _read(volume, transforms, rule, block).astype(dtype)
            bar.update()
    return ids, dtype, volume.shape_zyx.xyz


def _read(
    volume: Volume, transforms: Transforms | None, rule: Unlabelled, block: Box
) -> np.ndarray:
    labels = (volume if transforms is None else volume.as_stored()).read(block)
    labels = labels.astype(np.uint8) if labels.dtype.kind == 'b' else labels
    return labels if transforms is None else transforms.apply(labels, volume.name, rule)


def _all_ids(
    volume: Volume,
    transforms: Transforms | None,
    rule: Unlabelled,
    parts: Sequence[Box],
    bar: tqdm[Any],
) -> np.ndarray:
    """Finds all labels, uint64, since the type must be known before the first voxel is written."""
    ids = np.zeros(0, np.uint64)
    for block in parts:
        found = fastremap.unique(_read(volume, transforms, rule, block))
        ids = np.union1d(ids, found.astype(np.uint64))
        bar.update()
    return ids
