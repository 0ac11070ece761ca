"""What a request says, however it is written, and wherever what it names lies.

Requests are stored as they were given. Two are compared by what is made of them here: JSON is parsed, a default that is
written out is the same as one that is left out, paths are absolute. Where the content of an input is known to be the
same, where it lies does not count. Where it is not known, another path is another input.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping
from typing import Any

from google.protobuf import json_format, message

from ffn.inference import consensus_pb2, inference_pb2
from ffn.inference.core.movement import FaceMaxMovementPolicy
from ffn.inference.seeds.registry import POLICIES
from ffn.inference.serialization import absolute_paths
from ffn.utils.errors import UserError
from ffn.utils.plugins import json_args
from ffn.utils.protos import parse_text
from ffn.utils.texts import parse_json
from ffn.volumes.specs import without_place

# What decides nothing of a result: how a request is carried out, and where results go.
NOT_IN_RESULTS = (
    'checkpoint_interval',
    'batch_size',
    'concurrent_requests',
    'segmentation_output_dir',
)
# Fields whose presence means something, whatever their value.
_COUNT_IF_SET = 'min_value', 'max_value', 'threshold'
# Vectors that mean the same as none, by the value of all their components.
_LIKE_UNSET = {'min_boundary_dist': 0, 'voxel_size': 1, 'downsample': 1, 'upsample': 1}
_ARGS = 'model_args', 'seed_policy_args', 'movement_policy_args'
_VOLUMES = 'image', 'init_segmentation', 'shift_mask'
_MASKS = 'masks', 'seed_masks', 'histogram_masks'
_FILES = 'model_checkpoint_path', 'reference_histogram'
_OWN_MODELS = 'ffn.training.models.', 'ffn.models.networks.'
# Messages in the records of a folder, by their names there.
_RECORDED = {
    'request': inference_pb2.InferenceRequest,
    'inference': inference_pb2.InferenceRequest,
    'resegmentation': inference_pb2.ResegmentationRequest,
}


def fill_in(proto: message.Message) -> None:
    """Makes messages that mean the same equal: what has its default is cleared, vectors are completed.

    Args:
      proto: a request or a message in one; is changed.
    """
    for field, value in proto.ListFields():
        if field.message_type is None:
            if value == field.default_value and field.name not in _COUNT_IF_SET:
                proto.ClearField(field.name)
        elif not isinstance(value, message.Message):
            for part in value:
                fill_in(part)
        elif field.message_type.name.startswith('Vector'):
            axes = [axis.name for axis in field.message_type.fields]
            for axis in axes:
                setattr(value, axis, getattr(value, axis))
            if all(getattr(value, axis) == _LIKE_UNSET.get(field.name) for axis in axes):
                proto.ClearField(field.name)
        else:
            fill_in(value)
            if not value.ListFields() and field.containing_oneof is None:
                proto.ClearField(field.name)


def settings_of(
    request: inference_pb2.InferenceRequest, alike: Container[str] = ()
) -> dict[str, Any]:
    """What decides the result of a request, as JSON under the names of its fields.

    Args:
      request: complete or not.
      alike: inputs whose place does not count, by their fields, such as 'image', 'masks[0]' or, for all of them, 'masks'.
    """
    copy = inference_pb2.InferenceRequest()
    copy.CopyFrom(request)
    for name in NOT_IN_RESULTS:
        copy.ClearField(name)
    absolute_paths(copy)
    fill_in(copy)
    if copy.precision == 'float32':  # the default
        copy.ClearField('precision')
    settings = to_json(copy)
    for name in _FILES:
        if name in alike:
            settings.pop(name, None)
    for name in _ARGS:
        if args := _parsed(settings.pop(name, ''), name):
            is_seeds = name == 'seed_policy_args'
            settings[name] = _placed(args, name in alike) if is_seeds else args
    settings.update(_class_names(settings))
    for name, volume in volumes_of(settings):
        _clean_volume(volume, name in alike or name.partition('[')[0] in alike)
    return settings


def consensus_settings(request: consensus_pb2.ConsensusRequest) -> dict[str, Any]:
    """What decides the result of a consensus, as JSON; its segmentations are known by where they are."""
    copy = consensus_pb2.ConsensusRequest()
    copy.CopyFrom(request)
    copy.ClearField('segmentation_output_dir')
    absolute_paths(copy)
    fill_in(copy)
    return to_json(copy)


def to_json(proto: message.Message) -> dict[str, Any]:
    """A message as JSON, with the names of its fields as they are typed."""
    return json_format.MessageToDict(proto, preserving_proto_field_name=True)


def _parsed(args: str, name: str) -> Any:
    try:
        return json_args(args, name)
    except UserError:  # of another program
        return args


def _placed(args: Any, alike: bool) -> Any:
    """Arguments of a policy with the folders of earlier runs absolute, or without them; see `earlier_runs`."""
    match args:
        case {'segmentation_dir': str(folder)}:
            return {**args, 'segmentation_dir': '' if alike else os.path.abspath(folder)}
        case dict():
            return {name: _placed(value, alike) for name, value in args.items()}
        case list():
            return [_placed(value, alike) for value in args]
    return args


def _class_names(settings: Mapping[str, Any]) -> dict[str, str]:
    """The names of classes as they are when they are written in the shortest way, or left out."""
    names = {}
    if model := settings.get('model_name'):
        own = [model.removeprefix(package) for package in _OWN_MODELS if model.startswith(package)]
        names['model_name'] = own[0] if own and own[0].count('.') == 1 else model
    if policy := settings.get('seed_policy'):
        module, _, name = policy.rpartition('.')
        is_own = module == f'ffn.inference.seeds.{POLICIES.get(name)}'
        names['seed_policy'] = name if is_own else policy
    default = FaceMaxMovementPolicy
    movement = settings.get('movement_policy_name', default.__name__)
    names['movement_policy_name'] = movement.removeprefix(f'{default.__module__}.')
    return names


def volumes_of(settings: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The volumes that settings name, and their fields."""
    for name in _VOLUMES:
        if name in settings:
            yield name, settings[name]
    for name in _MASKS:
        yield from _mask_volumes(name, settings.get(name, []))


def _mask_volumes(field: str, masks: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for i, mask in enumerate(masks):
        if 'mask' in mask.get('volume', {}):
            yield f'{field}[{i}]', mask['volume']['mask']


def _clean_volume(volume: dict[str, Any], alike: bool) -> None:
    """Parses the JSON of a volume; leaves out where it is, but not which of those that are there, if that does not count."""
    if alike and 'hdf5' in volume:
        volume['hdf5'] = without_place(volume['hdf5'])
    if 'tensorstore' in volume:
        try:
            volume['tensorstore'] = spec = parse_json(volume['tensorstore'], 'tensorstore')
        except UserError:
            return
        if alike and isinstance(spec, dict) and 'kvstore' in spec:
            spec['kvstore'] = _without_paths(spec['kvstore'])


def _without_paths(store: Any) -> Any:
    """A key-value store without the path of the innermost one; that of one around it, as of a zip file, says what in it is meant."""
    if isinstance(store, dict):
        inner = [name for name, part in store.items() if isinstance(part, dict)]
        left_out = () if inner else ('path',)
        return {name: _without_paths(part) for name, part in store.items() if name not in left_out}
    return '' if isinstance(store, str) and '://' in store else store


def comparable(configuration: Mapping[str, Any], alike: Container[str] = ()) -> dict[str, Any]:
    """What the record of a folder says of how its contents are made, with the requests in it as `settings_of` has them.

    Args:
      configuration: see `ffn.volumes.provenance.claim`.
      alike: see `settings_of`.
    """
    return {name: _comparable(name, value, alike) for name, value in configuration.items()}


def _comparable(name: str, value: Any, alike: Container[str]) -> Any:
    try:
        if name == 'masks' and isinstance(value, str):
            masks = parse_text(value, inference_pb2.MaskConfigs(), name)
            fill_in(masks)
            shown: list[dict[str, Any]] = to_json(masks).get('masks', [])
            for _, volume in _mask_volumes(name, shown):
                _clean_volume(volume, False)
            return shown
        if name not in _RECORDED or not isinstance(value, dict):
            return value
        recorded = json_format.ParseDict(value, _RECORDED[name]())
    except (UserError, json_format.ParseError):  # of another version
        return value
    if isinstance(recorded, inference_pb2.InferenceRequest):
        return settings_of(recorded, alike)
    fill_in(recorded)
    return to_json(recorded)
