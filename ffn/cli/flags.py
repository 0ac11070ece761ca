"""Flags of the subcommands: parsers that look alike, and dataclasses turned into flags and back."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import Any, TypeVar

from ffn.utils.settings import MISSING, settings

T = TypeVar('T')


def make_parser(command: str, description: str, epilog: str = '') -> argparse.ArgumentParser:
    """Makes the parser of a subcommand.

    Args:
      command: its name, such as 'segment'.
      description: one line, and more if need be.
      epilog: examples, shown as they are.
    """
    return argparse.ArgumentParser(
        prog=f'ffn {command}',
        description=description,
        epilog=epilog or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_settings(
    parser: argparse.ArgumentParser,
    title: str,
    cls: type,
    skip: Collection[str] = (),
    **defaults: Any,
) -> None:
    """Adds the settings of a dataclass as a group of flags.

    Args:
      parser: where they go.
      title: heading of the group in --help.
      cls: see `ffn.utils.settings`.
      skip: fields that are not flags of this command.
      **defaults: field → another default than that of the class, in the form of the field's value.
    """
    group = parser.add_argument_group(title)
    for setting in settings(cls):
        if setting.field in skip:
            continue
        default = defaults.get(setting.field, setting.default)
        text = setting.help.replace('%', '%%')
        if default not in (MISSING, None, '', (), False) and '(default' not in text:
            text += f' (default: {default})'
        kwargs: dict[str, Any] = {'dest': setting.flag, 'help': text}
        if setting.kind is bool:
            kwargs['action'] = argparse.BooleanOptionalAction if default is True else 'store_true'
        else:
            kwargs['type'] = setting.kind
            kwargs['metavar'] = setting.metavar or None
            kwargs['choices'] = setting.choices or None
        if default is MISSING:
            kwargs['required'] = True
        elif setting.kind is not bool or default is True:
            kwargs['default'] = default
        group.add_argument(f'--{setting.flag}', **kwargs)


def read_settings(args: argparse.Namespace, cls: type[T], **others: Any) -> T:
    """Makes an instance of a dataclass from parsed flags.

    Args:
      args: what `add_settings` made of the command line.
      cls: the class.
      **others: values of fields that are no flags.

    Raises:
      UserError: a value that does not parse, or that the class refuses.
    """
    values = dict(others)
    for setting in settings(cls):
        if setting.field in others or not hasattr(args, setting.flag):
            continue
        value = getattr(args, setting.flag)
        if setting.parse and isinstance(value, str):
            value = setting.parse(value, f'--{setting.flag}')
        values[setting.field] = value
    return cls(**values)
