"""Trials of a selection: one checkpoint with one set of inference settings, on one box."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffn.evaluation.held_out_score import HeldOutScore
from ffn.inference import inference_pb2
from ffn.utils.atomic import write_json
from ffn.utils.checksums import sealed, unsealed
from ffn.utils.errors import UserError
from ffn.utils.protos import parse_text

# Metric → whether higher is better.
METRICS = {
    'voi': False,
    'voi_split': False,
    'voi_merge': False,
    'rand_error': False,
    'erl': True,
    'normalised_erl': True,
}


@dataclass(frozen=True)
class Trial:
    """A checkpoint with a setting.

    Attributes:
      checkpoint: path, as in `model_checkpoint_path` of a request.
      setting: name of the setting.
      request: the request, with that checkpoint.
    """

    checkpoint: str
    setting: str
    request: inference_pb2.InferenceRequest

    def key(self, conditions: Mapping[str, Any]) -> str:
        """Returns the name of the file with the result.

        Args:
          conditions: everything else that the result depends on, as plain JSON.
        """
        digest = hashlib.sha256(self.request.SerializeToString(deterministic=True))
        digest.update(json.dumps(conditions, sort_keys=True).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Result:
    """The result of a trial.

    Attributes:
      checkpoint: see `Trial`.
      setting: see `Trial`.
      scores: name → number: the fields of HeldOutScore, voi, and with skeletons erl and
        normalised_erl.
    """

    checkpoint: str
    setting: str
    scores: Mapping[str, float]

    def rank(self, metric: str) -> float:
        """Returns a number that is smallest for the best result."""
        value = self.scores[metric]
        return -value if METRICS[metric] else value


def make_settings(options: Sequence[str], vary: Sequence[str]) -> dict[str, list[str]]:
    """Combines every one of `options` with every combination of `vary`.

    Args:
      options: 'NAME=TEXT', where the text is part of an InferenceRequest that overrides the request.
      vary: 'FIELD=VALUE,VALUE', such as 'inference_options.segment_threshold=0.4,0.6'.

    Returns:
      Name → texts, each of which overrides the request and those before; without options and
      variations, a single one, 'as given', that changes nothing.

    Raises:
      UserError: an entry of another form, or a repeated name or field.
    """
    named = dict(_split_pair(text, '--options', 'NAME=TEXT') for text in options)
    if len(named) < len(options):
        raise UserError('--options has a name twice; every setting needs its own name')
    varied = dict(_split_pair(text, '--vary', 'FIELD=VALUE,VALUE') for text in vary)
    if len(varied) < len(vary):
        raise UserError('--vary has a field twice; list all of its values in one')
    axes = [
        [(f'{name.rpartition(".")[2]}={v}', _format_field(name, v)) for v in values.split(',')]
        for name, values in varied.items()
    ]
    settings = {}
    for (name, text), *changes in itertools.product(named.items() or [('', '')], *axes):
        whole = ' '.join(filter(None, [name, *(label for label, _ in changes)]))
        settings[whole or 'as given'] = [text, *(change for _, change in changes)]
    return settings


def _split_pair(text: str, flag: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition('=')
    if not equals or not name.strip() or not value.strip():
        raise UserError(f'{flag} {text!r} is not of the form {form}')
    return name.strip(), value.strip()


def _format_field(field: str, value: str) -> str:
    """Formats a nested field in protobuf text format."""
    *outer, last = field.split('.')
    return ''.join(f'{name} {{ ' for name in outer) + f'{last}: {value.strip()}' + ' }' * len(outer)


def make_trials(
    request: inference_pb2.InferenceRequest,
    checkpoints: Iterable[str],
    settings: Mapping[str, Sequence[str]],
) -> list[Trial]:
    """Combines all checkpoints with all settings.

    Args:
      request: what the trials have in common.
      checkpoints: paths.
      settings: name → parts of a request, see `make_settings`.

    Raises:
      UserError: a setting that cannot be parsed.
    """
    trials = []
    for name, texts in settings.items():
        changed = inference_pb2.InferenceRequest()
        changed.CopyFrom(request)
        for text in texts:
            parse_text(text, changed, f'setting {name!r}')
        for checkpoint in checkpoints:
            own = inference_pb2.InferenceRequest()
            own.CopyFrom(changed)
            own.model_checkpoint_path = checkpoint
            trials.append(Trial(checkpoint, name, own))
    return trials


def collect_scores(score: HeldOutScore, erl: Mapping[str, float]) -> dict[str, float]:
    """Collects the numbers of a result."""
    numbers = dataclasses.asdict(score)
    return {**numbers, 'voi': score.voi_split + score.voi_merge, **erl}


def write_result(path: Path, result: Result) -> None:
    """Writes a result as JSON, atomically."""
    write_json(path, sealed(dataclasses.asdict(result)))


def read_result(path: Path) -> Result | None:
    """Reads a result; None if there is none or it is damaged."""
    try:
        result = Result(**unsealed(path.read_bytes(), path, 'it is made again'))
        numbers = [result.scores['voi'], *result.scores.values()]
        return result if all(isinstance(n, int | float) for n in numbers) else None
    except (OSError, TypeError, ValueError, LookupError, AttributeError):
        return None
