"""Classes that are named in requests, and their arguments, which are JSON."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ffn.utils import trust
from ffn.utils.errors import UserError
from ffn.utils.texts import parse_json


def load_class(
    name: str, package: str, base: type, what: str, known: Callable[[], Iterable[str]]
) -> type[Any]:
    """Finds a class that a file names. Nothing is imported unless it is trusted, and nothing is called.

    Args:
      name: 'Class', or 'package.module.Class'.
      package: module in which a plain name is looked up; '' if `name` is a full one.
      base: what the class must be a subclass of, or a Protocol whose methods it must have.
      what: the field that names it, for errors.
      known: lists the names of this project, for errors.

    Raises:
      UserError: no such class, one of another kind, or one in a package that is not trusted; see
        `ffn.utils.trust`.
    """
    full_name = f'{package}.{name}' if package else name
    module, _, class_name = full_name.rpartition('.')

    def refusal(reason: str) -> UserError:
        return UserError(
            f'{what} {name!r} {reason}; known are {", ".join(known())}, or package.module.Class'
        )

    if not module or not trust.is_module_name(full_name):
        raise refusal('does not exist')
    if not trust.current().allows_module(module):
        root = module.partition('.')[0]
        raise refusal(f'is not in ffn; if you trust {root}, allow it: --allow_module={root}')
    try:
        found = getattr(importlib.import_module(module), class_name)
    except (ImportError, AttributeError) as error:
        raise refusal(f'does not exist ({error})') from error
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise refusal(f'is no subclass of {base.__name__}')
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
    parsed = parse_json(args, what, infinite=True) if args.strip() else {}
    if not isinstance(parsed, dict):
        raise UserError(f'{what} must be a JSON object such as {{"a": 1}}; given was {args!r}')
    return parsed
