"""Flags of the four scripts and their flag files: absl's face of the settings in `ffn.utils.settings`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from absl import app, flags

from ffn.cli import trust_flags
from ffn.utils import event_log
from ffn.utils.errors import UserError
from ffn.utils.settings import MISSING, Setting, all_settings, build, join_lines

T = TypeVar('T')

LOG_JSON_HELP = 'log events as JSON, one a line, with time, host, process, and subvolume or step'

# The script that calls `define` owns the flags: its --help lists them.
flags.disclaim_key_flags()


def define(cls: type, **defaults: Any) -> None:
    """Defines an absl flag for each setting of a dataclass and of its sections.

    Args:
      cls: see `ffn.utils.settings`.
      **defaults: field → another default than that of the class.
    """
    for setting in all_settings(cls):
        _define(setting, defaults.get(setting.field, setting.default))
    trust_flags.define()
    flags.DEFINE_bool('log_json', False, LOG_JSON_HELP)


def _define(setting: Setting, default: Any) -> None:
    kwargs: dict[str, Any] = {'required': default is MISSING}
    value = None if default is MISSING else setting.as_flag(default)
    if setting.choices:
        flags.DEFINE_enum(setting.flag, value, list(setting.choices), setting.help, **kwargs)
        return
    kinds = {
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
        list: flags.DEFINE_list,
    }
    kinds[setting.kind](setting.flag, value, setting.help, **kwargs)


def read(cls: type[T], **others: Any) -> T:
    """Makes an instance of a dataclass from absl's flags.

    Args:
      cls: the class that `define` was called with, or that of one of its sections.
      **others: values of fields that are not taken from flags.

    Raises:
      UserError: a value that cannot be parsed, or that the class refuses.
    """
    trust_flags.apply()
    if flags.FLAGS['log_json'].value:
        event_log.turn_on()
    values = {setting.flag: flags.FLAGS[setting.flag].value for setting in all_settings(cls)}
    return build(cls, values, **others)


def format_flags(cls: type) -> str:
    """Writes all flags, as --flagfile reads them, but those of the process: what it trusts and how it logs.

    Args:
      cls: the class that `define` was called with.
    """
    for setting in all_settings(cls):
        flag = flags.FLAGS[setting.flag]
        if isinstance(flag.value, str):
            flag.value = join_lines(flag.value)
    lines = flags.FLAGS.flags_into_string().splitlines(keepends=True)
    return ''.join(line for line in lines if not _is_of_the_process(line))


def _is_of_the_process(line: str) -> bool:
    name = line.strip().lstrip('-').partition('=')[0].removeprefix('no')
    return name in (*trust_flags.NAMES, 'log_json')


def expand_flag_files(argv: Sequence[str], cls: type) -> list[str]:
    """Turns a command line that a script understands into one that `ffn.cli.flags` understands.

    --flagfile=FILE is replaced by the flags in the file, without those of absl itself, which files
    that train.py has saved contain; --flag=true and --flag=false become --flag and --noflag.

    Args:
      argv: arguments of a subcommand.
      cls: its settings.

    Raises:
      UserError: the file cannot be read.
    """
    switches = {f'--{setting.flag}' for setting in all_settings(cls) if setting.kind is bool}
    expanded = []
    for argument in _expand(argv):
        name, equals, value = argument.partition('=')
        if equals and name in switches and value.lower() in ('true', 't', '1'):
            argument = name
        elif equals and name in switches and value.lower() in ('false', 'f', '0'):
            argument = f'--no{name[2:]}'
        expanded.append(argument)
    return expanded


def _expand(argv: Sequence[str]) -> Iterator[str]:
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if argument == '--flagfile' and rest:
            argument = f'{argument}={rest.pop(0)}'
        if not argument.startswith('--flagfile='):
            yield argument
            continue
        try:
            lines = flags.FlagValues().read_flags_from_files([argument])
        except flags.Error as error:
            raise UserError(str(error)) from error
        except UnicodeDecodeError as error:
            raise UserError(
                f'{argument} is not a text file in UTF-8; expected one flag a line'
            ) from error
        trust_flags.refuse_in_file(lines)
        yield from (line for line in lines if not _is_of_absl(line))


def _is_of_absl(argument: str) -> bool:
    name = argument.lstrip('-').partition('=')[0]
    app.define_help_flags()  # the last of absl's flags that are not there from the beginning
    defined = flags.FLAGS.find_module_defining_flag
    modules = [defined(name), defined(name.removeprefix('no'))]
    return any(str(module).startswith('absl.') for module in modules)
