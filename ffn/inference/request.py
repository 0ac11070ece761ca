"""Inference requests: read, completed, checked, and frozen into an `InferenceConfig`.

This happens once, where a request comes in. `ffn.inference.serialization` is the way back.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

from google.protobuf import message

from ffn.inference import inference_pb2
from ffn.inference.completion import fill_from_training
from ffn.inference.config import InferenceConfig, MaskingConfig, ShiftMaskConfig
from ffn.inference.core.options import CanvasOptions
from ffn.utils import bounding_box_pb2, protos
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, both_orders
from ffn.utils.logits import logit
from ffn.utils.plugins import json_args
from ffn.volumes.masks import Mask
from ffn.volumes.specs import absolute_spec
from ffn.volumes.volume import VolumeSource

_OF_MODEL = ('model_name', 'model_checkpoint_path')
_NEEDED = ('image', 'image_mean', 'image_stddev', *_OF_MODEL, 'inference_options')
_PROBABILITIES = ('init_activation', 'pad_value', 'move_threshold', 'segment_threshold')
_PATHS = (
    'model_checkpoint_path',
    'segmentation_output_dir',
    'reference_histogram',
    'directory',
    'output_directory',
)


def read_config(text_or_path: str, options: str = '', *, absolute: bool = False) -> InferenceConfig:
    """Reads an InferenceRequest in text format and makes a configuration of it.

    Args:
      text_or_path: the text, or the path of a file with it.
      options: InferenceOptions in text format (or a path) whose fields override the request's.
      absolute: make its paths absolute, for processes that run elsewhere.

    Raises:
      UserError: it cannot be parsed, or is incomplete.
    """
    request = parse_request(text_or_path, options)
    if absolute:
        absolute_paths(request)
    return complete_request(request)


def read_request(text_or_path: str, options: str = '') -> inference_pb2.InferenceRequest:
    """Reads an InferenceRequest in text format as a message, for notebooks that go on to change it.

    Args:
      text_or_path: see `read_config`.
      options: see `read_config`.

    Raises:
      UserError: it cannot be parsed, or is incomplete.
    """
    request = parse_request(text_or_path, options)
    complete_request(request)
    return request


def parse_request(text_or_path: str, options: str = '') -> inference_pb2.InferenceRequest:
    """Parses an InferenceRequest in text format, complete or not; see `read_config`.

    Raises:
      UserError: it cannot be parsed.
    """
    request = protos.read_text_or_file(
        text_or_path, inference_pb2.InferenceRequest(), '--inference_request'
    )
    if options:
        protos.read_text_or_file(options, request.inference_options, '--inference_options')
    return request


def complete_request(
    request: inference_pb2.InferenceRequest, quiet: bool = False
) -> InferenceConfig:
    """Takes over from the training of its network what a request does not set, and freezes it.

    Args:
      request: is completed in place.
      quiet: do not log what was taken over.

    Raises:
      UserError: it is incomplete even so.
    """
    fill_from_training(request, quiet)
    try:
        return make_config(request)
    except UserError as error:
        path = Path(request.model_checkpoint_path)
        if not request.model_checkpoint_path or any(path.parent.glob(f'{path.name}*')):
            raise
        raise UserError(
            f'there is no checkpoint at {path.absolute()}, whose training would say what the request '
            f'leaves out: {error}'
        ) from error


def make_config(
    request: inference_pb2.InferenceRequest, has_model: bool = False
) -> InferenceConfig:
    """Checks that a request has all that inference needs and nothing that it cannot do, and freezes it.

    Args:
      request: left as it is.
      has_model: a network is given, so that the request need not name one.

    Raises:
      UserError: names the field.
    """
    for name in _NEEDED:
        if not request.HasField(name) and not (has_model and name in _OF_MODEL):
            raise UserError(f'the inference request does not set {name}, which is needed')
    config = freeze_request(request)
    _check_numbers(config)
    alignment = request.alignment_options
    if alignment.type != inference_pb2.AlignmentOptions.NO_ALIGNMENT or alignment.save_raw:
        raise UserError(
            'alignment_options asks for an alignment, which is not supported; use NO_ALIGNMENT '
            'without save_raw and align the volume beforehand'
        )
    if config.histogram_masks and not config.reference_histogram:
        raise UserError('histogram_masks is set without reference_histogram, which it belongs to')
    return config


def freeze_request(request: inference_pb2.InferenceRequest) -> InferenceConfig:
    """Converts the fields of a request; `make_config` checks them as well."""
    size = request.voxel_size
    labels = None
    if request.HasField('init_segmentation'):
        labels = VolumeSource.from_proto(request.init_segmentation, 'init_segmentation')
    return InferenceConfig(
        image=VolumeSource.from_proto(request.image, 'image'),
        image_mean=request.image_mean,
        image_stddev=request.image_stddev,
        options=canvas_options(request.inference_options),
        voxel_size=(size.x, size.y, size.z) if request.HasField('voxel_size') else None,
        init_segmentation=labels,
        masking=masking_config(request),
        reference_histogram=request.reference_histogram,
        histogram_masks=_masks(request.histogram_masks),
        model_name=request.model_name,
        model_args=json_args(request.model_args, 'model_args'),
        model_checkpoint_path=request.model_checkpoint_path,
        use_ema=request.use_ema,
        precision=request.precision,
        seed_policy=request.seed_policy,
        seed_policy_args=json_args(request.seed_policy_args, 'seed_policy_args'),
        movement_policy_name=request.movement_policy_name,
        movement_policy_args=json_args(request.movement_policy_args, 'movement_policy_args'),
        segmentation_output_dir=request.segmentation_output_dir,
        checkpoint_interval=request.checkpoint_interval,
        batch_size=request.batch_size,
        concurrent_requests=request.concurrent_requests,
        request=request.SerializeToString(),
    )


def _check_numbers(config: InferenceConfig) -> None:
    if not 0 < config.image_stddev < math.inf:
        raise UserError(f'image_stddev is {config.image_stddev:g}; expected a positive number')
    if not math.isfinite(config.image_mean):
        raise UserError(f'image_mean is {config.image_mean:g}; expected a number')
    if not all(0 < size < math.inf for size in config.voxel_size_zyx):
        z, y, x = config.voxel_size_zyx
        raise UserError(f'voxel_size is x,y,z {x:g},{y:g},{z:g}; expected positive sizes')
    for name in ('batch_size', 'concurrent_requests'):
        if getattr(config, name) < 1:
            raise UserError(f'{name} is {getattr(config, name)}; expected 1 or more')


def canvas_options(options: inference_pb2.InferenceOptions) -> CanvasOptions:
    """Converts the probabilities of inference options to the logits of a canvas.

    Raises:
      UserError: a field that is missing, no probability, or negative where that means nothing.
    """
    for name in ('max_object_steps', 'max_object_voxels', 'min_segment_size'):
        if getattr(options, name) < 0:
            raise UserError(
                f'inference_options.{name} is {getattr(options, name)}; expected 1 or more, or 0 '
                'for no limit'
            )
    distance = Xyz.from_proto(options.min_boundary_dist)
    if min(distance) < 0:
        raise UserError(
            f'inference_options.min_boundary_dist is {distance}; expected 0 or more voxels'
        )
    if math.isnan(options.disco_seed_threshold):
        raise UserError('inference_options.disco_seed_threshold is nan; expected a fraction')
    logits = {name: _logit_field(options, name) for name in _PROBABILITIES}
    return CanvasOptions(
        init_activation=logits['init_activation'],
        pad_value=logits['pad_value'],
        move_threshold=logits['move_threshold'],
        segment_threshold=logits['segment_threshold'],
        disco_seed_threshold=options.disco_seed_threshold,
        min_boundary_dist=distance,
        min_segment_size=options.min_segment_size,
        max_object_steps=options.max_object_steps,
        max_object_voxels=options.max_object_voxels,
    )


def _logit_field(options: inference_pb2.InferenceOptions, name: str) -> float:
    if not options.HasField(name):
        raise UserError(f'inference_options.{name} is not set; it is needed, as a probability')
    value = getattr(options, name)
    if not 0 < value < 1:
        raise UserError(
            f'inference_options.{name} is {value:g}; expected a probability between 0 and 1'
        )
    return logit(value)


def _masks(configs: Iterable[inference_pb2.MaskConfig]) -> tuple[Mask, ...]:
    return tuple(map(Mask.from_proto, configs))


def masking_config(request: inference_pb2.InferenceRequest) -> MaskingConfig:
    """The masks of a request.

    Raises:
      UserError: a shift mask that is incomplete, or whose box is empty.
    """
    around, shift_mask = None, None
    if request.HasField('shift_mask_fov'):
        around = Box.from_proto(request.shift_mask_fov)
        if around.empty:
            raise UserError(
                f'shift_mask_fov has size {both_orders(around.size)}; expected positive sizes'
            )
    if request.HasField('shift_mask'):
        for name in ('shift_mask_scale', 'shift_mask_threshold'):
            if getattr(request, name) < 1:
                raise UserError(
                    f'{name} is {getattr(request, name)}; a shift_mask needs it, 1 or more'
                )
        shift_mask = ShiftMaskConfig(
            VolumeSource.from_proto(request.shift_mask, 'shift_mask'),
            request.shift_mask_scale,
            request.shift_mask_threshold,
            around,
        )
    return MaskingConfig(_masks(request.masks), _masks(request.seed_masks), shift_mask)


def voxel_size_zyx(request: inference_pb2.InferenceRequest) -> tuple[float, float, float]:
    """Physical size of a voxel in a request that may be incomplete; see `InferenceConfig`."""
    if not request.HasField('voxel_size'):
        return (1.0, 1.0, 1.0)
    return (request.voxel_size.z, request.voxel_size.y, request.voxel_size.x)


def read_box(text_or_path: str) -> Box:
    """Reads a BoundingBox in text format.

    Raises:
      UserError: it cannot be parsed, or has no positive size.
    """
    proto = protos.read_text_or_file(text_or_path, bounding_box_pb2.BoundingBox(), '--bounding_box')
    return _box(proto, f'--bounding_box {text_or_path!r}')


def read_boxes(text_or_path: str) -> list[Box]:
    """Reads BoundingBoxes in text format.

    Raises:
      UserError: it cannot be parsed, holds no box, or one without a positive size.
    """
    proto = protos.read_text_or_file(
        text_or_path, bounding_box_pb2.BoundingBoxes(), '--bounding_boxes'
    )
    if not proto.box:
        raise UserError(
            '--bounding_boxes holds no box; expected box { start { ... } size { ... } }'
        )
    return [_box(box, f'--bounding_boxes, box {i} from 0') for i, box in enumerate(proto.box)]


def _box(proto: bounding_box_pb2.BoundingBox, what: str) -> Box:
    if not proto.HasField('start') or not proto.HasField('size'):
        raise UserError(
            f'{what} must have start and size, such as '
            "'start { x:0 y:0 z:0 } size { x:100 y:100 z:100 }'"
        )
    box = Box.from_proto(proto)
    if box.empty:
        raise UserError(f'{what} has size {both_orders(box.size)}; expected positive sizes')
    return box


def absolute_paths(proto: message.Message) -> None:
    """Makes the paths in a request absolute, for processes that run elsewhere.

    Args:
      proto: InferenceRequest, ResegmentationRequest or a message in one; is changed. Paths inside
        JSON stay.
    """
    for field, value in proto.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, message.Message) else value:
                absolute_paths(part)
        elif field.name == 'hdf5' and value:
            setattr(proto, field.name, absolute_spec(value))
        elif field.name in _PATHS and value and '://' not in value:
            setattr(proto, field.name, os.path.abspath(value))
