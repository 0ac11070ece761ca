"""Classes that are named in requests, and their arguments, which are JSON."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from ffn.utils.errors import UserError
from ffn.utils.texts import parse_json


def load_class(name: str, package: str, what: str, known: Sequence[str]) -> type[Any]:
    """Finds a class by its name, either 'Class' in a module of this project or 'package.module.Class'.

    Args:
      name: the name that the request gives.
      package: module in which a plain name is looked up.
      what: field of the request, for errors.
      known: names to list when the class does not exist.

    Raises:
      UserError: no such class.
    """
    module, _, class_name = name.rpartition('.')
    try:
        found: type[Any] = getattr(importlib.import_module(module or package), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f'{what} {name!r} does not exist ({error}); known are {", ".join(known)}, or '
            'package.module.Class'
        ) from error
    return found


def json_args(args: str | Mapping[str, Any], what: str) -> dict[str, Any]:
    """Parses the JSON object of a request's ..._args field.

    Args:
      args: the field, where empty text means no arguments; or what it says, already parsed.
      what: its name, for errors.

    Raises:
      UserError: not a JSON object, or a key twice.
    """
    if not isinstance(args, str):
        return dict(args)
    parsed = parse_json(args, what) if args.strip() else {}
    if not isinstance(parsed, dict):
        raise UserError(f'{what} must be a JSON object such as {{"a": 1}}; given was {args!r}')
    return parsed
