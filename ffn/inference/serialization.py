"""Between requests as messages and configurations: freezing one, and the way back.

A configuration is made of a request where it comes in (`ffn.inference.request`); its message is what results
store, and what checkpoints are compared by.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable

from google.protobuf import message

from ffn.inference import inference_pb2
from ffn.inference.config import InferenceConfig, MaskingConfig, ShiftMaskConfig
from ffn.inference.core.options import CanvasOptions
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, both_orders
from ffn.utils.logits import logit
from ffn.utils.plugins import json_args
from ffn.utils.rounding import typed
from ffn.volumes.masks import Mask
from ffn.volumes.specs import absolute_spec
from ffn.volumes.volume import VolumeSource

_PROBABILITIES = ('init_activation', 'pad_value', 'move_threshold', 'segment_threshold')
_PATHS = (
    'model_checkpoint_path',
    'segmentation_output_dir',
    'reference_histogram',
    'directory',
    'output_directory',
)


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
        histogram_per_subvolume=request.histogram_per_subvolume,
        histogram_masks=_masks(request.histogram_masks),
        model_name=request.model_name,
        model_args=json_args(request.model_args, 'model_args'),
        model_checkpoint_path=request.model_checkpoint_path,
        use_ema=request.use_ema,
        precision=request.precision,
        int8_ranges=tuple(request.int8_ranges),
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


def canvas_options(options: inference_pb2.InferenceOptions) -> CanvasOptions:
    """Converts the probabilities of inference options to the logits of a canvas.

    Raises:
      UserError: a field that is missing, no probability, or negative where that means nothing.
    """
    for name in ('max_object_steps', 'max_object_voxels', 'min_segment_size', 'prefilled_gap'):
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
    if not 0 <= options.prefilled_join_fraction <= 1:
        raise UserError(
            f'inference_options.prefilled_join_fraction is {options.prefilled_join_fraction:g}; expected a '
            'fraction from 0 to 1'
        )
    logits = {name: _logit_field(options, name) for name in _PROBABILITIES}
    if logits['init_activation'] < logits['move_threshold']:
        raise UserError(
            f'inference_options.init_activation is {options.init_activation:g}, less than move_threshold, '
            f'{options.move_threshold:g}: no object would make its first step'
        )
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
        join_fraction=typed(options.prefilled_join_fraction),
        gap=options.prefilled_gap,
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


def to_message(config: InferenceConfig) -> inference_pb2.InferenceRequest:
    """The request of a configuration: as it was given, with the fields that have been replaced since.

    Raises:
      ValueError: a field has been replaced that can only be changed in the request.
    """
    request = inference_pb2.InferenceRequest.FromString(config.request)
    given = freeze_request(request)
    for field in dataclasses.fields(config):
        name, value = field.name, getattr(config, field.name)
        if not field.compare or value == getattr(given, name):
            continue
        described = request.DESCRIPTOR.fields_by_name.get(name)
        if described is None or described.message_type is not None:
            raise ValueError(f'{name} was replaced in a configuration; change the request instead')
        if isinstance(value, tuple):
            request.ClearField(name)
            getattr(request, name).extend(value)
        else:
            setattr(request, name, json.dumps(value) if name.endswith('_args') else value)
    return request


def serialize_request(config: InferenceConfig) -> bytes:
    """The request that is stored with a result: with absolute paths.

    Args:
      config: resolved.
    """
    request = to_message(config)
    request.model_checkpoint_path = config.model_checkpoint_path
    absolute_paths(request)
    return request.SerializeToString()
