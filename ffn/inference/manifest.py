"""What a folder of results was made with, so that results of different settings never mix."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format, message

from ffn.distributed.pool import Pool
from ffn.inference import inference_pb2
from ffn.inference.request import absolute_paths
from ffn.models.checkpoints import resolve_checkpoint
from ffn.utils.atomic import write_json
from ffn.utils.errors import UserError
from ffn.utils.npz import read_npz
from ffn.utils.startup import startup_messages_hidden

NAME = 'manifest.json'
# How a request is carried out, not what comes out.
_HOW = ('checkpoint_interval', 'batch_size', 'concurrent_requests')


def claim(
    folder: str | Path, configuration: Mapping[str, Any], name: str = NAME,
    advice: str = 'give another folder, or the same settings',
) -> None:  # fmt: skip
    """Makes a folder that of a configuration, or checks that it is already.

    Args:
      folder: made where it is missing.
      configuration: plain JSON.
      name: of the file that says so.
      advice: what to do where it is that of another one.

    Raises:
      UserError: the folder belongs to another configuration; names what differs.
    """
    path = Path(folder, name)
    given = json.loads(json.dumps(configuration))
    if path.exists():
        there = read(path)
        if there != given:
            raise UserError(
                f'{folder} holds results of other settings: {differences(there, given)}; {advice}'
            )
        return
    write_json(path, {'sha256': digest(given), 'configuration': given})


def read(path: str | Path) -> dict[str, Any]:
    """Reads the configuration in a manifest.

    Raises:
      UserError: none, or one that was changed or damaged.
    """
    try:
        stored = json.loads(Path(path).read_text(encoding='utf-8'))
        configuration = stored['configuration']
        if stored['sha256'] == digest(configuration):
            return configuration
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is no manifest: {error}') from error
    raise UserError(f'{path} was changed by hand: its sha256 does not fit')


def digest(configuration: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()


def differences(there: Any, given: Any, at_most: int = 3) -> str:
    """Names what differs between two configurations, in one line."""
    first, second = dict(_leaves(there)), dict(_leaves(given))
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    shown = [
        f'{name} is {_shown(first, name)} there and {_shown(second, name)} here'
        for name in names[:at_most]
    ]
    more = [f'{len(names) - at_most} more'] if len(names) > at_most else []
    return ' '.join(', '.join(shown + more).split())


def _shown(values: Mapping[str, Any], name: str) -> str:
    text = str(values.get(name, 'not set')) or 'empty'
    return text if len(text) < 120 else f'{text[:100]} …'


def _leaves(value: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, f'{name}.{key}' if name else key)
    else:
        yield name, value


def settle(request: inference_pb2.InferenceRequest, pool: Pool) -> None:
    """Replaces what a request leaves to when and where it is carried out, so that all of a run agree.

    Args:
      request: is changed: the checkpoint that a folder stands for now; the precision for `auto`.
      pool: what will carry it out.
    """
    with startup_messages_hidden():
        from ffn.models.precision import choose_precision

        request.model_checkpoint_path = resolve_checkpoint(request.model_checkpoint_path)
        if request.precision == 'auto' and not pool.distributed:
            request.precision = choose_precision('auto')
    if request.precision == 'auto':
        from ffn.inference.worker_network import ask_precision

        request.precision = pool.restricted().call(ask_precision)


def deciding(request: inference_pb2.InferenceRequest) -> dict[str, Any]:
    """The parts of a request that decide the result, as JSON."""
    return json_format.MessageToDict(_deciding(request), preserving_proto_field_name=True)


def _deciding(request: inference_pb2.InferenceRequest) -> inference_pb2.InferenceRequest:
    copy = inference_pb2.InferenceRequest()
    copy.CopyFrom(request)
    for name in (*_HOW, 'segmentation_output_dir'):
        copy.ClearField(name)
    absolute_paths(copy)
    if copy.precision == 'float32':  # as where nothing is said
        copy.ClearField('precision')
    return copy


def stored_request(serialized: bytes) -> inference_pb2.InferenceRequest | None:
    """Parses the request that is stored with a subvolume.

    Args:
      serialized: InferenceRequest; of the request of another stage, None is returned.
    """
    for zeros in range(9):  # NumPy drops those at the end of bytes
        try:
            return inference_pb2.InferenceRequest.FromString(serialized + zeros * b'\0')
        except message.DecodeError:
            continue
    return None


def compare(request: inference_pb2.InferenceRequest, path: str | Path) -> str:
    """Names what differs between a request and the one that a subvolume was made with.

    Args:
      request: settled.
      path: npz of the subvolume.

    Returns:
      One line, '' if nothing differs, or if it says nothing of a request.
    """
    stored = read_npz(path, ['request'], []).get('request')
    made_with = None if stored is None else stored_request(stored.item())
    if made_with is None:
        return ''
    return differences(deciding(made_with), deciding(request))


def request_digest(serialized: bytes) -> str:
    """SHA-256 of what decides the result in a request that is stored with a subvolume.

    Args:
      serialized: InferenceRequest, or the request of another stage.
    """
    request = stored_request(serialized)
    if request is not None:
        serialized = _deciding(request).SerializeToString(deterministic=True)
    return hashlib.sha256(serialized).hexdigest()


def model_digest(path: str) -> str:
    """SHA-256 of the files of a checkpoint.

    Args:
      path: the checkpoint's prefix, or its only file.

    Raises:
      UserError: there is none.
    """
    hashed, found = hashlib.sha256(), False
    place = Path(path)
    files = [place] if place.is_file() else sorted(place.parent.glob(f'{place.name}.*'))
    for file in files:
        if file.suffix != '.meta':
            hashed.update(file.read_bytes())
            found = True
    if not found:
        raise UserError(f'no checkpoint at {path}')
    return hashed.hexdigest()
