"""Settings stated once: a dataclass field carries its default, its documentation and its flag.

    @dataclass(frozen=True)
    class Matching:
        min_voxels: int = setting('voxels that two ids must share', default=1, flag='min_overlap_voxels')

`ffn.cli.flags` turns such a class into command-line flags with their help, and the parsed flags back into
an instance. The class itself stays a plain dataclass that programs construct directly.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Sequence
from typing import Any

MISSING: Any = dataclasses.MISSING
_KEY = 'ffn.setting'


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a field appears on the command line.

    Attributes:
      field: its name in the class.
      flag: its name on the command line, without dashes.
      help: what it means, with unit and axis order.
      kind: its type: bool, int, float or str; of fields that `parse` makes, str.
      default: value of the field, MISSING if it must be given.
      parse: makes the value from the flag's text and the flag's name, which errors mention.
      choices: the values that are allowed; none: any.
      metavar: what help shows in place of the value, such as X,Y,Z.
    """

    field: str
    flag: str
    help: str
    kind: type
    default: Any
    parse: Callable[[str, str], Any] | None
    choices: Sequence[Any]
    metavar: str


def setting(
    help: str,
    *,
    default: Any = MISSING,
    flag: str = '',
    parse: Callable[[str, str], Any] | None = None,
    choices: Sequence[Any] = (),
    metavar: str = '',
) -> Any:
    """A dataclass field that is also a flag.

    Args:
      help: what it means, with unit and axis order; shown by --help.
      default: without one, the flag is required.
      flag: its name on the command line, without dashes, where that is not the field's.
      parse: makes the value from the flag's text and '--flag'; raises UserError. Without it, the field's
        type must be bool, int, float or str.
      choices: the values that are allowed; none: any.
      metavar: what help shows in place of the value, such as X,Y,Z.
    """
    about = {'help': help, 'flag': flag, 'parse': parse, 'choices': choices, 'metavar': metavar}
    return dataclasses.field(default=default, metadata={_KEY: about})


def settings(cls: type) -> list[Setting]:
    """The settings of a dataclass, in the order of its fields; fields without documentation are none."""
    types = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        if (about := field.metadata.get(_KEY)) is None:
            continue
        kind = str if about['parse'] else types[field.name]
        if kind not in (bool, int, float, str):
            raise TypeError(f'{cls.__name__}.{field.name} is {kind}; it needs a parse function')
        about = {**about, 'flag': about['flag'] or field.name}
        found.append(Setting(field=field.name, kind=kind, default=field.default, **about))
    return found
