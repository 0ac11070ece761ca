"""Inference requests: reading, checking, and the options of a canvas made from them."""

from __future__ import annotations

import math
import os
from pathlib import Path

from google.protobuf import message

from ffn.inference import inference_pb2
from ffn.inference.core.options import CanvasOptions
from ffn.models.trained_settings import fill_from_training
from ffn.utils import bounding_box_pb2, protos
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, both_orders
from ffn.volumes.volume import absolute_spec

_OF_MODEL = ('model_name', 'model_checkpoint_path')
_PATHS = ('model_checkpoint_path', 'segmentation_output_dir', 'reference_histogram',
          'directory', 'output_directory')  # fmt: skip
_NEEDED = ('image', 'image_mean', 'image_stddev', *_OF_MODEL, 'inference_options')


def read_request(text_or_path: str, options: str = '') -> inference_pb2.InferenceRequest:
    """Reads an InferenceRequest in text format and completes it from the training of its network.

    Args:
      text_or_path: the text, or the path of a file with it.
      options: InferenceOptions in text format (or a path) whose fields override the request's.

    Raises:
      UserError: it cannot be parsed, or is incomplete.
    """
    request = parse_request(text_or_path, options)
    complete_request(request)
    return request


def parse_request(text_or_path: str, options: str = '') -> inference_pb2.InferenceRequest:
    """Reads an InferenceRequest in text format, complete or not; see `read_request`.

    Raises:
      UserError: it cannot be parsed.
    """
    request = protos.read_text_or_file(
        text_or_path, inference_pb2.InferenceRequest(), '--inference_request'
    )
    if options:
        protos.read_text_or_file(options, request.inference_options, '--inference_options')
    return request


def complete_request(request: inference_pb2.InferenceRequest) -> None:
    """Sets what a request leaves out and the training of its network knows, and checks it.

    Args:
      request: is changed.

    Raises:
      UserError: it is incomplete even so.
    """
    fill_from_training(request)
    try:
        check_request(request)
    except UserError as error:
        path = Path(request.model_checkpoint_path)
        if not request.model_checkpoint_path or any(path.parent.glob(f'{path.name}*')):
            raise
        raise UserError(
            f'there is no checkpoint at {path.absolute()}, whose training would say what the request '
            f'leaves out: {error}'
        ) from error


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


def voxel_size_zyx(request: inference_pb2.InferenceRequest) -> tuple[float, float, float]:
    """Physical size of a voxel; voxels are cubes where the request does not say."""
    if not request.HasField('voxel_size'):
        return (1.0, 1.0, 1.0)
    return (request.voxel_size.z, request.voxel_size.y, request.voxel_size.x)


def check_request(request: inference_pb2.InferenceRequest, has_model: bool = False) -> None:
    """Checks that a request has all that inference needs and nothing that it cannot do.

    Args:
      request: what to check.
      has_model: there is a network already, so that the request need not name one.

    Raises:
      UserError: names the field.
    """
    for name in _NEEDED:
        if not request.HasField(name) and not (has_model and name in _OF_MODEL):
            raise UserError(f'the inference request does not set {name}, which is needed')
    CanvasOptions.from_proto(request.inference_options)
    if not 0 < request.image_stddev < math.inf:
        raise UserError(f'image_stddev is {request.image_stddev:g}; expected a positive number')
    if not math.isfinite(request.image_mean):
        raise UserError(f'image_mean is {request.image_mean:g}; expected a number')
    alignment = request.alignment_options
    if alignment.type != inference_pb2.AlignmentOptions.NO_ALIGNMENT or alignment.save_raw:
        raise UserError(
            'alignment_options asks for an alignment, which is not supported; use NO_ALIGNMENT '
            'without save_raw and align the volume beforehand'
        )
    if not all(0 < size < math.inf for size in voxel_size_zyx(request)):
        z, y, x = voxel_size_zyx(request)
        raise UserError(f'voxel_size is x,y,z {x:g},{y:g},{z:g}; expected positive sizes')
    for name in ('batch_size', 'concurrent_requests'):
        if getattr(request, name) < 1:
            raise UserError(f'{name} is {getattr(request, name)}; expected 1 or more')
    if request.histogram_masks and not request.reference_histogram:
        raise UserError('histogram_masks is set without reference_histogram, which it belongs to')
    if request.HasField('shift_mask_fov') and Box.from_proto(request.shift_mask_fov).empty:
        size = both_orders(Xyz.from_proto(request.shift_mask_fov.size))
        raise UserError(f'shift_mask_fov has size {size}; expected positive sizes')
    if request.HasField('shift_mask'):
        for name in ('shift_mask_scale', 'shift_mask_threshold'):
            if getattr(request, name) < 1:
                raise UserError(
                    f'{name} is {getattr(request, name)}; a shift_mask needs it, 1 or more'
                )


def clip_box(box: Box, volume: Box, fov: Xyz, name: str) -> tuple[Box, bool]:
    """Clips a subvolume to its volume.

    Args:
      box: what is asked for.
      volume: what there is.
      fov: field of view of the model.
      name: the volume, for errors.

    Returns:
      The part of the box inside the volume, and whether that is less than the box.

    Raises:
      UserError: the box is outside, or what is left is smaller than the field of view.
    """
    clipped = box.intersection(volume)
    if clipped is None:
        raise UserError(f'box {box} lies outside {name}, which covers {volume}')
    if any(n < f for n, f in zip(clipped.size, fov, strict=True)):
        raise UserError(
            f'subvolume size {both_orders(clipped.size)} is smaller than the field of view '
            f'{both_orders(fov)}; choose a larger box'
        )
    return clipped, clipped != box


def absolute_paths(proto: message.Message) -> None:
    """Makes the paths in a request absolute, for processes that run elsewhere.

    Args:
      proto: InferenceRequest, ResegmentationRequest or a message in one; is changed. Paths inside of
        JSON stay.
    """
    for field, value in proto.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, message.Message) else value:
                absolute_paths(part)
        elif field.name == 'hdf5' and value:
            proto.hdf5 = absolute_spec(value)
        elif field.name in _PATHS and value and '://' not in value:
            setattr(proto, field.name, os.path.abspath(value))
