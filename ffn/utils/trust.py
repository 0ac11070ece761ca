"""What the person at the command line trusts: packages that requests may name, and other machines.

Files that travel between labs (requests, flag files, settings of a training) name classes and volumes. A name
is looked up only in `ffn` and in packages that --allow_module gives. Only the command line, or a program that
calls `allow`, can add to it; no file can. It is a property of the process, as the search path of
Python is; tasks carry it to the processes that run them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ffn.utils.errors import UserError

_MODULE = re.compile(r'[^\W\d]\w*(\.[^\W\d]\w*)*')


@dataclass(frozen=True)
class Trust:
    """What is trusted, besides this project itself.

    Attributes:
      modules: packages and modules whose classes a file may name.
      remote: whether files may name volumes on other machines, and HDF5 files other files.
      words: of the command line; a volume that they name may be named in a request too.
    """

    modules: frozenset[str] = frozenset()
    remote: bool = False
    words: frozenset[str] = frozenset()

    def allows_module(self, module: str) -> bool:
        """Whether a file may name what is in a module: it is, or is below, one that is trusted."""
        return any(
            module == package or module.startswith(f'{package}.')
            for package in ('ffn', *self.modules)
        )

    def allows_remote(self, place: str) -> bool:
        """Whether a request may name a volume on another machine, by its URL or TensorStore spec."""
        named = re.compile(rf'(?<!\w){re.escape(place)}(?![\w./-])')
        texts = (text for word in self.words for text in (word, word.replace('\\"', '"')))
        return self.remote or any(map(named.search, texts))


_trust = Trust()


def current() -> Trust:
    """What this process trusts."""
    return _trust


def allow(*modules: str, remote: bool = False) -> None:
    """Trusts packages, and other machines.

    Args:
      *modules: packages or modules, such as 'mylab.networks'.
      remote: see `Trust`.

    Raises:
      UserError: what is given is no such name.
    """
    for module in modules:
        if not is_module_name(module):
            raise UserError(
                f'--allow_module is {module!r}; expected the name of a package, such as mylab'
            )
    add(Trust(frozenset(modules), remote))


def add(trust: Trust) -> None:
    """Trusts also what another process trusts, the one that sent a task to this one."""
    global _trust
    _trust = Trust(
        _trust.modules | trust.modules, _trust.remote or trust.remote, _trust.words | trust.words
    )


@contextlib.contextmanager
def only(trust: Trust) -> Iterator[None]:
    """Trusts something else while the context lasts."""
    global _trust
    before, _trust = _trust, trust
    try:
        yield
    finally:
        _trust = before


def is_module_name(name: str) -> bool:
    """Whether a text is a dotted name."""
    return bool(_MODULE.fullmatch(name))
