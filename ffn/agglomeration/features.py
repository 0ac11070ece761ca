"""What is known about a pair, as numbers: resegmentation, sizes, contact, image and orientation there.

Names of `FEATURES`, in the box of ±analysis_radius around the decision point; of what is measured on both sides, the
smaller and the larger value count, so that it does not matter which segment is named first:

- `distance`: of the point from the two segments.
- `iou`: intersection over union of the two resegmented objects.
- `own_*`, `other_*`: fraction of its own segment, and of the other one, that a resegmented object covers.
- `deleted_*`: voxels that were deleted while growing, as a fraction of the object.
- `grown`: resegmented objects with any voxels, 0 to 2.
- `found_*`, `size_*`: log10(1 + voxels) of the resegmented objects and of the segments.
- `depth_*`: largest distance to the surface of the segments.
- `sure_there_*`, `sure_between_*`: mean probability of a resegmented object in the other segment, and along the contact.
- `contact`: log10(1 + area) of the faces between the segments; `contact_fraction`: the area compared with a face of a
  cube as large as the smaller segment; `contact_flatness`: 1 where it is a plane, 0 where it encloses one of them.
- `image_mean`, `image_low`, `image_high`, `image_spread`: mean, lowest and highest tenth and standard deviation of the image
  along the contact, in standard deviations from its mean inside the segments.
- `axes`: |cosine| of the angle between the long axes of the two segments; `axis_normal_*`: between an axis and the
  normal of the contact; `axis_across_*`: between an axis and the line that joins the centres; all 1 where the two go on
  end to end.
- `elongation_*`: from 0, as long as wide, to 1, a line.

Lengths and areas are in the unit of the voxel size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffn.agglomeration.contact import cosine, find_contact, image_at, shape_of
from ffn.agglomeration.evidence import (
    analysed_box,
    analysed_probabilities,
    compare_pair,
    load_result,
)
from ffn.inference import resegmentation_pb2
from ffn.inference.serialization import voxel_size_zyx
from ffn.inference.storage import dequantize_probability
from ffn.volumes.volume import Volume

# Of the features: fits of another version are told; `evidence_table` has a version of its own, to be raised as well.
VERSION = 3
_BOTH = (
    'own', 'other', 'deleted', 'sure_there', 'sure_between', 'found', 'size', 'depth',
    'axis_normal', 'axis_across', 'elongation',
)  # fmt: skip
FEATURES = (
    'distance', 'iou', 'grown', 'contact', 'contact_fraction', 'contact_flatness',
    'image_mean', 'image_low', 'image_high', 'image_spread', 'axes',
    *(f'{name}_{end}' for name in _BOTH for end in ('min', 'max')),
)  # fmt: skip


def measure_pair(
    path: str | Path, distance: float, segmentation: Volume, image: Volume
) -> tuple[resegmentation_pb2.EvalResult, np.ndarray]:
    """Measures all that is known about a pair.

    Args:
      path: its result of resegmentation.
      distance: of the candidate.
      segmentation: labels.
      image: of one channel.

    Returns:
      The scores of resegmentation, and float64 [features], in the order of FEATURES.

    Raises:
      UserError: see `ffn.agglomeration.evidence.evaluate_pair`; also an image that does not cover the box.
    """
    data, request = load_result(path)
    box = analysed_box(data, request)
    labels = segmentation.read(box)
    scores = compare_pair(data, request, labels).eval
    point = request.points[0]
    masks = labels == point.id_a, labels == point.id_b
    found = {'distance': distance, **_resegmented(scores)}
    grown = [
        np.nan_to_num(dequantize_probability(p)) for p in analysed_probabilities(data, request)
    ]
    found |= _at_contact(*masks, image.read(box), grown, voxel_size_zyx(request.inference))
    return scores, np.array([found[name] for name in FEATURES])


def _resegmented(scores: resegmentation_pb2.EvalResult) -> dict[str, float]:
    a, b = scores.from_a, scores.from_b
    return {
        'iou': scores.iou,
        'grown': float(sum(side.num_voxels > 0 for side in (a, b))),
        **_ends('own', a.segment_a_consistency, b.segment_b_consistency),
        **_ends('other', a.segment_b_consistency, b.segment_a_consistency),
        **_ends('deleted', *(side.deleted_voxels / max(side.num_voxels, 1) for side in (a, b))),
        **_ends('found', *(math.log10(1 + side.num_voxels) for side in (a, b))),
        **_ends('size', *(math.log10(1 + n) for n in (scores.num_voxels_a, scores.num_voxels_b))),
        **_ends('depth', scores.max_edt_a, scores.max_edt_b),
    }


def _at_contact(
    a: np.ndarray,
    b: np.ndarray,
    image: np.ndarray,
    grown: Sequence[np.ndarray],
    voxel_size: tuple[float, float, float],
) -> dict[str, float]:
    """Measures the contact; `grown` are the probabilities of the objects that were grown, [z, y, x], of a first."""
    contact = find_contact(a, b, voxel_size)
    seen = image_at(contact.voxels, a | b, image)
    shapes = shape_of(a, voxel_size), shape_of(b, voxel_size)
    across = shapes[1].centre - shapes[0].centre
    volume = math.prod(voxel_size) * min(np.count_nonzero(a), np.count_nonzero(b))
    return {
        'contact': math.log10(1 + contact.area),
        'contact_fraction': contact.area / volume ** (2 / 3) if volume else 0.0,
        'contact_flatness': float(np.linalg.norm(contact.normal)),
        'image_mean': seen.mean,
        'image_low': seen.low,
        'image_high': seen.high,
        'image_spread': seen.spread,
        'axes': cosine(shapes[0].axis, shapes[1].axis),
        **_ends('sure_there', *_means(grown, (b, a))),
        **_ends('sure_between', *_means(grown, (contact.voxels, contact.voxels))),
        **_ends('axis_normal', *(cosine(shape.axis, contact.normal) for shape in shapes)),
        **_ends('axis_across', *(cosine(shape.axis, across) for shape in shapes)),
        **_ends('elongation', *(shape.elongation for shape in shapes)),
    }


def _means(grown: Sequence[np.ndarray], where: Sequence[np.ndarray]) -> list[float]:
    """Mean of each where it counts; 0 for those that were not grown, and where nothing counts."""
    empty = np.zeros(0)
    chosen = [p[mask] for p, mask in zip(grown, where, strict=False)]
    return [float(p.mean()) if len(p) else 0.0 for p in (*chosen, empty, empty)][:2]


def _ends(name: str, a: float, b: float) -> dict[str, float]:
    return {f'{name}_min': min(a, b), f'{name}_max': max(a, b)}
