"""State files: what a viewer shows, and how, to share or to go on with.

A file holds what was shown, as the flags of `ffn view` name it, and Neuroglancer's state. Sources of what the viewer
serves are left out of that, as their addresses end with it; layers are recognized by their names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from absl import logging

from ffn.utils import trust
from ffn.utils.atomic import write_json
from ffn.utils.errors import UserError
from ffn.utils.texts import parse_object
from ffn.volumes.specs import absolute_spec
from ffn.volumes.tensorstores import is_remote

_VERSION = 1
# Of a layer that is served: what comes from what it shows, not from how it is shown.
_SERVED = ('source', 'annotations')
_LARGEST_FILE = 2**28


@dataclass(frozen=True)
class SavedView:
    """A state file.

    Attributes:
      shown: flag of `ffn view`, or 'things' → what it named; paths are absolute.
      voxel_size: --voxel_size, as given; '' for none.
      state: Neuroglancer's, in which layers that were served have no source.
    """

    shown: Mapping[str, Sequence[str]] = field(default_factory=dict)
    voxel_size: str = ''
    state: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes it; paths below the folder of the file become relative to that."""
        folder = path.absolute().parent
        shown = {
            flag: [_relative(name, folder) for name in names]
            for flag, names in self.shown.items()
            if names
        }
        write_json(
            path,
            {
                'ffn_view': _VERSION,
                'shown': shown,
                'voxel_size': self.voxel_size,
                'state': self.state,
            },
        )


def read_view(path: Path, flags: Sequence[str]) -> SavedView:
    """Reads a state file.

    Args:
      path: the file.
      flags: those that it may have in `shown`.

    Raises:
      UserError: another kind of file, or one that names a volume on another machine which is not trusted; see
        `ffn.utils.trust`.
    """
    if path.stat().st_size > _LARGEST_FILE:
        raise UserError(f'{path} is larger than {_LARGEST_FILE >> 20} MiB; expected a state file')
    content = parse_object(path.read_bytes(), str(path))
    if content.get('ffn_view') != _VERSION:
        raise UserError(f'{path} is no state file of ffn view: it has no "ffn_view": {_VERSION}')
    shown, state = content.get('shown', {}), content.get('state', {})
    size = content.get('voxel_size', '')
    lists = isinstance(shown, dict) and all(
        flag in flags and isinstance(names, list) and all(isinstance(n, str) and n for n in names)
        for flag, names in shown.items()
    )
    if not lists or not isinstance(state, dict) or not isinstance(size, str):
        raise UserError(f'{path} is damaged: what it shows is not as ffn view writes it')
    folder = path.absolute().parent
    for name in (name for names in shown.values() for name in names):
        if is_remote(name) and not trust.current().allows_remote(name):
            raise UserError(
                f'{path} shows what is or may be on another machine, {name}; give --allow_remote if you trust it'
            )
    return SavedView(
        {flag: [_absolute(n, folder) for n in names] for flag, names in shown.items()}, size, state
    )


def _relative(name: str, folder: Path) -> str:
    scheme, mark, path = absolute_spec(name).partition('://')
    path = path if mark else scheme
    if Path(path).is_relative_to(folder):
        path = os.path.relpath(path, folder)
    return f'{scheme}://{path}' if mark else path


def _absolute(name: str, folder: Path) -> str:
    scheme, mark, path = name.partition('://')
    if not mark:
        return str(folder / name)
    return name if '://' in path else f'{scheme}://{folder / path}'


def without_sources(state: Mapping[str, Any], served: Sequence[str]) -> dict[str, Any]:
    """A state of Neuroglancer without the sources of layers that are served.

    Args:
      state: JSON.
      served: names of these layers.
    """
    layers = [
        {k: v for k, v in layer.items() if layer['name'] not in served or k not in _SERVED}
        for layer in state.get('layers', [])
    ]
    return {**state, 'layers': layers}


def with_sources(saved: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """A saved state of Neuroglancer, with the layers that are served now.

    Args:
      saved: state whose layers are matched by name; those that nobody serves stay if they are drawn in the viewer
        itself, and go, with a warning, if they are on another machine that is not trusted.
      current: state with the layers that are served; those that the saved one lacks are added.

    Raises:
      UserError: the saved state is damaged.
    """
    served = {layer['name']: layer for layer in current.get('layers', [])}
    layers: list[dict[str, Any]] = []
    kept = saved.get('layers', [])
    if not isinstance(kept, list) or not all(
        isinstance(layer, dict) and isinstance(layer.get('name'), str) for layer in kept
    ):
        raise UserError('the state file is damaged: its layers have no names')
    for layer in kept:
        name = layer['name']
        if name in served:
            own = served.pop(name)
            layers.append(
                {**layer, 'type': own['type'], **{k: own[k] for k in _SERVED if k in own}}
            )
        elif _is_local(layer.get('source')):
            layers.append(layer)
        else:
            logging.warning(
                'the layer %s of the state file is not shown: nothing here serves it', name
            )
    return {**saved, 'layers': [*layers, *served.values()]}


def _is_local(source: Any) -> bool:
    """Whether the source of a layer is the state itself, or another machine that is trusted."""
    sources = source if isinstance(source, list) else [source]
    urls = [one.get('url') if isinstance(one, dict) else one for one in sources]
    return all(
        isinstance(url, str) and (url.startswith('local://') or trust.current().allows_remote(url))
        for url in urls
    )
