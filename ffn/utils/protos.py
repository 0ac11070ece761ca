"""The project's protobuf messages, made from compiled descriptors when they are imported.

Code that protoc generates is tied to a range of protobuf releases and refuses others. Descriptors
are plain data that every release reads, so `protos.binpb` (made from the .proto files by
`make protos`) is loaded instead, and each `*_pb2` module asks for its file's messages.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format
from google.protobuf.internal import enum_type_wrapper

from ffn.utils.errors import UserError
from ffn.utils.texts import check_leading_zero, without_mark

M = TypeVar('M', bound=message.Message)

# Strings and comments, which are passed over, and numbers with a leading zero.
_LEADING_ZERO = re.compile(
    r""""(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | \#[^\n]*
    | (?:(?P<field>[A-Za-z_]\w*)\s*:\s*)? (?<![\w.+-])(?P<number>[+-]?0\d[\w.]*)""",
    re.VERBOSE,
)

DESCRIPTORS = Path(__file__).with_name('protos.binpb')


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.Default()
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def export(proto_file: str, namespace: dict[str, Any]) -> None:
    """Adds the messages and enums of one .proto file to the namespace of a module.

    Args:
      proto_file: path as compiled, such as 'ffn/utils/vector.proto'.
      namespace: `globals()` of the module.
    """
    file = _pool().FindFileByName(proto_file)
    namespace['DESCRIPTOR'] = file
    for name, message_type in file.message_types_by_name.items():
        namespace[name] = message_factory.GetMessageClass(message_type)
    for name, enum_type in file.enum_types_by_name.items():
        namespace[name] = enum_type_wrapper.EnumTypeWrapper(enum_type)


def parse_text(text: str, into: M, what: str) -> M:
    """Fills a message from protobuf text format; fields that the text does not name are kept.

    A byte order mark is skipped.

    Args:
      text: text-format message.
      into: message to fill, returned.
      what: where the text came from, for the error.

    Returns:
      The message.

    Raises:
      UserError: the text is not such a message, gives a singular field or two members of a oneof, or has
        a number with a leading zero; names line and column, or the field.
    """
    text = without_mark(text)
    _check_numbers(text, what)
    try:
        # Parsed alone, since fields that are set already would count as given twice.
        parsed = text_format.Parse(text, type(into)())
    except text_format.ParseError as error:
        raise UserError(f'{what} is not a valid {into.DESCRIPTOR.name}: {error}') from error
    if parsed.ListFields():  # an empty one would set the field of which `into` is the message
        into.MergeFrom(parsed)
    return into


def _check_numbers(text: str, what: str) -> None:
    for matched in _LEADING_ZERO.finditer(text):
        number, field = matched['number'], matched['field'] or 'a number'
        if number is None:
            continue
        line = text.count('\n', 0, matched.start()) + 1
        check_leading_zero(number, f'{what}, line {line}: {field}')
        if number.strip('+-0') not in {*'1234567', ''}:
            raise UserError(
                f'{what}, line {line}: {field} is {number}, with a leading zero, which stands for '
                f'octal numbers; write it without'
            )


def read_text(path: str | Path, into: M) -> M:
    """Fills a message from a text-format file; see `parse_text`."""
    try:
        text = Path(path).read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
        raise UserError(
            f'{path} is not a text file in UTF-8; expected a text-format message'
        ) from error
    return parse_text(text, into, str(path))


def read_text_or_file(text_or_path: str, into: M, what: str) -> M:
    """Fills a message from text format, or from a file with it; see `parse_text`.

    Args:
      text_or_path: the text, or the path of a file.
      into: message to fill, returned.
      what: the flag, for errors.
    """
    # Text format always contains ':', '{' or '<'; a path seldom does, and then it exists.
    if _is_file(text_or_path) or not set(':{<') & set(text_or_path):
        return read_text(text_or_path, into)
    return parse_text(text_or_path, into, what)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than a path can be
        return False


def to_text(proto: M) -> str:
    """Formats a message in text format."""
    return text_format.MessageToString(proto)
