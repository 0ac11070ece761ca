"""Text that people write: JSON, numbers and folders that could be taken in two ways are refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ffn.utils.errors import UserError, reason

_OCTAL = re.compile(r'([+-]?)0+([1-7][0-7]+)')


def without_mark(text: str) -> str:
    """Returns text without the byte order mark that some editors put before it."""
    return text.removeprefix('\ufeff')


def check_leading_zero(number: str, what: str) -> None:
    """Refuses a number that is one value as a decimal and another as an octal number, such as 0100.

    Protobuf takes a leading zero for octal; Python does not.

    Args:
      number: as it is written; what is no integer is admitted.
      what: where it stands, for the error.

    Raises:
      UserError: names both values.
    """
    matched = _OCTAL.fullmatch(number.strip())
    if matched:
        sign, digits = matched.groups()
        decimal, octal = int(sign + digits), int(sign + digits, 8)
        raise UserError(
            f'{what} is {number.strip()}: {decimal} as a decimal number, but {octal} as an octal one, '
            f'which the leading zero stands for in protobuf messages; write {decimal} or {octal}'
        )


def told_apart(first: str, second: str, length: int = 12) -> tuple[str, str]:
    """Shortens two texts, such as digests, to their beginnings and to where they begin to differ, if they do."""
    pairs = enumerate(zip(first, second, strict=False))
    same = next((n for n, (a, b) in pairs if a != b), min(len(first), len(second)))

    def shortened(text: str) -> str:
        if len(text) <= length:
            return text
        return f'{text[:length]}…' + (text[same:][:length] if same >= length else '')

    return shortened(first), shortened(second)


def check_folder(path: str, what: str) -> None:
    """Refuses a URL where a folder is expected: it would be taken for a folder `gs:` of this machine.

    Args:
      path: the folder; '' where none is given.
      what: name of the flag or field, for the error.

    Raises:
      UserError: it is a URL.
    """
    if '://' in path:
        raise UserError(f'{what} is {path}; expected a folder of this machine, not a URL')


def parse_json(text: str, what: str, infinite: bool = False) -> Any:
    """Parses JSON in which no object has a key twice and all numbers are finite; a byte order mark is skipped.

    Args:
      text: the JSON.
      what: name of the flag, field or file, for errors.
      infinite: whether Infinity and -Infinity are numbers as well.

    Raises:
      UserError: it is not JSON, names a key twice, or holds NaN, a number too great for a float, or an infinite one.
    """

    def checked(number: str) -> float:
        value = float(number)
        if math.isnan(value) or (math.isinf(value) and not (infinite and 'Inf' in number)):
            raise UserError(f'{what} holds {number}, which is no finite number')
        return value

    def check_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise UserError(f'{what} has the key {name!r} twice')
            found[name] = value
        return found

    try:
        return json.loads(
            without_mark(text),
            object_pairs_hook=check_keys,
            parse_float=checked,
            parse_constant=checked,
        )
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f'{what} is not JSON: {error}; given was {_shortened(text)}') from error


def parse_object(data: str | bytes, what: str) -> dict[str, Any]:
    """Parses a JSON object that a program wrote; a key that is there twice counts as it is there last.

    Args:
      data: text, or UTF-8.
      what: the file, for errors.

    Raises:
      UserError: it is damaged.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:  # no JSON, or no text
        raise UserError(f'{what} is damaged: it is not JSON ({reason(error)})') from error
    if not isinstance(content, dict):
        raise UserError(f'{what} is damaged: it holds no JSON object')
    return content


def _shortened(text: str, length: int = 200) -> str:
    return repr(text if len(text) <= length else f'{text[:length]}…')
