"""The flags of every command that say what is trusted; see `ffn.utils.trust`. No file may give them."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable
from typing import Any

from absl import flags

from ffn.utils import trust
from ffn.utils.errors import UserError

flags.disclaim_key_flags()  # the script has them, see `ffn.cli.absl_flags`

_MODULE = 'allow_module'
_REMOTE = 'allow_remote'
NAMES = (_MODULE, _REMOTE)
_MODULE_HELP = (
    'package whose networks, policies and movement policies requests and settings may name, besides ffn; may be '
    'given several times. Its code runs, so allow only what you trust; a flag file cannot allow it'
)

_REMOTE_HELP = (
    'open volumes on other machines (http, https, gs, s3) that requests name, also those that this command line does not '
    'name, and other files that HDF5 files refer to; a flag file cannot allow it'
)


class _AllowModule(argparse.Action):
    def __call__(
        self, parser: object, namespace: object, values: Any, option_string: str | None = None
    ) -> None:
        trust.allow(values)


class _AllowRemote(argparse.Action):
    def __call__(self, *_: object, **__: object) -> None:
        trust.allow(remote=True)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the flags to a subcommand; they take effect when it parses its command line."""
    group = parser.add_argument_group('What is trusted')
    group.add_argument(
        f'--{_MODULE}',
        action=_AllowModule,
        metavar='PACKAGE',
        help=_MODULE_HELP,
    )
    group.add_argument(f'--{_REMOTE}', action=_AllowRemote, nargs=0, help=_REMOTE_HELP)
    _name_words()


def define() -> None:
    """Defines the flags of a script."""
    flags.DEFINE_multi_string(_MODULE, [], _MODULE_HELP)
    flags.DEFINE_bool(_REMOTE, False, _REMOTE_HELP)


def apply() -> None:
    """Makes the flags of a script take effect.

    Raises:
      UserError: a flag file gives one, or it names no package.
    """
    given = flags.FLAGS[_MODULE].value
    words = [word.lstrip('-') for word in sys.argv[1:]]
    pairs = set(itertools.pairwise(words))
    for module in given:
        if f'{_MODULE}={module}' not in words and (_MODULE, module) not in pairs:
            raise _not_in_a_file(_MODULE)
    remote = flags.FLAGS[_REMOTE].value
    if remote and not any(word.partition('=')[0] == _REMOTE for word in words):
        raise _not_in_a_file(_REMOTE)
    trust.allow(*given, remote=remote)
    _name_words()


def _name_words() -> None:
    trust.add(trust.Trust(words=frozenset(sys.argv[1:])))


def refuse_in_file(lines: Iterable[str]) -> None:
    """Refuses a flag file that says what is trusted, abbreviated names of flags included.

    Raises:
      UserError: it does.
    """
    for line in lines:
        name = line.lstrip('-').partition('=')[0].strip()
        for flag in NAMES:
            if name and line.startswith('-') and flag.startswith(name):
                raise _not_in_a_file(flag)


def _not_in_a_file(flag: str) -> UserError:
    return UserError(
        f'a flag file gives --{flag}, which only the command line itself may; remove it from the file, and '
        'give it on the command line if you trust it'
    )
