"""Opens what is compared: volumes, results of inference, and the box that two of them share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import logging

from ffn.evaluation.joined_results import SUBVOLUME_IDS, JoinedResults, count_uncovered
from ffn.inference.request_identity import stored_voxel_size
from ffn.inference.storage import (
    UNFINISHED,
    corner_of,
    read_labels,
    segmentation_shape,
    split_components,
    subvolume_files,
)
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx, both_orders
from ffn.utils.npz import memory
from ffn.volumes.hdf5 import open_hdf5
from ffn.volumes.hdf5_links import find_dataset
from ffn.volumes.importing.neuroproof import Transforms
from ffn.volumes.missing import OnMissing
from ffn.volumes.opened_array import MADE_FROM
from ffn.volumes.provenance import open_complete
from ffn.volumes.specs import split_spec
from ffn.volumes.units import KnownVoxelSize
from ffn.volumes.unlabelled import counted
from ffn.volumes.volume import Volume

# Attributes of a volume whose position is known, and of one of several results: where each lies in it.
_PLACED, _RESULTS = 'placed', 'results'


def open_segmentation(
    spec: str,
    split_cc: bool = False,
    unlabelled: int | None = None,
    missing: OnMissing = 'tell',
) -> Volume:
    """Opens a segmentation for reading.

    Args:
      spec: a folder of results of inference (seg-X_Y_Z.npz), one such file, or a volume,
        'path:dataset'. The position of a result follows from its name, otherwise it is 0,0,0. Ids of
        several results in a folder are kept apart by adding SUBVOLUME_IDS times the number of the
        result in the order of positions.
      split_cc: give every 6-connected component its own id; a volume is read into memory for that.
      unlabelled: a label that means 'not labelled', see `ffn.volumes.unlabelled`.
      missing: what is done about chunks of a volume that do not exist.

    Raises:
      UserError: it does not exist, is damaged, or holds no integer labels.
    """
    path = Path(spec)
    found = find_results(path)
    if len(found) > 1:
        logging.warning(
            '%s holds %d results whose ids are not joined: objects that cross their borders count as '
            'split; evaluate an assembled volume for scores of the whole',
            spec,
            len(found),
        )
    if found and (path / UNFINISHED).exists():
        logging.warning(
            '%s is not complete: subvolumes are still missing and count as background; let ffn segment finish '
            'for scores of the whole',
            spec,
        )
    if found:
        return open_results(spec, found, split_cc, unlabelled)
    try:
        volume = open_complete(spec, missing).require_labels(unlabelled)
    except UserError as error:
        if not path.is_dir():
            raise
        raise UserError(f'{spec} holds no results of inference, seg-X_Y_Z.npz; {error}') from error
    return _split_components(volume) if split_cc else volume


def find_results(path: Path) -> list[Path]:
    """The files of results of inference that a path stands for, by position; [] if it is something else."""
    return [path] if path.suffix == '.npz' else sorted(subvolume_files(path), key=_corner_zyx)


def open_results(
    name: str, paths: list[Path], split_cc: bool = False, unlabelled: int | None = None
) -> Volume:
    """Opens results of inference as one volume; of several, a few are in memory at a time.

    Args:
      name: what messages call it.
      paths: see `find_results`; ids of several are kept apart, see `open_segmentation`.
      split_cc: see `open_segmentation`.
      unlabelled: likewise.

    Raises:
      UserError: a result that is damaged.
    """
    if len(paths) == 1:
        return _result_volume(paths[0], split_cc, unlabelled)
    return _joined(name, paths, split_cc, unlabelled)


def open_truth(
    spec: str,
    transforms: str | None = None,
    unlabelled: int | None = None,
    missing: OnMissing = 'tell',
) -> Volume:
    """Opens ground truth for reading.

    Args:
      spec: 'path:dataset', or anything else that `open_segmentation` takes.
      transforms: 'path:dataset' of an HDF5 table of integers, N×2: id in the volume, id of the object
        that it belongs to.
      unlabelled: a label of the volume that means 'not labelled', see `ffn.volumes.unlabelled`.
      missing: what is done about chunks of a volume that do not exist.

    Raises:
      UserError: as `open_segmentation`; also transforms of another form.
    """
    volume = open_segmentation(spec, unlabelled=unlabelled, missing=missing)
    if transforms is None:
        return volume
    path, dataset = split_spec(transforms)
    with open_hdf5(path) as file:
        found = find_dataset(file, dataset)
        if found is None:
            raise UserError(f'{path} holds no dataset {dataset!r}')
        table = Transforms.from_table(found[:], transforms)
    rule = volume.unlabelled or volume.label_rule(unlabelled)

    def apply(labels: np.ndarray) -> np.ndarray:
        return rule.clear(table.apply(labels, spec, rule), stored=False)

    bodies = _derived(volume.as_stored(), apply, table.bodies.dtype)
    bodies.unlabelled = rule
    return bodies


def translated(volume: Volume, start: Xyz) -> Volume:
    """Returns the same volume with another first voxel."""
    return _derived(volume, start=start)


class _Derived:
    """An array whose parts are read from a volume and transformed."""

    def __init__(self, volume: Volume, change: Callable[[np.ndarray], np.ndarray], dtype: np.dtype):
        self.shape, self.dtype = volume.shape_zyx, dtype
        self._volume, self._change = volume, change

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        begin = self._volume.box.start.zyx
        start = [s.start + b for s, b in zip(index, begin, strict=True)]
        return self._change(
            self._volume.read(Box.from_zyx(start, [s.stop - s.start for s in index]))
        )


def _derived(
    volume: Volume,
    change: Callable[[np.ndarray], np.ndarray] = lambda labels: labels,
    dtype: np.dtype | None = None,
    start: Xyz | None = None,
) -> Volume:
    array = _Derived(volume, change, dtype or volume.dtype)
    begin = volume.box.start if start is None else start
    derived = Volume(
        volume.name,
        array,
        volume.attrs,
        begin.zyx,
        volume.close,
        volume.voxel_size,
        volume.origin_from if start is None else 'its place is given',
    )
    derived.unlabelled = volume.unlabelled  # counts what is read
    return derived


def _corner_zyx(path: Path) -> Zyx:
    return corner_of(path) or Zyx(0, 0, 0)


def _split_components(volume: Volume) -> Volume:
    """Reads a volume and gives every 6-connected component an id of its own.

    Raises:
      UserError: more memory is needed for that than this machine has.
    """
    needed, there = 2 * 8 * math.prod(volume.box.size), memory()
    if needed > there:
        raise UserError(
            f'--split_cc reads {volume.name} whole and needs {needed / 2**30:,.0f} GiB for that; this machine has '
            f'{there / 2**30:,.0f}: leave it out, or cut the volume'
        )
    with counted(volume.unlabelled):
        labels = volume.read(volume.box).astype(np.uint64, copy=False)
    components = split_components(labels, {})[0]
    return Volume(
        volume.name,
        components,
        volume.attrs,
        volume.box.start.zyx,
        volume.close,
        volume.voxel_size,
        volume.origin_from,
    )


def _result_volume(path: Path, split_cc: bool, unlabelled: int | None) -> Volume:
    attrs = {} if corner_of(path) is None else {_PLACED: True}
    labels, size = read_labels(path), _voxel_size(path)
    volume = Volume(str(path), labels, attrs, _corner_zyx(path), voxel_size=size)
    volume = volume.require_labels(unlabelled)
    return _split_components(volume) if split_cc else volume


def _voxel_size(result: Path) -> KnownVoxelSize | None:
    """That of the request which a result was made with."""
    size = stored_voxel_size(result)
    return None if size is None else KnownVoxelSize(size, 'the request stored with it')


def _joined(name: str, paths: list[Path], split_cc: bool, unlabelled: int | None) -> Volume:
    def read(number: int) -> np.ndarray:
        result = _result_volume(paths[number], split_cc, unlabelled)
        labels = result.read(result.box)
        if labels.max(initial=0) >= SUBVOLUME_IDS:
            raise UserError(
                f'{paths[number]} has id {labels.max()}; several results can be read '
                f'together only where ids are below {SUBVOLUME_IDS}'
            )
        return labels

    boxes = [Box.from_zyx(_corner_zyx(p), segmentation_shape(p)) for p in paths]
    joined = JoinedResults(boxes, read)
    attrs = {_PLACED: True, _RESULTS: joined.boxes}
    start = joined.box.start.zyx
    return Volume(name, joined, attrs, start, voxel_size=_voxel_size(paths[0]))


def _is_placed(volume: Volume) -> bool:
    """Whether it is known where a volume begins."""
    return bool(
        volume.attrs.get(_PLACED)
        or volume.origin_from
        or MADE_FROM in volume.attrs
        or any(volume.box.start)
    )


def shared_box(
    truth: Volume,
    segmentation: Volume,
    offset: Xyz | None = None,
    box: Box | None = None,
    names: tuple[str, str] = ('ground truth', 'segmentation'),
) -> tuple[Volume, Box]:
    """Aligns a segmentation with the ground truth.

    Args:
      truth: the ground truth.
      segmentation: the segmentation.
      offset: position of its first voxel in the ground truth; None: as the segmentation itself says.
      box: region to compare, in coordinates of the ground truth; None: the whole segmentation.
      names: names of the two, for errors.

    Returns:
      The segmentation in coordinates of the ground truth, and the box to compare. Voxels of it that no result
      covers are told.

    Raises:
      UserError: the relative position of volumes of different shapes is unknown, or they do not overlap.
    """
    aligned, compared = _align(truth, segmentation, offset, box, names)
    for volume in (truth, aligned):
        results = volume.attrs.get(_RESULTS)
        inside = compared.relative_to(volume.box.start)
        if results and (uncovered := count_uncovered(inside, results)):
            logging.warning(
                '%s: %d of %d voxels of box %s lie in no result and count as background, which is an error where '
                'there are objects: choose a --bounding_box, or assemble what belongs together',
                volume.name,
                uncovered,
                math.prod(compared.size),
                compared,
            )
    return aligned, compared


def _align(
    truth: Volume,
    segmentation: Volume,
    offset: Xyz | None,
    box: Box | None,
    names: tuple[str, str],
) -> tuple[Volume, Box]:
    """See `shared_box`."""
    if offset is not None and MADE_FROM in segmentation.attrs and not any(segmentation.box.start):
        logging.warning(
            '%s has the coordinates of its image already; --offset moves it from there', names[1]
        )
    if offset is not None:
        segmentation = translated(segmentation, offset)
    both = f'{names[0]} covers {truth.box}; {names[1]} covers {segmentation.box}'
    common = truth.box.intersection(segmentation.box)
    if common is None:
        raise UserError(f'{both}; they do not overlap: say where it lies with --offset X,Y,Z')
    if box is not None:
        if not common.contains(box):
            raise UserError(f'--bounding_box {box} is not inside of both: {both}')
        return segmentation, box
    # Of two volumes that say where they begin, what they share is compared.
    unknown = [n for n, v in zip(names, (truth, segmentation), strict=True) if not _is_placed(v)]
    inside = _is_placed(segmentation) and common == segmentation.box
    fits = offset is not None or inside or not unknown
    advice = 'say where it lies with --offset X,Y,Z, or choose a --bounding_box'
    if unknown:
        says = f'the {unknown[0]} does not say' if len(unknown) == 1 else 'neither says'
        advice = f'{says} where it begins; {advice}'
    if MADE_FROM in segmentation.attrs:
        advice = 'choose a --bounding_box, the box that was segmented'
    if segmentation.box != truth.box and not fits:
        raise UserError(
            f'shapes differ: {names[0]} has {both_orders(truth.shape_zyx)}, {names[1]} has '
            f'{both_orders(segmentation.shape_zyx)}; {both}: {advice}'
        )
    return segmentation, common
