"""Flags of the subcommands: parsers that look alike, and dataclasses turned into flags and back."""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from ffn.cli import trust_flags
from ffn.cli.absl_flags import LOG_JSON_HELP
from ffn.utils import event_log
from ffn.utils.settings import (
    MISSING,
    Section,
    Setting,
    all_settings,
    build,
    format_value,
    join_lines,
    members,
)

T = TypeVar('T')


class BooleanFlag(argparse.Action):
    """A flag without a value, --flag, that --noflag switches off."""

    def __init__(self, option_strings: list[str], dest: str, **kwargs: Any):
        names = [f'--{prefix}{name[2:]}' for name in option_strings for prefix in ('', 'no')]
        super().__init__(names, dest, nargs=0, **kwargs)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Sets the value to whether the flag is given without 'no'."""
        setattr(namespace, self.dest, option_string == self.option_strings[0])

    def format_usage(self) -> str:
        """What the usage line shows: the flag that changes something."""
        return self.option_strings[self.default is True]


class _LogJson(argparse.Action):
    def __call__(self, *_: object) -> None:
        event_log.turn_on()


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows the default of every flag that has one, and descriptions as they are written."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, BooleanFlag) and not action.default:
            return action.option_strings[0]
        return super()._format_action_invocation(action)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ''
        default = action.default
        if default is argparse.SUPPRESS or isinstance(default, bool) or '%(default' in text:
            return text
        shown = format_value(default).replace('%', '%%')
        return f'{text} (default: {shown})' if action.option_strings and shown else text


def make_parser(command: str, description: str, epilog: str = '') -> argparse.ArgumentParser:
    """Makes the parser of a subcommand. Its --help appends '(default: …)' to flags that have a default.

    Args:
      command: its name, such as 'segment'.
      description: one line, and more if need be.
      epilog: examples, shown as they are.
    """
    parser = argparse.ArgumentParser(
        prog=f'ffn {command}',
        description=description,
        epilog=epilog or None,
        formatter_class=HelpFormatter,
    )
    # argparse takes -1 for a value, but -1,2,3 for a flag that does not exist.
    parser._negative_number_matcher = re.compile(r'-\.?\d[-\d.,]*')
    trust_flags.add_to(parser)
    log = parser.add_argument_group('What is logged')
    log.add_argument('--log_json', action=_LogJson, nargs=0, help=LOG_JSON_HELP)
    return parser


def add_settings(
    parser: argparse.ArgumentParser,
    title: str,
    cls: type,
    skip: Collection[str] = (),
    **defaults: Any,
) -> None:
    """Adds the settings of a dataclass as a group of flags, and each of its sections as another one.

    The groups come in the order of the fields. A boolean setting becomes --flag and --noflag.

    Args:
      parser: where they go.
      title: heading of the group in --help.
      cls: see `ffn.utils.settings`.
      skip: fields that are not flags of this command.
      **defaults: field → another default than that of the class, in the form of the field's value.
    """
    group = None
    for member in members(cls):
        if member.field in skip:
            continue
        if isinstance(member, Section):
            add_settings(parser, member.title, member.cls, skip, **defaults)
        else:
            group = group or parser.add_argument_group(title)
            _add_flag(group, member, defaults.get(member.field, member.default))


def _add_flag(group: argparse._ArgumentGroup, setting: Setting, default: Any) -> None:
    kwargs: dict[str, Any] = {'dest': setting.flag, 'help': setting.help.replace('%', '%%')}
    if default is MISSING:
        kwargs['required'] = True
    else:
        kwargs['default'] = setting.as_flag(default)
    if setting.kind is bool:
        group.add_argument(f'--{setting.flag}', action=BooleanFlag, **kwargs)
    else:
        kwargs['type'] = split_list if setting.kind is list else setting.kind
        kwargs['metavar'] = setting.metavar or {int: 'N', float: 'F'}.get(setting.kind)
        kwargs['choices'] = setting.choices or None
        group.add_argument(f'--{setting.flag}', **kwargs)


def parse_command(
    command: str,
    description: str,
    title: str,
    cls: type,
    argv: Sequence[str] | None,
    epilog: str = '',
    **defaults: Any,
) -> argparse.Namespace:
    """Parses the command line of a stage, or of `ffn segment`, whose flags are the settings of a dataclass.

    As the scripts do, it accepts --flagfile=FILE and --flag=true.

    Args:
      command: its name, such as 'train'.
      description: see `make_parser`.
      title: heading of the flags that are in no section.
      cls: the settings.
      argv: arguments; None: those of the process.
      epilog: see `make_parser`.
      **defaults: see `add_settings`.

    Raises:
      UserError: a flag file that cannot be read.
    """
    from ffn.cli.absl_flags import expand_flag_files

    parser = make_parser(command, description, epilog)
    add_settings(parser, title, cls, **defaults)
    parser.add_argument('--flagfile', metavar='FILE', help='a file with flags, one a line')
    return parser.parse_args(expand_flag_files(sys.argv[1:] if argv is None else argv, cls))


def format_flags(args: argparse.Namespace, cls: type) -> str:
    """Writes parsed flags as --flagfile of a script or subcommand reads them, one a line.

    Args:
      args: what `add_settings` made of the command line.
      cls: the class; flags that are None are left out.
    """
    lines = []
    for setting in sorted(all_settings(cls), key=lambda setting: setting.flag):
        value = getattr(args, setting.flag)
        if isinstance(value, bool):
            lines.append(f'--{"" if value else "no"}{setting.flag}')
        elif isinstance(value, list):
            text = io.StringIO()
            csv.writer(text, lineterminator='').writerow(value)
            lines.append(f'--{setting.flag}={text.getvalue()}')
        elif value is not None:
            lines.append(f'--{setting.flag}={join_lines(str(value))}')
    return ''.join(f'{line}\n' for line in lines)


def split_list(text: str) -> list[str]:
    """Splits text at commas; an entry that holds a comma itself stands between double quotes."""
    return [part.strip() for row in csv.reader([text]) for part in row]


def read_settings(args: argparse.Namespace, cls: type[T], **others: Any) -> T:
    """Makes an instance of a dataclass from parsed flags.

    Args:
      args: what `add_settings` made of the command line.
      cls: the class.
      **others: values of fields that are not flags.

    Raises:
      UserError: a value that cannot be parsed, or that the class refuses.
    """
    return build(cls, vars(args), **others)
