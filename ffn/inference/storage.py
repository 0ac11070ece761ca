"""Results of inference on disk: where they are, how they are written and loaded.

A segmented subvolume is `DIR/X/Y/seg-X_Y_Z.npz`, where X,Y,Z is its corner; doc/formats.md lists the
members. The canvas needs this module, so that what loads labels imports its libraries itself.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffn.utils import npz
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.npz import DAMAGES, REMOVE_DAMAGED, bytes_member, read_npy_header, read_npz

# A file in a folder of results that is not complete yet.
UNFINISHED = 'unfinished'
_NAME = re.compile(r'seg-(-?\d+)_(-?\d+)_(-?\d+)\.npz')


class OriginInfo(NamedTuple):
    """Where a segment was seeded.

    Attributes:
      start_zyx: seed position within the subvolume.
      iters: network steps it took.
      walltime_sec: time it took.
    """

    start_zyx: tuple[int, int, int]
    iters: int
    walltime_sec: float


def subvolume_path(
    directory: str | Path, corner_zyx: Sequence[int], suffix: str, old_layout: bool = False
) -> Path:
    """Path of a subvolume's file.

    Args:
      directory: the segmentation's folder.
      corner_zyx: first voxel of the subvolume.
      suffix: 'npz' (result), 'prob' (probabilities) or 'cpoint' (checkpoint).
      old_layout: all files in one folder, as older installations wrote them.
    """
    corner = Zyx.of(corner_zyx)
    name = f'seg-{corner.x}_{corner.y}_{corner.z}.{suffix}'
    if old_layout:
        return Path(directory, name)
    return Path(directory, str(corner.x), str(corner.y), name)


def existing_path(directory: str | Path, corner_zyx: Sequence[int], suffix: str) -> Path | None:
    """Path of a subvolume's file in either layout, or None where there is none."""
    for old_layout in (False, True):
        path = subvolume_path(directory, corner_zyx, suffix, old_layout)
        if path.exists():
            return path
    return None


def is_finished(directory: str | Path, corner_zyx: Sequence[int]) -> bool:
    """Whether a subvolume has its result, and nothing is left of its making: neither checkpoint nor lock.

    Something is left when a process is killed between its last steps.
    """
    # Here, since what grows objects needs no absl.
    from ffn.utils.locks import is_claimed

    if existing_path(directory, corner_zyx, 'npz') is None:
        return False
    claimed = is_claimed(subvolume_path(directory, corner_zyx, 'npz'))
    return not claimed and not subvolume_path(directory, corner_zyx, 'cpoint').exists()


def subvolumes(directory: str | Path) -> dict[Zyx, Path]:
    """Finds the finished subvolumes of a segmentation, in either layout.

    Args:
      directory: the segmentation's folder.

    Returns:
      Corner of each, sorted by z, y, x → its file.

    Raises:
      UserError: there is none.
    """
    found: dict[Zyx, Path] = {}
    for path in subvolume_files(directory):
        if (corner := corner_of(path)) is not None:
            found[corner] = path
    if not found:
        raise UserError(f'{directory} holds no segmented subvolume, X/Y/seg-X_Y_Z.npz')
    return dict(sorted(found.items()))


def corner_of(path: Path) -> Zyx | None:
    """The corner that a result is named after, seg-X_Y_Z.npz, or None if it has another name."""
    named = _NAME.fullmatch(path.name)
    return Xyz(*map(int, named.groups())).zyx if named else None


def subvolume_files(directory: str | Path) -> Iterator[Path]:
    """The files of finished subvolumes, of the older layout first."""
    for pattern in ('seg-*.npz', '*/*/seg-*.npz'):
        for path in Path(directory).glob(pattern):
            if corner_of(path) is not None:
                yield path


def segmentation_shape(path: str | Path) -> Zyx:
    """Shape of a segmented subvolume, without reading it.

    Args:
      path: the npz file.

    Raises:
      UserError: no such file, or one that is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open('segmentation.npy') as file:
            return Zyx.of(read_npy_header(file).shape)
    except DAMAGES as error:
        raise UserError(f'{path} holds no 3-d segmentation ({error}); {REMOVE_DAMAGED}') from error


def quantize_probability(prob: np.ndarray) -> np.ndarray:
    """Quantizes probabilities to uint8 1..255; NaN becomes 0.

    Args:
      prob: float array of any shape.
    """
    prob = np.asarray(prob)
    unknown = np.isnan(prob)
    if unknown.any():
        return np.where(unknown, 0, quantize_probability(np.where(unknown, 0, prob))).astype(
            np.uint8
        )
    # The same as digitize(prob, linspace(0, 1, 255)), whose steps are equal, but for rounding at the
    # steps themselves: what is next to one is looked up.
    value = np.clip(np.atleast_1d(prob), 0, 1).astype(np.result_type(prob, np.float32))
    value *= 254
    quantized = value.astype(np.uint8)
    value -= quantized
    near = np.abs(value - 0.5) > 0.499
    quantized += 1
    quantized[near] = np.digitize(np.atleast_1d(prob)[near], np.linspace(0, 1, 255))
    return quantized.reshape(prob.shape)


def dequantize_probability(qprob: np.ndarray) -> np.ndarray:
    """Turns quantized probabilities back: float32, NaN where the value is 0."""
    table = ((np.arange(256) - 0.5) / 255).astype(np.float32)
    table[0] = np.nan
    return table[np.asarray(qprob)]


def smallest_unsigned(labels: np.ndarray) -> np.ndarray:
    """Returns non-negative labels in the smallest unsigned type that holds them."""
    return labels.astype(np.min_scalar_type(int(labels.max(initial=0))))


def section_crcs(labels: np.ndarray) -> np.ndarray:
    """CRC-32 of each section, uint32 [z], by which a part of a result is checked without reading the rest.

    Args:
      labels: [z, y, x]; the name of their type, such as '<u2', counts as well, before the voxels.
    """
    begin = zlib.crc32(labels.dtype.str.encode())
    sections = (np.ascontiguousarray(section).data for section in labels)
    return np.array([zlib.crc32(section, begin) for section in sections], np.uint32)


def save_npz(path: str | Path, **members: Any) -> None:
    """Writes a compressed npz atomically."""
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        npz.write_compressed(file, **members)


def save_result(
    directory: str | Path,
    corner_zyx: Sequence[int],
    segmentation: np.ndarray,
    origins: Mapping[int, OriginInfo],
    request: bytes,
    counters: Mapping[str, int],
    overlaps: Mapping[int, np.ndarray],
    qprob: np.ndarray | None = None,
    given_ids: np.ndarray | None = None,
    joined_seeds: np.ndarray | None = None,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Writes the files of a finished subvolume; the segmentation last, as it marks completion.

    Args:
      directory: the segmentation's folder.
      corner_zyx: first voxel of the subvolume.
      segmentation: integer [z, y, x], 0 is background.
      origins: segment id → where it began.
      request: serialized InferenceRequest.
      counters: name → value.
      overlaps: segment id → [ids, counts] of the earlier segments that it ran into.
      qprob: uint8 [z, y, x] quantized probabilities, if kept.
      given_ids: uint64 [n + 1], what segments 1..n are called in init_segmentation, if there is one.
      joined_seeds: int64 [m, 5], see `ffn.inference.core.canvas.Canvas`.
      inputs: what the inputs of the request are known by, see `ffn.inference.input_identity`.
    """
    extra: dict[str, Any] = {'init_segmentation_ids': given_ids, 'joined_seeds': joined_seeds}
    if inputs is not None:
        extra['inputs'] = json.dumps(dict(inputs)).encode()
    if qprob is not None:
        save_npz(subvolume_path(directory, corner_zyx, 'prob'), qprob=qprob)
    labels = smallest_unsigned(segmentation)
    save_npz(
        subvolume_path(directory, corner_zyx, 'npz'),
        segmentation=labels,
        section_crcs=section_crcs(labels),
        origins=np.array(dict(origins), dtype=object),
        request=bytes_member(request),
        counters=json.dumps(dict(counters)).encode(),
        overlaps=np.array(dict(overlaps), dtype=object),
        **{name: member for name, member in extra.items() if member is not None},
    )


def load_origins(
    directory: str | Path, corner_zyx: Sequence[int], shape: Sequence[int] | None = None
) -> dict[int, OriginInfo]:
    """Loads where the segments of a finished subvolume were seeded.

    Args:
      directory: the segmentation's folder.
      corner_zyx: first voxel of the subvolume.
      shape: its shape [z, y, x], where it is known; a file that declares far more is refused.

    Raises:
      UserError: no such subvolume, or a file that is damaged or unsafe.
    """
    path = existing_path(directory, corner_zyx, 'npz')
    if path is None:
        raise UserError(f'no segmentation at {subvolume_path(directory, corner_zyx, "npz")}')
    return _origins(read_npz(path, ['origins'], [OriginInfo], shape), path)


def load_segmentation(
    segmentation_dir: str | Path,
    corner_zyx: Sequence[int],
    allow_cpoint: bool = False,
    threshold: float | None = None,
    split_cc: bool = True,
    min_size: int = 0,
    mask_config: Any = None,
) -> tuple[np.ndarray, dict[int, OriginInfo]]:
    """Loads a segmented subvolume.

    Args:
      segmentation_dir: the segmentation's folder.
      corner_zyx: first voxel of the subvolume.
      allow_cpoint: take the checkpoint of an unfinished subvolume where there is no result.
      threshold: voxels whose stored probability is lower become background.
      split_cc: gives every 6-connected component an id of its own, 1..n; origins follow the id
        that a component came from.
      min_size: segments with fewer voxels become background.
      mask_config: MaskConfigs message, or a sequence of `ffn.volumes.masks.Mask`; masked voxels become
        background.

    Returns:
      uint64 [z, y, x] labels, and {id: OriginInfo}.

    Raises:
      UserError: no such subvolume, or a file that is damaged or unsafe.
    """
    path = existing_path(segmentation_dir, corner_zyx, 'npz')
    if path is None and allow_cpoint:
        path = existing_path(segmentation_dir, corner_zyx, 'cpoint')
    if path is None:
        raise UserError(f'no segmentation at {subvolume_path(segmentation_dir, corner_zyx, "npz")}')
    from ffn.utils.labels import clear_unlabelled

    data = read_npz(path, ['segmentation', 'origins'], [OriginInfo])
    labels = clear_unlabelled(_labels(data, path))
    labels = labels if labels.dtype.kind == 'u' else labels.astype(np.uint64)
    origins = _origins(data, path)
    if threshold is not None:
        # Segments without a probability, such as prefilled ones in older files, are kept.
        too_low = dequantize_probability(np.arange(256)) < np.float32(threshold)
        # A checkpoint holds its own.
        member, suffix = ('seg_prob', 'cpoint') if path.suffix == '.cpoint' else ('qprob', 'prob')
        found = existing_path(segmentation_dir, corner_zyx, suffix)
        if found is None:
            raise UserError(
                f'a probability threshold is asked for, but {path.with_suffix(".prob")} is not there'
            )
        labels[too_low[_load_qprob(found, member, labels.shape)]] = 0
    if len(masks := getattr(mask_config, 'masks', mask_config) or ()):
        from ffn.volumes.masks import Mask, MaskBuilder

        masks = [one if isinstance(one, Mask) else Mask.from_proto(one) for one in masks]
        with MaskBuilder() as builder:
            labels[builder.build(masks, Box.from_zyx(corner_zyx, labels.shape))] = 0
    import fastremap

    if split_cc:
        labels, origins = split_components(labels, origins)
    if min_size > 0:
        ids, counts = fastremap.unique(labels, return_counts=True)
        labels = fastremap.mask(labels, [int(i) for i in ids[counts < min_size] if i != 0])
    if min_size > 0 or not split_cc:
        kept = set(fastremap.unique(labels).tolist())
        origins = {i: origin for i, origin in origins.items() if i in kept}
    return labels.astype(np.uint64, copy=False), dict(origins)


def split_components(
    labels: np.ndarray, origins: Mapping[int, OriginInfo]
) -> tuple[np.ndarray, dict[int, OriginInfo]]:
    """Gives every 6-connected component of every label an id of its own.

    Args:
      labels: unsigned [z, y, x].
      origins: id → origin.

    Returns:
      uint64 [z, y, x] with ids 1..n, and the origins under the new ids.
    """
    import cc3d
    import fastremap

    components = cc3d.connected_components(labels, connectivity=6, out_dtype=np.uint64)
    pairs = fastremap.component_map(components, labels) if origins and components.any() else {}
    split = {
        int(component): origins[original]
        for component, label in pairs.items()
        if component and (original := int(label)) in origins
    }
    return components, split


def read_labels(path: Path) -> np.ndarray:
    """Reads the labels of a subvolume as they are stored.

    Args:
      path: the npz file.

    Returns:
      Integers [z, y, x].

    Raises:
      UserError: a file that is damaged, or holds something else.
    """
    return _labels(read_npz(path, ['segmentation'], []), path)


def read_origins(path: Path) -> dict[int, OriginInfo]:
    """Reads where the segments of a subvolume were seeded; see `load_origins`.

    Args:
      path: the npz file.

    Raises:
      UserError: a file that is damaged or unsafe.
    """
    return _origins(read_npz(path, ['origins'], [OriginInfo]), path)


def _labels(data: Mapping[str, Any], path: Path) -> np.ndarray:
    labels = data.get('segmentation')
    if not isinstance(labels, np.ndarray) or labels.ndim != 3:
        raise UserError(f'{path} holds no 3-d segmentation; {REMOVE_DAMAGED}')
    if labels.dtype.kind not in 'iub':
        raise UserError(f'{path} holds {labels.dtype}; labels must be integers')
    return labels


def _origins(data: Mapping[str, Any], path: Path) -> dict[int, OriginInfo]:
    try:
        return {
            int(i): OriginInfo(Zyx.of(start)[:3], int(iters), float(seconds))
            for i, (start, iters, seconds) in data.get('origins', {}).items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f'{path}: origins is no dict of OriginInfo ({error})') from error


def _load_qprob(path: Path, member: str, shape: Sequence[int]) -> np.ndarray:
    qprob = read_npz(path, [member], [], shape).get(member)
    if qprob is None or qprob.dtype != np.uint8 or qprob.shape != tuple(shape):
        raise UserError(f'{path} holds no {member}, uint8 of shape {tuple(shape)}')
    return qprob
