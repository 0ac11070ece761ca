"""Judging what was segmented again around a decision point: are two segments one?

Januszewski et al. 2018, Methods, "Agglomeration": two segments are joined if each, grown again, covers
both of them, if both results agree, and if the network had to take little back on its way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import edt
import numpy as np

from ffn.agglomeration.resegmentation import around
from ffn.inference import inference_pb2, resegmentation_pb2, storage
from ffn.inference.request import voxel_size_zyx
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.labels import joint_histogram
from ffn.utils.npz import read_npz
from ffn.volumes.volume import Volume

_MEMBERS = ('probs', 'deletes', 'start_points', 'request', 'corner_zyx')


@dataclass(frozen=True)
class Thresholds:
    """When two segments are joined.

    Attributes:
      min_iou: overlap of the two results, in voxels of both over voxels of either, must be above.
      min_consistency: of both originals, the part that is in either result must be above.
      max_deleted: voxels that steps took away again, over voxels of the result, must be below for one
        of the two results at least.
    """

    min_iou: float = 0.8
    min_consistency: float = 0.6
    max_deleted: float = 0.02

    def accept(self, result: resegmentation_pb2.EvalResult) -> bool:
        """Whether the two segments are one.

        Args:
          result: of `evaluate_pair`.
        """
        sides = result.from_a, result.from_b
        if not all(side.num_voxels for side in sides):
            return False
        consistent = (
            min(side.segment_a_consistency, side.segment_b_consistency) > self.min_consistency
            for side in sides
        )
        deleted = min(side.deleted_voxels / side.num_voxels for side in sides)
        return result.iou > self.min_iou and all(consistent) and deleted < self.max_deleted


def load_result(path: str | Path) -> tuple[dict, inference_pb2.ResegmentationRequest]:
    """Loads what `ffn.agglomeration.resegmentation.process_point` wrote.

    Returns:
      Its members, see doc/formats.md, and the request that was carried out, with its point.

    Raises:
      UserError: no such file, or one that is damaged or unsafe.
    """
    data = read_npz(path, _MEMBERS, [])
    if missing := [name for name in _MEMBERS if name not in data]:
        raise UserError(f'{path} is no result of resegmentation: it lacks {missing[0]}')
    request = inference_pb2.ResegmentationRequest.FromString(data['request'].item())
    if not request.points:
        raise UserError(f'{path} is no result of resegmentation: its request has no point')
    return data, request


def evaluate_pair(
    path: str | Path, segmentation: Volume
) -> resegmentation_pb2.PairResegmentationResult:
    """Compares what grew from two segments with each other and with the segments.

    Everything is measured in the box of ±analysis_radius around the point, as far as it was segmented
    again; deleted voxels are those of all steps, wherever they were.

    Args:
      path: result of a point with two segments.
      segmentation: the volume that the request's init_segmentation names.

    Returns:
      The scores; without those of a segment that was not grown, because growth of the other had failed
      before.

    Raises:
      UserError: see `load_result`; also a point with one segment.
    """
    data, request = load_result(path)
    point = request.points[0]
    if not point.id_b:
        raise UserError(f'{path} is of a point with one segment; there is no pair in it')
    result = resegmentation_pb2.PairResegmentationResult(
        point=point.point, id_a=point.id_a, id_b=point.id_b, segmentation_radius=request.radius
    )
    probs, corner = data['probs'], Zyx.of(data['corner_zyx'])
    center = Zyx.of(np.subtract(Xyz.from_proto(point.point).zyx, corner))
    nearby = around(center, request.analysis_radius)
    box = Box.from_zyx(np.add(corner, [s.start for s in nearby]), probs[0][nearby].shape)
    labels = segmentation.read(box)
    originals = [labels == point.id_a, labels == point.id_b]
    options = request.inference.inference_options
    found = [_mask(prob[nearby], options.segment_threshold) for prob in probs]
    voxel_size = voxel_size_zyx(request.inference)

    scores = result.eval
    scores.radius.CopyFrom(request.analysis_radius)
    scores.max_edt_a, scores.max_edt_b = (_max_edt(mask, voxel_size) for mask in originals)
    scores.num_voxels_a, scores.num_voxels_b = (int(np.count_nonzero(m)) for m in originals)
    for i, side in enumerate((scores.from_a, scores.from_b)[: len(found)]):
        side.num_voxels = int(np.count_nonzero(found[i]))
        side.deleted_voxels = int(np.sum(data['deletes'][i]))
        side.segment_a_consistency, side.segment_b_consistency = (
            _fraction(found[i] & mask, mask) for mask in originals
        )
        side.max_edt = _max_edt(found[i], voxel_size)
        if starts := data['start_points'][i]:
            side.origin.CopyFrom(Zyx.of(np.add(corner, starts[-1])).xyz.to_proto())
    if len(found) == 2:
        scores.iou = _fraction(found[0] & found[1], found[0] | found[1])
    return result


def evaluate_endpoint(
    path: str | Path, segmentation: Volume
) -> resegmentation_pb2.EndpointResegmentationResult:
    """Says into which segments one segment grew, in a canvas that was empty but for it.

    Args:
      path: result of a point with one segment.
      segmentation: the volume that the request's init_segmentation names.

    Returns:
      Voxels of every segment of the box, and how many of them were covered.

    Raises:
      UserError: see `load_result`.
    """
    data, request = load_result(path)
    point = request.points[0]
    found = _mask(data['probs'][0], request.inference.inference_options.segment_threshold)
    labels = segmentation.read(Box.from_zyx(data['corner_zyx'], found.shape))
    result = resegmentation_pb2.EndpointResegmentationResult(
        id=point.id_a, num_voxels=int(np.count_nonzero(found)), segmentation_radius=request.radius
    )
    if starts := data['start_points'][0]:
        start = Zyx.of(np.add(data['corner_zyx'], starts[-1]))
        result.start.CopyFrom(start.xyz.to_proto())
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


def _mask(qprob: np.ndarray, threshold: float) -> np.ndarray:
    """Where a quantised probability is one of the object; 0 is nowhere visited."""
    with np.errstate(invalid='ignore'):
        return storage.dequantize_probability(qprob) >= threshold


def _fraction(part: np.ndarray, whole: np.ndarray) -> float:
    total = np.count_nonzero(whole)
    return np.count_nonzero(part) / total if total else 0.0


def _max_edt(mask: np.ndarray, voxel_size_zyx: tuple[float, float, float]) -> float:
    if not mask.any():
        return 0.0
    return float(edt.edt(np.ascontiguousarray(mask), anisotropy=voxel_size_zyx).max())
