"""From what a user names to layers: volumes, folders of results, exports, tables, skeletons, scores."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from absl import logging

from ffn.evaluation.sources import find_results, open_results, open_segmentation
from ffn.export.properties import largest_with_shape
from ffn.proofreading.viewing import results
from ffn.proofreading.viewing.annotations import Annotations, read_table
from ffn.proofreading.viewing.error_places import read_errors
from ffn.proofreading.viewing.layers import Kind, Layer
from ffn.proofreading.viewing.samples import find_contrast, find_place
from ffn.proofreading.viewing.skeleton_files import find_skeletons
from ffn.utils.errors import UserError
from ffn.utils.texts import parse_object
from ffn.volumes import tensorstores
from ffn.volumes.provenance import open_complete
from ffn.volumes.specs import split_spec
from ffn.volumes.volume import Volume, VolumeSource, open_volume

# Folders of an export, and how they are shown.
EXPORTED: dict[str, Kind] = {'image': 'image', 'labels': 'labels'}
# Types of integers that are labels more often than images.
_LABELS = ('uint32', 'int32', 'uint64', 'int64')
_MOST_SCALES = 20


def open_thing(thing: str) -> list[Layer]:
    """Finds out what a user names, and opens it.

    Args:
      thing: a volume, 'path:dataset' or any other string that `open_volume` takes; a folder of results
        (seg-X_Y_Z.npz), or one of them; a folder that `ffn assemble`, `agglomerate` or `export` wrote; a table of
        places (.csv); scores of `ffn evaluate` (.json); or skeletons (.swc, or a folder of them).

    Raises:
      UserError: it is none of these.
    """
    path = Path(thing)
    if path.suffix == '.csv':
        return [open_points(thing, path.stem)]
    if path.suffix == '.json' and path.is_file():
        return [open_errors(thing)]
    if path.suffix == '.swc' or (path.is_dir() and any(path.glob('*.swc'))):
        return [open_skeletons(thing)]
    if path.suffix != '.npz' and not path.is_dir():
        return [open_layer(thing)]
    exported = [name for name in EXPORTED if (path / name / 'info').is_file()]
    if exported:
        return [open_layer(str(path / name), EXPORTED[name], name) for name in exported]
    if results.is_agglomeration(path):
        return list(_open_agglomeration(path))
    found = find_results(path)
    assembled = results.assembled_volume(path)
    if found or assembled:
        return list(_open_results(thing, found, assembled))
    return [open_layer(thing)]


def _open_results(thing: str, found: list[Path], assembled: str | None) -> Iterator[Layer]:
    """Layers of results of inference and of the volume that was assembled of them."""
    inputs = results.inputs_of_results(found) if found else results.Inputs()
    yield from _open_inputs(inputs.image, 'image', 'image')
    if probabilities := results.open_probabilities(thing, found):
        yield _of_volume(probabilities, 'probabilities', 'probabilities', visible=False)
    if assembled and not found:
        yield open_layer(assembled, 'labels', 'labels')
        return
    written = _open_outputs([assembled] if assembled else [], 'labels')
    yield from written
    name = 'subvolumes' if written else 'labels'
    volume = open_results(thing, found).require_labels()
    yield _of_volume(volume, 'labels', name, visible=not written)
    if len(found) > 1:
        logging.info(
            '%s: the ids of the %d results are kept apart: N·2^32 is added in the Nth of them, from 0',
            *(thing, len(found)),
        )
    if (seeds := results.read_seeds(found)) is not None and len(seeds.points):
        yield _of_places(seeds, 'seeds', volume)


def _open_agglomeration(path: Path) -> Iterator[Layer]:
    inputs = results.inputs_of_agglomeration(path)
    yield from _open_inputs(inputs.image, 'image', 'image')
    yield from _open_inputs(inputs.labels, 'labels', 'labels')
    yield from _open_outputs(results.joined_volumes(path), 'joined')
    name, places = results.read_decisions(path)
    yield Layer(name, 'annotations', places, None, places.box)


def _open_inputs(source: VolumeSource | None, kind: Kind, name: str) -> Iterator[Layer]:
    """The layer of what a run was made from; none, and a warning, where that is not there any more."""
    if source is None:
        return
    try:
        volume = source.open()
        volume = volume.require_labels() if kind == 'labels' else volume.single_channel()
    except (UserError, OSError) as error:
        logging.warning('the %s that these results were made from is not shown: %s', name, error)
        return
    yield _of_volume(volume, kind, name)


def _open_outputs(specs: Iterable[str], name: str) -> list[Layer]:
    """Layers of label volumes that a run writes; none, and a warning, of one that is not there, or not complete."""
    layers = []
    for spec in specs:
        try:
            layers.append(open_layer(spec, 'labels', name))
        except UserError as error:
            logging.warning('a volume that this run writes is not shown: %s', error)
    return layers


def _of_volume(volume: Volume, kind: Kind, name: str, visible: bool = True) -> Layer:
    size = volume.voxel_size.xyz if volume.voxel_size else None
    contrast = find_contrast(volume) if kind == 'image' else None
    return Layer(name, kind, volume, size, volume.box, contrast=contrast, visible=visible)


def _of_places(places: Annotations, name: str, volume: Volume) -> Layer:
    size = volume.voxel_size.xyz if volume.voxel_size else None
    return Layer(name, 'annotations', places, size, places.box)


def open_points(path: str, name: str = 'points') -> Layer:
    """Opens a table of places; see `ffn.proofreading.viewing.annotations.read_table`."""
    places = read_table(path)
    return Layer(name, 'annotations', places, None, places.box)


def open_errors(path: str, name: str = 'errors') -> Layer:
    """Opens the errors of an evaluation; see `ffn.proofreading.viewing.error_places.read_errors`."""
    places = read_errors(path)
    return Layer(name, 'annotations', places, None, places.box)


def open_skeletons(place: str, name: str = 'skeletons', voxels: bool = False) -> Layer:
    """Opens SWC files; see `ffn.proofreading.viewing.skeleton_files.find_skeletons`."""
    return Layer(name, 'skeletons', find_skeletons(place, voxels), None, None)


def open_layer(spec: str, kind: Kind | None = None, name: str = '') -> Layer:
    """Opens a volume, or labels of results, as a layer.

    Args:
      spec: the volume; for labels and probabilities, also a folder of results.
      kind: how it is shown; None: by its type, which is told.
      name: of the layer; '': made of the volume's.

    Raises:
      UserError: it cannot be opened, or holds something else.
    """
    volume = _open_as(spec, kind)
    if kind is None:
        kind = 'labels' if volume.dtype.name in _LABELS else 'image'
        logging.info('%s holds %s and is shown as %s', spec, volume.dtype, kind)
    volume = volume.require_labels() if kind == 'labels' else volume
    return layer_of(volume, spec, kind, name or short_name(spec))


def layer_of(volume: Volume, spec: str, kind: Kind, name: str) -> Layer:
    """The layer of a volume that is open, with the coarser scales that are stored with it.

    Args:
      volume: labels, as `Volume.require_labels` returns them, or a single channel.
      spec: what it was opened by.
      kind: how it is shown.
      name: of the layer.
    """
    size = volume.voxel_size.xyz if volume.voxel_size else None
    folder, scales = find_precomputed(spec, kind), _open_scales(spec, kind)
    coarsest = min((volume, *scales), key=lambda one: math.prod(one.box.size))
    place = find_place(coarsest, volume.box) if scales or folder is not None else None
    contrast = find_contrast(coarsest) if kind == 'image' else None
    if folder is None:
        return Layer(name, kind, volume, size, volume.box, place, tuple(scales), contrast)
    # Shapes in 3-d are those of chosen segments: all would take long.
    chosen = largest_with_shape(folder) if kind == 'labels' else []
    return Layer(name, kind, folder, size, volume.box, place, tuple(scales), contrast, chosen)


def _open_as(spec: str, kind: Kind | None) -> Volume:
    found = find_results(Path(spec))
    if kind == 'labels' and len(found) != 1:
        return open_results(spec, found) if found else open_segmentation(spec)
    if kind == 'probabilities' and found:
        if volume := results.open_probabilities(spec, found):
            return volume
        raise UserError(f'{spec} holds no probabilities, seg-X_Y_Z.prob')
    return open_segmentation(spec) if kind == 'labels' else open_complete(spec).single_channel()


def _open_scales(spec: str, kind: Kind) -> list[Volume]:
    """The coarser scales of a volume; [] where there are none, or one is named."""
    scales: list[Volume] = []
    if '@' in spec or '#' in spec or not tensorstores.recognizes(spec):
        return scales
    with contextlib.suppress(UserError):  # there are no more
        for number in range(1, _MOST_SCALES):
            volume = open_volume(f'{spec}@{number}').single_channel()
            scales.append(volume.require_labels() if kind == 'labels' else volume)
    return scales


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
