"""Where labels are imported from: HDF5, gzipped or not, any other volume, or the files of an image stack."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ffn.utils.atomic import scratch_path
from ffn.utils.errors import UserError, damage_told
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes import tensorstores, wkw_datasets
from ffn.volumes.hdf5 import DAMAGE_ADVICE, describe_datasets, open_hdf5
from ffn.volumes.hdf5_links import find_dataset, find_item
from ffn.volumes.importing.image_files import ReadAs
from ffn.volumes.importing.neuroproof import STACK, TRANSFORMS, Transforms
from ffn.volumes.importing.samples import StatedSize
from ffn.volumes.importing.stacks import SlabReader, find_images, inspect
from ffn.volumes.provenance import open_complete
from ffn.volumes.specs import agreed, split_channel, split_spec
from ffn.volumes.unlabelled import Unlabelled
from ffn.volumes.volume import Volume

_GZIP, _HDF5 = b'\x1f\x8b', b'\x89HDF\r\n\x1a\n'
_BLOCK_ZYX = Zyx(64, 512, 512)
_SLAB_VOXELS = 2**26


@dataclass(frozen=True)
class LabelSource:
    """Labels to be imported.

    Attributes:
      name: what messages call them.
      box: the voxels.
      block: size of the parts that are fast to read.
      read: reads a box, unsigned [z, y, x]; the second argument is what voxels without a label become.
      rule: what means 'not labelled'; counts what is read.
      stated_size: voxel size that the source states.
      start: first voxel, None if the source does not say where it begins.
    """

    name: str
    box: Box
    block: Xyz
    read: Callable[[Box, int], np.ndarray]
    rule: Unlabelled
    stated_size: StatedSize | None
    start: Xyz | None = None


@contextlib.contextmanager
def open_labels(
    source: str,
    dataset: str | None,
    channel: int | None,
    unlabelled: int | None,
    folder: Path,
) -> Iterator[LabelSource]:
    """Opens labels.

    Args:
      source: an HDF5 file, gzipped or not; a string that `open_volume` takes; or a pattern of image files.
      dataset: below the file or folder; None: of HDF5, NeuroProof's pair, or the only label dataset there is.
      channel: of several, the one to take.
      unlabelled: another label that means 'not labelled'; with transforms, of supervoxels.
      folder: for temporary files.

    Raises:
      UserError: nothing is there, it holds no labels, it is a format that cannot be read, or dataset or channel are of
        no use or contradict the source.
    """
    source, of_name = split_channel(source)
    channel = agreed(of_name, channel, source, '--input', '--channel')
    path, inner = split_spec(source)
    if wkw_datasets.recognizes(source) or tensorstores.recognizes(source):
        with open_complete(f'{source}:{dataset}' if dataset else source) as volume:
            yield _of_volume(_choose(volume, channel), unlabelled)
        return
    if not Path(source).exists() and Path(path).is_file() and inner:
        source, dataset = path, agreed(inner, dataset, source, '--input', '--dataset')
    start = _first_bytes(Path(source))
    if start.startswith((_GZIP, _HDF5)):
        with _open_hdf5(Path(source), dataset, channel, unlabelled, folder) as opened:
            yield opened
    elif start or any(mark in source for mark in '*?['):
        if dataset is not None:
            raise UserError(
                f'--dataset {dataset} is for files that hold datasets; {source} names images'
            )
        with _of_images(source, channel, unlabelled) as opened:
            yield opened
    else:
        raise UserError(f'no such file: {path}')


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        return b''
    with open(path, 'rb') as file:
        return file.read(8)


def _choose(volume: Volume, channel: int | None) -> Volume:
    return volume.single_channel() if channel is None else volume.choose_channel(channel)


def _of_volume(
    volume: Volume, unlabelled: int | None, transforms: Transforms | None = None
) -> LabelSource:
    volume = volume.require_labels(unlabelled)
    rule = volume.unlabelled or volume.label_rule(unlabelled)
    stored = volume.as_stored()

    def read(block: Box, unlabelled: int) -> np.ndarray:
        labels = stored.read(block)
        labels = labels.astype(np.uint8) if labels.dtype.kind == 'b' else labels
        if transforms is not None:
            labels = transforms.apply(labels, volume.name, rule)
        return _cleared(labels, rule, unlabelled, stored=transforms is None)

    stated, known = None, volume.voxel_size
    if known is not None:
        stated = StatedSize(known.xyz, f'{known.source} of {volume.name}')
    start = volume.box.start if volume.origin_from else None
    return LabelSource(volume.name, volume.box, _BLOCK_ZYX.xyz, read, rule, stated, start)


@contextlib.contextmanager
def _of_images(pattern: str, channel: int | None, unlabelled: int | None) -> Iterator[LabelSource]:
    stack = inspect(find_images(pattern, '--input'), ReadAs(labels=True, channel=channel))
    box = Box.of_shape(stack.shape_zyx)
    rule = Unlabelled(pattern, stack.dtype, {}, unlabelled)

    def read(block: Box, unlabelled: int) -> np.ndarray:
        z, y, x = block.slices_zyx
        return _cleared(slabs.read(z.start, z.stop)[:, y, x], rule, unlabelled)

    _, height, width = stack.shape_zyx
    depth = min(64, max(1, _SLAB_VOXELS // (height * width)))
    with contextlib.closing(SlabReader(stack)) as slabs:
        yield LabelSource(pattern, box, Xyz(width, height, depth), read, rule, stack.stated_size)


def _cleared(
    labels: np.ndarray, rule: Unlabelled, unlabelled: int, stored: bool = True
) -> np.ndarray:
    """Replaces labels that are none by another value; for `stored`, see `Unlabelled.find`."""
    cleared = _unsigned(rule.clear(labels, stored))
    if unlabelled and (found := rule.find(labels, stored)) is not None:
        fits = np.promote_types(cleared.dtype, np.min_scalar_type(unlabelled))
        return np.where(found, fits.type(unlabelled), cleared)
    return cleared


def _unsigned(labels: np.ndarray) -> np.ndarray:
    """The same numbers, none of them below 0, in an unsigned type."""
    return labels.astype(f'u{labels.dtype.itemsize}', copy=False)


@contextlib.contextmanager
def _open_hdf5(
    path: Path, dataset: str | None, channel: int | None, unlabelled: int | None, folder: Path
) -> Iterator[LabelSource]:
    with _unpacked(path, folder) as file:
        dataset, transforms = _find_labels(file, path, dataset)
        with open_complete(f'{file}:{dataset}') as volume:
            volume.name = f'{path}:{dataset}'
            yield _of_volume(_choose(volume, channel), unlabelled, transforms)


@contextlib.contextmanager
def _unpacked(path: Path, folder: Path) -> Iterator[Path]:
    """Yields the path of an HDF5 file, which is unpacked to a temporary file in `folder` if it is gzipped.

    Raises:
      UserError: the file is truncated.
    """
    if not _first_bytes(path).startswith(_GZIP):
        yield path
        return
    with scratch_path(folder / path.stem) as unpacked:
        try:
            with gzip.open(path) as source, open(unpacked, 'wb') as target:
                shutil.copyfileobj(source, target, 2**20)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f'{path} is no whole gzip file: {error}') from error
        yield unpacked


def _find_labels(unpacked: Path, path: Path, dataset: str | None) -> tuple[str, Transforms | None]:
    """Finds the labels of a file, and the transforms that belong to them."""
    with open_hdf5(unpacked) as file, damage_told(path, DAMAGE_ADVICE):
        table = None if dataset is not None else find_dataset(file, TRANSFORMS)
        if table is not None and find_item(file, STACK) is not None:
            return STACK, Transforms.from_table(table[:], f'{path}:{TRANSFORMS}')
        dataset = _only_volume(file, path) if dataset is None else dataset
        if find_dataset(file, dataset) is None:
            raise UserError(
                f'{path} holds no dataset {dataset!r}; it holds {describe_datasets(file)}'
            )
        return dataset, None


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
