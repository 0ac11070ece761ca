"""Settings stated once: a dataclass field carries its default, its documentation and its flag.

For example::

    @dataclass(frozen=True)
    class Matching:
        min_voxels: int = setting('voxels that two ids must share', default=1, flag='min_overlap_voxels')

`ffn.cli.flags` and `ffn.cli.absl_flags` turn such a class into command-line flags with their help, and
parsed flags back into an instance. The class itself stays a plain dataclass that programs construct
directly.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ffn.utils.errors import UserError
from ffn.utils.texts import check_folder

T = TypeVar('T')

_STRING_OR_COMMENT = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|#.*""")

MISSING: Any = dataclasses.MISSING
_SETTING, _SECTION = 'ffn.setting', 'ffn.section'
# What help shows in place of a folder.
_FOLDERS = 'FOLDER', 'DIR'


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a field appears on the command line.

    Attributes:
      field: its name in the class.
      flag: its name on the command line, without dashes.
      help: what it means, with unit and axis order.
      kind: type of what the flag holds: bool, int, float or str; list: of texts between commas.
      default: value of the field, MISSING if it must be given.
      parse: makes the field's value from the flag's text or texts and '--flag', which errors mention.
      choices: the values that are allowed; none: any.
      metavar: what help shows in place of the value, such as X,Y,Z.
    """

    field: str
    flag: str
    help: str
    kind: type
    default: Any
    parse: Callable[[Any, str], Any] | None
    choices: Sequence[Any]
    metavar: str

    def as_flag(self, value: Any) -> Any:
        """Turns a value of the field into what the flag holds: text, or a list of texts, if it is parsed."""
        if value is MISSING or self.parse is None:
            return value
        if self.kind is list:
            return [part for part in format_value(value).split(',') if part]
        return None if value is None else format_value(value)

    def read(self, value: Any) -> Any:
        """Turns what the flag holds into a value of the field.

        Raises:
          UserError: it cannot be parsed, or is a URL where a folder is expected.
        """
        if isinstance(value, str) and self.metavar in _FOLDERS:
            check_folder(value, f'--{self.flag}')
        if self.parse is None or not isinstance(value, str | list):
            return value
        if self.default is not MISSING and value == self.as_flag(self.default):
            return self.default
        return self.parse(value, f'--{self.flag}')


@dataclasses.dataclass(frozen=True)
class Section:
    """A field that is itself a dataclass with settings.

    Attributes:
      field: its name in the class.
      title: heading of its flags in --help.
      cls: its type.
    """

    field: str
    title: str
    cls: type


def setting(
    help: str,
    *,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    flag: str = '',
    parse: Callable[[Any, str], Any] | None = None,
    comma_list: bool = False,
    choices: Sequence[Any] = (),
    metavar: str = '',
) -> Any:
    """A dataclass field that is also a flag.

    Args:
      help: what it means, with unit and axis order; shown by --help, which adds the default.
      default: without one, the flag is required.
      default_factory: makes a default that is mutable, as in `dataclasses.field`.
      flag: its name on the command line, without dashes, where that is not the field's.
      parse: makes the value from the flag's text and '--flag'; raises UserError. Without it, the field's
        type must be bool, int, float, str or a Literal of texts, or one of these or None.
      comma_list: the flag is a list separated by commas, and `parse` gets a list of texts.
      choices: the values that are allowed; none: any.
      metavar: what help shows in place of the value, such as X,Y,Z.
    """
    kind = list if comma_list else str if parse else None
    about = {
        'help': help,
        'flag': flag,
        'kind': kind,
        'parse': parse,
        'choices': choices,
        'metavar': metavar,
    }
    return dataclasses.field(
        default=default, default_factory=default_factory, metadata={_SETTING: about}
    )


def section(title: str, *, default_factory: Any = MISSING) -> Any:
    """A dataclass field that is a dataclass with settings of its own, a group of flags in --help.

    Args:
      title: heading of the group.
      default_factory: the class, where all its settings have defaults.
    """
    return dataclasses.field(default_factory=default_factory, metadata={_SECTION: title})


def check_needed(settings: Any, name: str, besides: Sequence[str] = ()) -> None:
    """Refuses settings other than the defaults where the one that they belong to is not set: they would do nothing.

    Args:
      settings: an instance of a class of settings.
      name: of the one that the others need.
      besides: those that do not need it.

    Raises:
      UserError: see above.
    """
    if not getattr(settings, name) and (given := first_given(settings, [name, *besides])):
        ones = [one for one in members(type(settings)) if isinstance(one, Setting)]
        needed = next(one.flag for one in ones if one.field == name)
        raise UserError(f'--{given} does nothing without --{needed}: give that as well')


def first_given(settings: Any, besides: Sequence[str] = ()) -> str:
    """Returns the flag of the first setting that is not the default, '' if all are.

    Args:
      settings: an instance of a class of settings.
      besides: fields that are not looked at.
    """
    for one in members(type(settings)):
        if isinstance(one, Section) or one.field in besides:
            continue
        if getattr(settings, one.field) != one.default:
            return one.flag
    return ''


def members(cls: type) -> list[Setting | Section]:
    """Lists the settings and sections of a dataclass in the order of its fields; other fields are not flags."""
    hints = typing.get_type_hints(cls)
    found: list[Setting | Section] = []
    for field in dataclasses.fields(cls):
        if _SECTION in field.metadata:
            found.append(Section(field.name, field.metadata[_SECTION], hints[field.name]))
        elif _SETTING in field.metadata:
            found.append(_read_field(cls, field, hints[field.name]))
    return found


def _read_field(cls: type, field: dataclasses.Field, hint: Any) -> Setting:
    about = dict(field.metadata[_SETTING])
    about['flag'] = about['flag'] or field.name
    about['kind'] = about['kind'] or _plain_type(hint)
    if about['kind'] not in (bool, int, float, str, list):
        raise TypeError(
            f'{cls.__name__}.{field.name} is {about["kind"]}; it needs a parse function'
        )
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return Setting(field=field.name, default=default, **about)


def join_lines(text: str) -> str:
    """Writes a message in text format, or JSON, in one line, as flag files need it; comments are left out."""
    if '\n' not in text:
        return text
    lines = (_STRING_OR_COMMENT.sub(r'\1', line).strip() for line in text.split('\n'))
    return ' '.join(filter(None, lines))


def all_settings(cls: type) -> list[Setting]:
    """Lists the settings of a dataclass and of its sections."""
    return [
        setting
        for member in members(cls)
        for setting in ([member] if isinstance(member, Setting) else all_settings(member.cls))
    ]


def build(cls: type[T], flags: Mapping[str, Any], **others: Any) -> T:
    """Makes an instance of a dataclass from parsed flags.

    Args:
      cls: the class.
      flags: name of the flag → what it holds; a setting whose flag is not in it keeps its default.
      **others: values of fields that are not taken from flags.

    Raises:
      UserError: a value that cannot be parsed, or that the class refuses.
    """
    values = dict(others)
    for member in members(cls):
        if member.field in others:
            continue
        if isinstance(member, Section):
            values[member.field] = build(member.cls, flags)
        elif member.flag in flags:
            values[member.field] = member.read(flags[member.flag])
    return cls(**values)


def format_value(value: Any) -> str:
    """Writes a default as a user would type it: 8,8,8 for a tuple, nothing for an empty or composite one."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ','.join(map(format_value, value))
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        return f'{value:g}'
    return ''


def _plain_type(hint: Any) -> Any:
    """The type behind `T | None` and behind a Literal of texts; other annotations as they are."""
    if typing.get_origin(hint) is typing.Literal:
        return str
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint
