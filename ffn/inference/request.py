"""Inference requests: read, completed, checked, and frozen into an `InferenceConfig`.

This happens once, where a request comes in. `ffn.inference.serialization` converts the message.
"""

from __future__ import annotations

import math
from pathlib import Path

from absl import logging

from ffn.inference import inference_pb2
from ffn.inference.config import InferenceConfig
from ffn.inference.from_training import (
    fill_from_training,
    take_voxel_size_of_image,
    warn_of_contradictions,
)
from ffn.inference.serialization import absolute_paths, freeze_request
from ffn.models.saved_settings import settings_path
from ffn.utils import bounding_box_pb2, protos
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, both_orders

# Fields of inference_options that say what becomes of segments of init_segmentation.
OF_INIT_SEGMENTATION = ('prefilled_join_fraction', 'prefilled_gap')
_OF_MODEL = ('model_name', 'model_checkpoint_path')
_NEEDED = ('image', 'image_mean', 'image_stddev', *_OF_MODEL, 'inference_options')


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
    _complete(request)  # what contradicts the training is told by Runner.start, after the changes
    return request


def parse_request(
    text_or_path: str, options: str = '', flag: str = '--inference_request'
) -> inference_pb2.InferenceRequest:
    """Parses an InferenceRequest in text format, complete or not; see `read_config`.

    Args:
      text_or_path: see `read_config`.
      options: see `read_config`.
      flag: where it was given, for errors.

    Raises:
      UserError: it cannot be parsed.
    """
    request = protos.read_text_or_file(text_or_path, inference_pb2.InferenceRequest(), flag)
    if options:
        protos.read_text_or_file(options, request.inference_options, '--inference_options')
    return request


def complete_request(
    request: inference_pb2.InferenceRequest, quiet: bool = False
) -> InferenceConfig:
    """Takes over from the training of its network what a request does not set, and freezes it.

    Every command that reads a request gets it from here. A voxel size that it does not set is that of the image,
    or else of the training; what contradicts the image or the training is warned of.

    Args:
      request: is completed in place.
      quiet: log neither what was taken over nor contradictions.

    Raises:
      UserError: it is incomplete even so.
    """
    config = _complete(request, quiet)
    if not quiet:
        warn_of_contradictions(config)
    return config


def _complete(request: inference_pb2.InferenceRequest, quiet: bool = False) -> InferenceConfig:
    take_voxel_size_of_image(request, quiet)
    fill_from_training(request, quiet)
    try:
        return make_config(request)
    except UserError as error:
        path = Path(request.model_checkpoint_path)
        if not request.model_checkpoint_path:
            raise
        if any(path.parent.glob(f'{path.name}*')):
            settings_path(path)  # says so if what is there is no checkpoint
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
    options = request.inference_options
    for name in OF_INIT_SEGMENTATION:
        if getattr(options, name) and not request.HasField('init_segmentation'):
            raise UserError(f'{name} is set without init_segmentation, which it belongs to')
    for name in ('shift_mask_scale', 'shift_mask_threshold', 'shift_mask_fov'):
        if request.HasField(name) and not request.HasField('shift_mask'):
            logging.warning('%s does nothing without shift_mask', name)
    for name in ('histogram_masks', 'histogram_per_subvolume'):
        if getattr(config, name) and not config.reference_histogram:
            raise UserError(f'{name} is set without reference_histogram, which it belongs to')
    return config


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


def read_box(text_or_path: str, flag: str = '--bounding_box') -> Box:
    """Reads a BoundingBox in text format.

    Args:
      text_or_path: the text, or the path of a file with it.
      flag: where it was given, for errors.

    Raises:
      UserError: it cannot be parsed, or has no positive size.
    """
    proto = protos.read_text_or_file(text_or_path, bounding_box_pb2.BoundingBox(), flag)
    return _box(proto, f'{flag} {text_or_path!r}')


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
