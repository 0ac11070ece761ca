"""Evidence from resegmentation: are two segments parts of the same object?

Januszewski et al. 2018, Methods, "Agglomeration": two segments are joined if each, when grown again, covers
both of them, if the two results agree, and if few voxels were deleted while growing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffn.agglomeration.resegmentation import analysis_box, depth_inside
from ffn.inference import inference_pb2, resegmentation_pb2, storage
from ffn.inference.core.canvas import Extent
from ffn.inference.serialization import voxel_size_zyx
from ffn.utils.errors import UserError, damage_told
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.labels import joint_histogram
from ffn.utils.npz import read_npz, stored_bytes
from ffn.utils.settings import setting
from ffn.volumes.volume import Volume

# What to do about a damaged file of an agglomeration.
ADVICE = 'remove it, and run again'
_MEMBERS = ('probs', 'deletes', 'histories', 'start_points', 'request', 'corner_zyx')


@dataclass(frozen=True)
class Thresholds:
    """When two segments are joined."""

    min_iou: float = setting(
        'intersection over union of the two resegmented objects must be above this',
        default=0.8,
        metavar='F',
    )
    min_consistency: float = setting(
        'each resegmented object must cover more than this fraction of either segment',
        default=0.6,
        metavar='F',
    )
    max_deleted: float = setting(
        'deleted voxels as a fraction of the object must be below this for at least one of the two',
        default=0.02,
        metavar='F',
    )

    def accept(self, result: resegmentation_pb2.EvalResult) -> bool:
        """Whether the two segments are joined.

        Args:
          result: scores of `evaluate_pair`.
        """
        return bool(self.accept_all(np.array([scores_of(result)]))[0])

    def accept_all(self, scores: np.ndarray) -> np.ndarray:
        """Which pairs are joined.

        Args:
          scores: float64 [n, len(SCORES)], NaN where there are none; such pairs are not joined. Fractions have the
            precision of 32 bits, in which they are compared: one that equals a threshold is not above it.

        Returns:
          bool [n].
        """
        iou, consistencies = scores[:, 0].astype(np.float32), scores[:, 1:5].astype(np.float32)
        deleted, voxels = scores[:, 5:7], scores[:, 7:9]
        share = deleted / np.maximum(voxels, 1)
        return (
            (voxels > 0).all(axis=1)
            & (consistencies > np.float32(self.min_consistency)).all(axis=1)
            & (share.min(axis=1) < self.max_deleted)
            & (iou > np.float32(self.min_iou))
        )


# Scores of a pair as plain numbers, columns of merges.csv.
SCORES = (
    'iou', 'a_in_from_a', 'b_in_from_a', 'a_in_from_b', 'b_in_from_b',
    'deleted_from_a', 'deleted_from_b', 'voxels_from_a', 'voxels_from_b',
)  # fmt: skip


def scores_of(result: resegmentation_pb2.EvalResult) -> tuple[float, ...]:
    """The scores of a pair, in the order of SCORES; NaN for those of an object that was not grown."""
    iou = result.iou if result.HasField('iou') else math.nan
    sides = [
        (s.segment_a_consistency, s.segment_b_consistency, s.deleted_voxels, s.num_voxels)
        if result.HasField(name)
        else (math.nan,) * 4
        for name, s in (('from_a', result.from_a), ('from_b', result.from_b))
    ]
    (*parts_a, deleted_a, voxels_a), (*parts_b, deleted_b, voxels_b) = sides
    return (iou, *parts_a, *parts_b, deleted_a, deleted_b, voxels_a, voxels_b)


def load_result(path: str | Path) -> tuple[dict[str, Any], inference_pb2.ResegmentationRequest]:
    """Loads a result of `ffn.agglomeration.resegmentation.process_point`.

    Returns:
      Its members, see doc/formats.md (`start_points` in x, y, z), and the request with its point.

    Raises:
      UserError: the file does not exist, is damaged or unsafe.
    """
    data = read_npz(path, [*_MEMBERS, 'recovered'], [], advice=ADVICE)
    if missing := [name for name in _MEMBERS if name not in data]:
        raise UserError(f'{path} is not a result of resegmentation: it lacks {missing[0]}')
    with damage_told(path, ADVICE):
        _check_members(data)
        request = inference_pb2.ResegmentationRequest.FromString(
            stored_bytes(data['request'], path)
        )
    if not request.points:
        raise UserError(f'{path} is not a result of resegmentation: its request has no point')
    if any(map(_lengths_differ, data['deletes'], data['histories'])):
        raise UserError(f'{path} is damaged: its deletes and histories differ in length')
    if _starts_are_zyx(data):
        data['start_points'] = [[one[::-1] for one in starts] for starts in data['start_points']]
    return data, request


def _check_members(data: Mapping[str, Any]) -> None:
    probs, corner = data['probs'], data['corner_zyx']
    if probs.dtype != np.uint8 or probs.ndim != 4 or not probs.size:
        raise ValueError(f'probs is {probs.dtype} of shape {probs.shape}')
    if corner.dtype.kind not in 'iu' or corner.shape != (3,):
        raise ValueError(f'corner_zyx is {corner.dtype} of shape {corner.shape}')
    for name in ('deletes', 'histories', 'start_points'):
        if len(data[name]) != len(probs):
            raise ValueError(f'{name} has {len(data[name])} entries, and probs {len(probs)}')
    for deletes, history in zip(data['deletes'], data['histories'], strict=True):
        if np.ndim(deletes) != 1 or np.shape(history)[1:] != (3,):
            raise ValueError(f'deletes and histories of shapes {deletes.shape}, {history.shape}')
    if any(len(one) != 3 for starts in data['start_points'] for one in starts):
        raise ValueError('start_points are no positions')


def _lengths_differ(deletes: Sequence[int], history: Sequence[Sequence[int]]) -> bool:
    return len(deletes) != len(history)


def _starts_are_zyx(data: Mapping[str, Any]) -> bool:
    """Whether a result is one that version 0.2 or earlier wrote, the only ones with seeds in z, y, x."""
    return 'recovered' in data and data['request'].dtype.kind == 'S'


def evaluate_pair(
    path: str | Path, segmentation: Volume
) -> resegmentation_pb2.PairResegmentationResult:
    """Compares the objects grown from two segments with each other and with the segments.

    Everything is measured within ±analysis_radius of the point, clipped to the resegmented box, which is
    all of it in a request without analysis_radius; deleted voxels are those of steps whose field of view
    was centred there. Depths (`max_edt`) are in the unit of the voxel size of the stored request, in voxels where
    it has none.

    Args:
      path: result for a point with two segments.
      segmentation: the volume named by the request's init_segmentation.

    Returns:
      The scores; those of the second segment are missing if it was not grown because the first had failed.

    Raises:
      UserError: see `load_result`; also a point with a single segment.
    """
    data, request = load_result(path)
    point = request.points[0]
    if not point.id_b:
        raise UserError(f'{path} belongs to a point with a single segment, not to a pair')
    labels = segmentation.require_labels().read(analysed_box(data, request))
    return compare_pair(data, request, labels)


def analysed_box(data: Mapping[str, Any], request: inference_pb2.ResegmentationRequest) -> Box:
    """Returns the box, in the volume, in which a result is evaluated.

    Args:
      data: see `load_result`.
      request: the same.
    """
    nearby, corner = _nearby(data, request), data['corner_zyx']
    start = [int(c) + s.start for c, s in zip(corner, nearby, strict=True)]
    return Box.from_zyx(start, data['probs'][0][nearby].shape)


def analysed_probabilities(
    data: Mapping[str, Any], request: inference_pb2.ResegmentationRequest
) -> np.ndarray:
    """Returns the probabilities in the `analysed_box`, uint8 [n, z, y, x], quantized."""
    probabilities: np.ndarray = data['probs'][(slice(None), *_nearby(data, request))]
    return probabilities


def _nearby(data: Mapping[str, Any], request: inference_pb2.ResegmentationRequest) -> Extent:
    point = Xyz.from_proto(request.points[0].point)
    center = Zyx.of(np.subtract(point.zyx, data['corner_zyx']))
    is_limited = request.HasField('analysis_radius')
    radius = Xyz.from_proto(request.analysis_radius) if is_limited else None
    return analysis_box(center, radius, data['probs'].shape[1:])


def compare_pair(
    data: Mapping[str, Any], request: inference_pb2.ResegmentationRequest, labels: np.ndarray
) -> resegmentation_pb2.PairResegmentationResult:
    """Compares the objects of a result, see `evaluate_pair`.

    Args:
      data: see `load_result`.
      request: the same; its point has two segments.
      labels: integer [z, y, x], the segmentation in the `analysed_box`.
    """
    point = request.points[0]
    result = resegmentation_pb2.PairResegmentationResult(
        point=point.point, id_a=point.id_a, id_b=point.id_b, segmentation_radius=request.radius
    )
    probs, corner = data['probs'], Zyx.of(data['corner_zyx'])
    nearby, is_limited = _nearby(data, request), request.HasField('analysis_radius')
    originals = [labels == point.id_a, labels == point.id_b]
    options = request.inference.inference_options
    found = [_mask(prob[nearby], options.segment_threshold) for prob in probs]
    voxel_size = voxel_size_zyx(request.inference)

    scores = result.eval
    scores.radius.CopyFrom(request.analysis_radius if is_limited else request.radius)
    scores.max_edt_a, scores.max_edt_b = (_max_edt(mask, voxel_size) for mask in originals)
    scores.num_voxels_a, scores.num_voxels_b = (int(np.count_nonzero(m)) for m in originals)
    for i, side in enumerate((scores.from_a, scores.from_b)[: len(found)]):
        side.num_voxels = int(np.count_nonzero(found[i]))
        side.deleted_voxels = _deleted_within(nearby, data['deletes'][i], data['histories'][i])
        side.segment_a_consistency, side.segment_b_consistency = (
            _fraction(found[i] & mask, mask) for mask in originals
        )
        side.max_edt = _max_edt(found[i], voxel_size)
        if len(starts := data['start_points'][i]):
            side.origin.CopyFrom(_in_volume(starts[-1], corner).to_proto())
    if len(found) == 2:
        scores.iou = _fraction(found[0] & found[1], found[0] | found[1])
    return result


def evaluate_endpoint(
    path: str | Path, segmentation: Volume
) -> resegmentation_pb2.EndpointResegmentationResult:
    """Lists the segments that a single segment grew into on an otherwise empty canvas.

    Args:
      path: result for a point with a single segment.
      segmentation: the volume named by the request's init_segmentation.

    Returns:
      The size of every segment in the box, and how many of its voxels were covered.

    Raises:
      UserError: see `load_result`.
    """
    data, request = load_result(path)
    point = request.points[0]
    found = _mask(data['probs'][0], request.inference.inference_options.segment_threshold)
    labels = segmentation.require_labels().read(Box.from_zyx(data['corner_zyx'], found.shape))
    result = resegmentation_pb2.EndpointResegmentationResult(
        id=point.id_a, num_voxels=int(np.count_nonzero(found)), segmentation_radius=request.radius
    )
    if len(starts := data['start_points'][0]):
        result.start.CopyFrom(_in_volume(starts[-1], Zyx.of(data['corner_zyx'])).to_proto())
    voxels: dict[int, list[int]] = {}
    for i, is_covered, count in joint_histogram(labels, found).tolist():
        voxels.setdefault(i, [0, 0])[is_covered] = count
    for i, (uncovered, covered) in voxels.items():
        info = resegmentation_pb2.OverlapInfo(
            num_overlapping=covered, num_original=uncovered + covered
        )
        if i == point.id_a:
            result.source.CopyFrom(info)
        elif i > 0 and info.num_overlapping:
            result.overlaps[i].CopyFrom(info)
    return result


def _in_volume(start_xyz: Sequence[int], corner: Zyx) -> Xyz:
    return Xyz(*(int(a + b) for a, b in zip(start_xyz, corner.xyz, strict=True)))


def _deleted_within(nearby: Extent, deletes: np.ndarray, history: np.ndarray) -> int:
    """Sums the voxels deleted by steps whose field of view was centred in a box."""
    positions = np.reshape(np.asarray(history, np.int64), (-1, 3))
    first, end = ([getattr(axis, name) for axis in nearby] for name in ('start', 'stop'))
    within = np.all((positions >= first) & (positions < end), axis=1)
    return int(np.sum(np.asarray(deletes)[within]))


def _mask(qprob: np.ndarray, threshold: float) -> np.ndarray:
    """Returns where a quantized probability reaches the threshold; 0 means not visited."""
    with np.errstate(invalid='ignore'):
        return storage.dequantize_probability(qprob) >= threshold


def _fraction(part: np.ndarray, whole: np.ndarray) -> float:
    total = np.count_nonzero(whole)
    return np.count_nonzero(part) / total if total else 0.0


def _max_edt(mask: np.ndarray, voxel_size_zyx: tuple[float, float, float]) -> float:
    if not mask.any():
        return 0.0
    return float(depth_inside(mask, voxel_size_zyx).max())
