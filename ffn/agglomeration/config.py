"""Configuration of resegmentation: a ResegmentationRequest, completed, checked and frozen.

`make_config` is the edge; nothing behind it sees the message, but for the copy that results store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ffn.inference import inference_pb2, serialization
from ffn.inference.config import InferenceConfig
from ffn.inference.request import OF_INIT_SEGMENTATION, complete_request
from ffn.inference.serialization import absolute_paths
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.utils.protos import read_text_or_file
from ffn.utils.rounding import typed
from ffn.utils.texts import check_folder
from ffn.volumes.volume import VolumeSource


class Resegmentation(NamedTuple):
    """What is resegmented around a point.

    Attributes:
      id_a: a segment.
      id_b: another one; 0 to extend a single segment.
      point: decision point, x, y, z in the volume.
    """

    id_a: int
    id_b: int
    point: Xyz


@dataclass(frozen=True)
class ResegmentationConfig:
    """How segments are grown again; see inference.proto for what the fields mean.

    Attributes:
      inference: network, image and options.
      segmentation: the segmentation whose segments are grown again.
      output_directory: folder of the results.
      radius: half the size of the box that is resegmented, voxels.
      analysis_radius: half the size of the box in which results are compared, voxels; None: all of it.
      exclusion_radius: no further seed this close to one that failed, voxels.
      init_exclusion_radius: no first seed this close to the point, voxels; None: no such rule.
      segment_recovery_fraction: fraction of the original that must be recovered; 0: min_segment_size.
      max_retry_iters: number of seeds that are tried.
      terminate_early: give up on a pair once one of the two segments cannot be recovered.
      subdir_digits: hexadecimal digits that name the subfolder of a result; 0: no subfolders.
      request: the message without points, serialized; see `to_message`.
    """

    inference: InferenceConfig
    segmentation: VolumeSource
    output_directory: Path
    radius: Xyz
    analysis_radius: Xyz | None
    exclusion_radius: Xyz
    init_exclusion_radius: Xyz | None
    segment_recovery_fraction: float
    max_retry_iters: int
    terminate_early: bool
    subdir_digits: int
    request: bytes = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, least in (
            ('radius', 1),
            ('exclusion_radius', 0),
            ('init_exclusion_radius', 0),
            ('analysis_radius', 0),
        ):
            value = getattr(self, name)
            if value is not None and min(value) < least:
                raise UserError(
                    f'{name} of the resegmentation request is {value}; expected {least} or more'
                )
        if not 0 <= self.segment_recovery_fraction <= 1:
            raise UserError(
                f'segment_recovery_fraction is {self.segment_recovery_fraction:g}; expected 0 to 1'
            )
        if self.max_retry_iters < 1:
            raise UserError(f'max_retry_iters is {self.max_retry_iters}; expected 1 or more')
        if not 0 <= self.subdir_digits <= 32:
            raise UserError(f'subdir_digits is {self.subdir_digits}; expected 0 to 32')


def read_config(text_or_path: str) -> ResegmentationConfig:
    """Reads a ResegmentationRequest in text format for a search of all pairs; its paths become absolute.

    Raises:
      UserError: it cannot be parsed, is incomplete, or has points.
    """
    request = read_text_or_file(
        text_or_path, inference_pb2.ResegmentationRequest(), '--resegmentation_request'
    )
    if request.points:
        raise UserError(
            f'points is set, {len(request.points)} of them: ffn agglomerate looks for all pairs within --max_distance, so '
            'leave it out; for these points alone, call ffn.agglomeration.resegmentation.process_point in Python '
            '(doc/reference.md, "Given points")'
        )
    check_outputs(request)
    absolute_paths(request)
    return make_config(request)


def check_outputs(request: inference_pb2.ResegmentationRequest) -> None:
    """Checks that a request names its output and its segmentation.

    Raises:
      UserError: names the field.
    """
    if not request.output_directory:
        raise UserError('the resegmentation request does not set output_directory')
    check_folder(request.output_directory, 'output_directory')
    if not request.inference.HasField('init_segmentation'):
        raise UserError('the resegmentation request does not set inference.init_segmentation')


def make_config(request: inference_pb2.ResegmentationRequest) -> ResegmentationConfig:
    """Completes a request from the training of its network, checks it and freezes it.

    Args:
      request: left unchanged; its points are the caller's, see `ffn.agglomeration.resegmentation.process_point`.

    Raises:
      UserError: names the field.
    """
    check_outputs(request)
    for name in OF_INIT_SEGMENTATION:
        if getattr(request.inference.inference_options, name):
            raise UserError(
                f'{name} is set: it is about segments that stay, and resegmentation grows them anew; leave it out'
            )
    stored = inference_pb2.ResegmentationRequest.FromString(request.SerializeToString())
    del stored.points[:]
    return ResegmentationConfig(
        inference=complete_request(stored.inference),
        segmentation=VolumeSource.from_proto(
            stored.inference.init_segmentation, 'init_segmentation'
        ),
        output_directory=Path(stored.output_directory),
        radius=Xyz.from_proto(stored.radius),
        analysis_radius=_radius_if_set(stored, 'analysis_radius'),
        exclusion_radius=Xyz.from_proto(stored.exclusion_radius),
        init_exclusion_radius=_radius_if_set(stored, 'init_exclusion_radius'),
        segment_recovery_fraction=typed(stored.segment_recovery_fraction),
        max_retry_iters=stored.max_retry_iters,
        terminate_early=stored.terminate_early,
        subdir_digits=stored.subdir_digits,
        request=stored.SerializeToString(),
    )


def _radius_if_set(request: inference_pb2.ResegmentationRequest, name: str) -> Xyz | None:
    return Xyz.from_proto(getattr(request, name)) if request.HasField(name) else None


def to_message(
    config: ResegmentationConfig, points: Sequence[Resegmentation] = ()
) -> inference_pb2.ResegmentationRequest:
    """Returns the request of a configuration, with the given points."""
    request = inference_pb2.ResegmentationRequest.FromString(config.request)
    request.inference.CopyFrom(serialization.to_message(config.inference))
    for id_a, id_b, point in points:
        stored = request.points.add(id_a=id_a, point=point.to_proto())
        if id_b:
            stored.id_b = id_b
    return request
