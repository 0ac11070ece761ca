"""Configurations as messages again: what results store, and what checkpoints are compared by."""

from __future__ import annotations

import dataclasses
import json

from ffn.inference import inference_pb2
from ffn.inference.config import InferenceConfig
from ffn.inference.request import absolute_paths, freeze_request


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


def checkpoint_settings(config: InferenceConfig, precision: str) -> bytes:
    """What a checkpoint of a canvas depends on; it is only restored under the same settings.

    Args:
      config: resolved.
      precision: what the network computes in.
    """
    request = to_message(config)
    for name in ('checkpoint_interval', 'batch_size', 'concurrent_requests', 'precision'):
        request.ClearField(name)
    if precision != 'float32':
        request.precision = precision
    request.model_checkpoint_path = config.model_checkpoint_path
    return request.SerializeToString(deterministic=True)
