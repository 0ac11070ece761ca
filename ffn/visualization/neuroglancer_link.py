"""Links that open a place in Neuroglancer, for volumes that a browser can fetch.

https://github.com/google/neuroglancer: the state of the viewer is JSON behind `#!` of its URL.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from ffn.utils.geometry import Xyz
from ffn.volumes.specs import split_spec

_KINDS = ('precomputed', 'zarr', 'zarr2', 'zarr3', 'n5')


@dataclass(frozen=True)
class Layer:
    """A volume in the viewer.

    Attributes:
      name: its name there.
      spec: the volume, as given on the command line.
      selected: ids that are shown; None for images.
    """

    name: str
    spec: str
    selected: Sequence[int] | None = None


def viewer_source(spec: str) -> str | None:
    """Returns Neuroglancer's name of a volume; None if a browser cannot fetch it."""
    if not re.match(rf'({"|".join(_KINDS)})://[a-z0-9]+://', spec):
        return None
    url, dataset = split_spec(spec)
    if url.startswith('precomputed') or not dataset:
        return url
    return f'{url.rstrip("/")}/{dataset.strip("/")}'


def link(
    viewer_url: str, layers: Sequence[Layer], at: Xyz, voxel_size_nm: Sequence[float] | None = None
) -> str | None:
    """Returns the URL that shows a place.

    Args:
      viewer_url: address of a Neuroglancer.
      layers: volumes to show; those that a browser cannot fetch are skipped.
      at: voxel in the centre.
      voxel_size_nm: x, y, z; None: that of the first layer.

    Returns:
      The URL, or None if a browser can fetch no layer.
    """
    shown = []
    for layer in layers:
        if source := viewer_source(layer.spec):
            entry: dict = {'type': 'image', 'source': source, 'name': layer.name}
            if layer.selected is not None:
                entry |= {'type': 'segmentation', 'segments': [str(i) for i in layer.selected]}
            shown.append(entry)
    if not shown:
        return None
    # Voxel i extends from i to i + 1.
    state: dict = {'position': [n + 0.5 for n in at], 'layers': shown, 'layout': '4panel'}
    if voxel_size_nm is not None:
        axes = zip('xyz', voxel_size_nm, strict=True)
        state = {'dimensions': {axis: [nm * 1e-9, 'm'] for axis, nm in axes}} | state
    text = json.dumps(state, separators=(',', ':'))
    return f'{viewer_url.rstrip("/")}/#!{urllib.parse.quote(text, safe="")}'
