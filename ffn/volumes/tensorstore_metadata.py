"""What Zarr, N5 and precomputed volumes say of themselves: axes, voxel size and offset.

Sources, the first that says something: `multiscales` of OME-Zarr in the group above the array; names that
TensorStore knows, `_ARRAY_DIMENSIONS` of xarray, `axis_names` of funlib; `pixelResolution`, `transform` and
`downsamplingFactors` of N5; `resolution`, `voxel_size` and `offset` of funlib and daisy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from absl import logging

from ffn.utils.errors import UserError, reason
from ffn.utils.geometry import Box
from ffn.volumes.attributes import read_units, read_voxels, texts
from ffn.volumes.axes import Arrangement, arrange, normalize_names
from ffn.volumes.scales import Folder, ScaleMetadata, read_multiscale
from ffn.volumes.units import (
    FinestScale,
    KnownVoxelSize,
    nanometres,
    read_offset,
    read_voxel_size,
)
from ffn.volumes.unlabelled import says_unlabelled
from ffn.volumes.webknossos import PROPERTIES, Layer, parse_magnification

# With these attributes, and no transform that the finest scale explains, an array needs nothing that is around it.
_OWN_SIZES = {'resolution', 'voxel_size', 'pixelResolution'}


@dataclass(frozen=True)
class StoreDescription:
    """What is known of a store.

    Attributes:
      arrangement: its axes.
      voxel_size: None where nothing says so.
      origin_zyx: first voxel, where metadata says so; None: where the store begins by itself.
      origin_from: what says so, '' for nothing.
      stated: attributes that say which label is none.
      covers: the voxels that are the volume, of an array that is larger; None: all of them.
    """

    arrangement: Arrangement
    voxel_size: KnownVoxelSize | None = None
    origin_zyx: tuple[int, int, int] | None = None
    origin_from: str = ''
    stated: Mapping[str, Any] = field(default_factory=dict)
    covers: Box | None = None


def describe_store(store: Any, spec: Mapping[str, Any], what: str) -> StoreDescription:
    """Describes an opened TensorStore.

    Args:
      store: the store.
      spec: what it was opened with; its own transform, if it has one, is what counts.
      what: the volume, for messages.

    Raises:
      UserError: axes that make no volume, or damaged metadata.
    """
    shape, labels = tuple(store.shape), normalize_names(store.domain.labels)
    driver = spec['driver']
    if driver == 'neuroglancer_precomputed':
        arrangement = arrange(labels, shape, what)
        size = _size_of_units(store.dimension_units, arrangement, what)
        return StoreDescription(arrangement, size, None, 'its voxel_offset')
    if driver not in ('zarr', 'zarr3', 'n5') or 'transform' in spec:
        return StoreDescription(arrange(labels, shape, what))
    folder = Folder(spec['kvstore'])
    attributes = folder.read_attributes(driver)
    if _OWN_SIZES & set(attributes) and 'transform' not in attributes:
        folder = Folder(spec['kvstore'], is_needed=False)
    stated = {n: v for n, v in attributes.items() if says_unlabelled(n)}
    found = _describe_attributes(folder, driver, attributes, shape, labels, what)
    return replace(found, stated=stated, covers=_covered_by_layer(folder))


def _covered_by_layer(folder: Folder) -> Box | None:
    """The box of the layer, if this is a magnification in a dataset of WEBKNOSSOS."""
    factors, layer = parse_magnification(folder.name), folder.above()
    dataset = layer.above() if layer is not None and factors is not None else None
    if factors is None or layer is None or dataset is None:
        return None
    return Layer(layer.path, factors, dataset.read_json(PROPERTIES)).box()


def _describe_attributes(
    folder: Folder,
    driver: str,
    attributes: dict[str, Any],
    shape: tuple[int, ...],
    labels: Sequence[str],
    what: str,
) -> StoreDescription:
    if attributes.get('isLabelMultiset'):
        raise UserError(
            f'{what} is a label multiset of Paintera, several labels a voxel, which is not supported; convert it: '
            'paintera-convert to-scalar'
        )
    multiscale, group = _find_multiscale(folder, driver, len(shape), what)
    if multiscale is not None:
        names = normalize_names(multiscale.axes) or labels
        arrangement = arrange(names or _default_names(driver, len(shape)), shape, what)
        return _describe_scale(multiscale, arrangement, what)
    own = labels if {'x', 'y', 'z'}.intersection(labels) else _names_in_attributes(attributes)
    arrangement = arrange(own or _default_names(driver, len(shape)), shape, what)
    if driver == 'n5':
        transform = _read_transform(attributes, what)
        size = _n5_size(attributes, transform, group, arrangement, what)
        origin = _n5_origin(folder, transform, size, what)
        if size is not None or origin is not None:
            source = '' if origin is None else 'its attribute transform'
            return StoreDescription(arrangement, size, origin, source)
        if 'offset' in attributes:
            attributes = _reversed(attributes, what)
    size, origin, source = read_voxels(attributes, arrangement, what)
    return StoreDescription(arrangement, size, origin if source else None, source)


def _default_names(driver: str, rank: int) -> Sequence[str]:
    """N5 lists the fastest axis first; everything else is stored as [z, y, x]."""
    return 'xyzct'[:rank] if driver == 'n5' else ()


def _names_in_attributes(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    for key in ('_ARRAY_DIMENSIONS', 'axis_names'):
        if key in attributes and (names := normalize_names(texts(attributes[key]))):
            return names if {'x', 'y', 'z'} <= set(names) else ()
    return ()


def _find_multiscale(
    folder: Folder, driver: str, rank: int, what: str
) -> tuple[ScaleMetadata | None, dict[str, Any]]:
    """What the group above an array says of it, and that group's attributes."""
    nearest: dict[str, Any] = {}
    path, place = folder.name, folder.above()
    for _ in range(2):
        if place is None:
            break
        attributes = place.read_attributes(driver)
        nearest = nearest or attributes
        found = read_multiscale(attributes, path, what) if driver != 'n5' else None
        if found is not None and (not found.axes or len(found.axes) == rank):
            return found, nearest
        if found is not None:
            given = ','.join(found.axes)
            logging.warning(
                '%s has %d axes, but its multiscales metadata %s, and is not used',
                what,
                rank,
                given,
            )
        path, place = f'{place.name}/{path}', place.above()
    return None, nearest


def _describe_scale(found: ScaleMetadata, arrangement: Arrangement, what: str) -> StoreDescription:
    source = 'its multiscales metadata'
    names = [found.units[axis] for axis in arrangement.order[-3:]] if found.units else []
    # Sizes without a unit are ratios, of no use as nanometres; where the array begins needs no unit.
    known = bool(names) and all(map(nanometres, names))
    if any(names) and not known:
        logging.warning('%s: the units of its axes, %s, are not known', what, ','.join(found.units))
    factors = [nanometres(name) or 1.0 for name in names] or [1.0] * 3

    def scaled(values: Sequence[float] | None) -> list[float] | None:
        if values is None:
            return None
        return [v * f for v, f in zip(arrangement.pick_space(values), factors, strict=True)]

    try:
        scale, offset = scaled(found.scale), scaled(found.translation)
        finest = _finest(scaled(found.finest_translation), scaled(found.finest_scale))
    except ValueError as error:
        logging.warning('%s: %s is not understood (%s)', what, source, error)
        return StoreDescription(arrangement)
    size = read_voxel_size(scale or [1.0] * 3, [1.0] * 3, Arrangement((0, 1, 2)), what, source)
    stated = size if known and scale is not None else None
    if size is None or offset is None:
        return StoreDescription(arrangement, stated)
    unit = 'nm' if known else 'units'
    origin = read_offset(offset, size.xyz[::-1], what, finest, unit)
    return StoreDescription(arrangement, stated, origin, source)


def _size_of_units(
    units: Sequence[Any], arrangement: Arrangement, what: str
) -> KnownVoxelSize | None:
    """A voxel size of TensorStore's units of dimensions, such as 8 nm."""
    sizes = []
    for unit in (units[axis] for axis in arrangement.order[-3:]):
        factor = None if unit is None else nanometres(unit.base_unit)
        if factor is None:
            return None
        sizes.append(float(unit.multiplier) * factor)
    own = Arrangement((0, 1, 2))
    return read_voxel_size(sizes, [1.0] * 3, own, what, 'its resolution')


@dataclass(frozen=True)
class _Transform:
    """The attribute transform of an N5 array, z, y, x, in nanometres, or as stored where its units are not known.

    Attributes:
      scale: size of a voxel; None where nothing says so.
      translate: centre of the first voxel; None likewise.
      known: whether the units are.
    """

    scale: list[float] | None = None
    translate: list[float] | None = None
    known: bool = False


def _read_transform(attributes: Mapping[str, Any], what: str) -> _Transform:
    """Reads the attribute transform; what is not as expected says nothing, which is told."""
    transform = attributes.get('transform')
    if transform is None:
        return _Transform()
    try:
        axes = normalize_names(transform['axes'])
        if not axes:
            raise ValueError('its axes have no names')
        stored = arrange(axes, [1] * len(axes), 'it')
        names = texts(transform.get('units', ()))
        units = stored.pick_space([unit or 0.0 for unit in read_units(names)], 'units')
        scale, translate = (
            None
            if values is None
            else [
                float(v) * (u or 1.0) for v, u in zip(stored.pick_space(values), units, strict=True)
            ]
            for values in (transform.get('scale'), transform.get('translate'))
        )
    except (UserError, AttributeError, TypeError, ValueError, LookupError) as error:
        logging.warning(
            '%s: its attribute transform is %s, which is not understood (%s)',
            what,
            transform,
            reason(error),
        )
        return _Transform()
    if any(names) and not all(units):
        given = ','.join(names)
        logging.warning('%s: the units of its attribute transform, %s, are not known', what, given)
    return _Transform(scale, translate, all(units))


def _n5_size(
    attributes: Mapping[str, Any],
    transform: _Transform,
    group: Mapping[str, Any],
    arrangement: Arrangement,
    what: str,
) -> KnownVoxelSize | None:
    """Voxel size of an N5 array by the attributes of Java tools, x first; the group's are those of s0."""
    if transform.scale is not None and transform.known:
        own, source = Arrangement((0, 1, 2)), 'its attribute transform'
        if size := read_voxel_size(transform.scale, [1.0] * 3, own, what, source):
            return size
    stated, above = attributes.get('pixelResolution'), group.get('pixelResolution')
    factors = attributes.get('downsamplingFactors', [1, 1, 1])
    for stored, by in ((stated, [1, 1, 1]), (above, factors)):
        if stored is None:
            continue
        values, unit = stored, 'nm'
        if isinstance(stored, dict):
            values, unit = stored.get('dimensions', []), stored.get('unit', 'nm')
        try:
            values = [float(v) * float(f) for v, f in zip(values, by, strict=True)]
        except (TypeError, ValueError):
            values = []
        return read_voxel_size(
            values, read_units(unit), arrangement, what, 'its attribute pixelResolution'
        )
    return None


def _n5_origin(
    folder: Folder, transform: _Transform, size: KnownVoxelSize | None, what: str
) -> tuple[int, int, int] | None:
    """First voxel z, y, x of an N5 array whose attribute transform says where the centre of that is."""
    offset, scale = transform.translate, transform.scale
    if offset is None:
        return None
    known = None if size is None else list(size.xyz[::-1])
    if scale is None or not all(0 < s < math.inf for s in scale):
        scale = known
    if scale is None:
        if any(offset):
            logging.warning(
                '%s: its attribute transform has a translate, but no scale to convert it by; it is taken to '
                'begin at 0,0,0',
                what,
            )
        return None
    finest, above = transform, folder.above()
    if above is not None and folder.name != 's0':
        s0 = above.below('s0')
        finest = _read_transform(s0.read_attributes('n5'), s0.path)
    placed = _finest(finest.translate, finest.scale)
    return read_offset(offset, scale, what, placed, 'units' if known is None else 'nm')


def _finest(
    offset_zyx: Sequence[float] | None, size_zyx: Sequence[float] | None
) -> FinestScale | None:
    return None if size_zyx is None else FinestScale(offset_zyx or [0.0] * 3, size_zyx)


def _reversed(attributes: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Attributes of funlib in N5, which count from z while the metadata of N5 counts from x."""
    found = dict(attributes)
    for name in ('resolution', 'voxel_size', 'offset', 'units'):
        if isinstance(found.get(name), list):
            found[name] = found[name][::-1]
    sizes = found.get('resolution') or found.get('voxel_size')
    if isinstance(sizes, list) and len(set(map(str, sizes))) > 1:
        logging.warning(
            '%s: resolution and offset are taken in the order z,y,x, as funlib writes them', what
        )
    return found
