"""Results as plain values that JSON can hold."""

from __future__ import annotations

import dataclasses
from typing import Any


def to_plain(value: Any) -> Any:
    """Converts the dataclasses and tuples within a value to dicts and lists.

    Expected run lengths keep the key that their files have always had, `perfect_erl` for `max_erl`.
    """
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value))
        return {_KEYS.get(name, name): to_plain(getattr(value, name)) for name in fields}
    if isinstance(value, dict):
        return {name: to_plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    return value


_KEYS = {'max_erl': 'perfect_erl'}
