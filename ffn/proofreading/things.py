"""From what a user names to layers: volumes, folders of results, exports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from absl import logging

from ffn.evaluation.sources import open_segmentation
from ffn.inference.storage import subvolume_files
from ffn.proofreading.layers import Kind, Layer
from ffn.proofreading.samples import find_contrast, find_place
from ffn.utils.errors import UserError
from ffn.utils.texts import parse_object
from ffn.volumes import tensorstores
from ffn.volumes.specs import split_spec
from ffn.volumes.units import same_size
from ffn.volumes.volume import Volume, open_volume

# Folders of an export, and how they are shown.
EXPORTED: dict[str, Kind] = {'image': 'image', 'labels': 'labels'}
# Types of integers that are labels more often than images.
# From bottom to top.
_ORDER: tuple[Kind, ...] = ('image', 'probabilities', 'labels')
_LABELS = ('uint32', 'int32', 'uint64', 'int64')


def open_thing(spec: str) -> list[Layer]:
    """Finds out what a user names, and opens it.

    Args:
      spec: a volume, 'path:dataset' or any other string that `open_volume` takes; a folder of results
        (seg-X_Y_Z.npz), or one of them; or a folder that `ffn export` wrote.

    Raises:
      UserError: it is none of these.
    """
    path = Path(spec)
    if path.is_dir() and any((path / name / 'info').is_file() for name in EXPORTED):
        found = [name for name in EXPORTED if (path / name / 'info').is_file()]
        return [open_layer(str(path / name), EXPORTED[name], name) for name in found]
    if path.suffix == '.npz' or (path.is_dir() and any(subvolume_files(path))):
        return [open_layer(spec, 'labels')]
    return [open_layer(spec)]


def open_layer(spec: str, kind: Kind | None = None, name: str = '') -> Layer:
    """Opens a volume, or labels of results, as a layer.

    Args:
      spec: the volume; for labels, also a folder of results.
      kind: how it is shown; None: by its type, which is told.
      name: of the layer; '': made of the volume's.

    Raises:
      UserError: it cannot be opened, or holds something else.
    """
    if kind == 'labels':
        volume = open_segmentation(spec)
    else:
        volume = open_volume(spec).single_channel()
    if kind is None:
        kind = 'labels' if volume.dtype.name in _LABELS else 'image'
        logging.info('%s holds %s and is shown as %s', spec, volume.dtype, kind)
        volume = volume.require_labels() if kind == 'labels' else volume
    name = name or short_name(spec)
    size = volume.voxel_size.xyz if volume.voxel_size else None
    folder = find_precomputed(spec, kind)
    coarse = volume if folder is None else _open_coarsest(spec, folder)
    place = find_place(coarse, volume.box) if folder is not None else None
    contrast = None if kind == 'labels' else find_contrast(coarse)
    return Layer(name, kind, folder or volume, size, volume.box, place, contrast)


def short_name(spec: str) -> str:
    """A name for a volume: its dataset, or the last part of its path."""
    path, dataset = split_spec(spec)
    return (dataset or path).rstrip('/').rpartition('/')[2] or spec


def find_precomputed(spec: str, kind: Kind) -> Path | None:
    """The folder of a precomputed volume that the viewer can read itself; None if it is none.

    It can where the volume is on this machine and has several scales, or what belongs to segments. Others are
    read here, which makes coarser scales of them.

    Args:
      spec: the volume.
      kind: how it is shown.
    """
    if not tensorstores.recognizes(spec) or '#' in spec:
        return None
    try:
        store = tensorstores.find_store(spec)
    except UserError:
        return None
    kvstore = store['kvstore']
    if store.keys() != {'driver', 'kvstore'} or store['driver'] != 'neuroglancer_precomputed':
        return None
    if not isinstance(kvstore, dict) or kvstore.get('driver') != 'file':
        return None
    folder = Path(kvstore['path'])
    info = parse_object((folder / 'info').read_bytes(), str(folder / 'info'))
    more = (
        len(info.get('scales', [])) > 1 or {'mesh', 'skeletons', 'segment_properties'} & info.keys()
    )
    fits = (info.get('type') == 'segmentation') == (kind == 'labels')
    return folder if more and fits and info.get('num_channels') == 1 else None


def _open_coarsest(spec: str, folder: Path) -> Volume:
    info = parse_object((folder / 'info').read_bytes(), str(folder / 'info'))
    scales = info['scales']
    last = min(range(len(scales)), key=lambda n: math.prod(scales[n]['size']))
    return open_volume(f'{spec}@{last}').single_channel()


def agree(layers: Sequence[Layer], given: tuple[float, float, float] | None) -> list[Layer]:
    """Makes layers fit together: images first, names that differ, a voxel size for each; tells what is doubtful.

    Args:
      layers: to be shown in one viewer.
      given: voxel size x, y, z that the user gave, for all.
    """
    layers = sorted(layers, key=lambda layer: _ORDER.index(layer.kind))
    known = [layer for layer in layers if layer.voxel_size is not None]
    size = given or (known[0].voxel_size if known else None)
    _tell_sizes(layers, known, given)
    names: dict[str, int] = {}
    fitted = []
    for layer in layers:
        count = names[layer.name] = names.get(layer.name, 0) + 1
        name = layer.name if count == 1 else f'{layer.name} {count}'
        chosen = given or layer.voxel_size or size or (1.0, 1.0, 1.0)
        fitted.append(replace(layer, name=name, voxel_size=chosen))
    for layer in fitted[1:]:
        if layer.voxel_size == fitted[0].voxel_size and not layer.box.intersection(fitted[0].box):
            logging.warning(
                '%s covers %s, but %s %s: they do not overlap',
                *(fitted[0].name, fitted[0].box, layer.name, layer.box),
            )
    return fitted


def _tell_sizes(
    layers: Sequence[Layer], known: Sequence[Layer], given: tuple[float, float, float] | None
) -> None:
    for layer in known[1:]:
        first = known[0]
        if given is None and not same_size(layer.voxel_size or (), first.voxel_size or ()):
            logging.warning(
                'the voxels of %s are x,y,z %s nm, those of %s %s nm; they are drawn so',
                *(first.name, _listed(first.voxel_size), layer.name, _listed(layer.voxel_size)),
            )
    unknown = [layer.name for layer in layers if layer.voxel_size is None]
    if unknown and given is None:
        taken = f'that of {known[0].name} is taken' if known else 'they are drawn as cubes of 1 nm'
        logging.warning(
            'no voxel size is stored with %s; %s: give --voxel_size X,Y,Z',
            ', '.join(unknown),
            taken,
        )


def _listed(numbers: Sequence[float] | None) -> str:
    return ','.join(f'{n:g}' for n in numbers or ())
