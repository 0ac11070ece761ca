"""Groups of scales, as OME-Zarr, N5 and bioformats2raw write them: which array is meant, and what they say of it.

The metadata of an array and of the groups above it are JSON files in a key-value store, local or remote.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from absl import logging

from ffn.utils.errors import UnreadableError, UserError, reason
from ffn.utils.texts import parse_object
from ffn.volumes.servers import check_answered, context

_ZARR3, _ZARR2, _N5 = 'zarr.json', '.zattrs', 'attributes.json'


class Folder:
    """A place in a key-value store of TensorStore."""

    def __init__(self, kvstore: Any, is_needed: bool = True):
        """Asks nothing yet.

        Args:
          kvstore: TensorStore spec of a key-value store, JSON or URL.
          is_needed: whether it is an error that it cannot be read; otherwise that is told, as of all places that are found
            from it.
        """
        import tensorstore as ts

        self._is_needed = is_needed
        self.kvstore: dict[str, Any] = ts.KvStore.Spec(kvstore).to_json()
        path = str(self.kvstore.get('path', ''))
        self.path = path.rstrip('/')
        # What the paths of all that is in it begin with: at the top of a file system '/', of a zip file or a bucket nothing.
        self._within = f'{self.path}/' if path else ''

    def __str__(self) -> str:
        """What messages call it: its path, behind that of the zip file that it is in."""
        return f'{self._archive}{self.path}'.removesuffix(': ')

    @property
    def _archive(self) -> str:
        base = self.kvstore.get('base')
        return f'{base.get("path", "")}: ' if isinstance(base, dict) else ''

    @property
    def _address(self) -> str:
        import tensorstore as ts

        try:
            return str(ts.KvStore.Spec(self.kvstore).url)
        except NotImplementedError:  # as of S3 elsewhere than at Amazon
            return str(self)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition('/')[2]

    def at(self, path: str) -> Folder:
        """Another place in the same store."""
        return Folder({**self.kvstore, 'path': path}, self._is_needed)

    def below(self, name: str) -> Folder:
        """The place below this one."""
        return self.at(f'{self._within}{name}')

    def above(self) -> Folder | None:
        """The place above this one, which need not exist; None at the top of the store."""
        parent, slash, _ = self.path.rpartition('/')
        return self.at(parent or slash) if self.path else None

    def read_json(self, name: str) -> dict[str, Any]:
        """Reads a metadata file; {} where there is none.

        Raises:
          UnreadableError: it is not known whether there is one, and the folder is needed.
          UserError: it is damaged. Of web servers, {} is returned then: some answer with a page for people.
        """
        import tensorstore as ts

        spec = {**self.kvstore, 'path': self._within}
        try:
            store = ts.KvStore.open(spec, context=context(self._is_needed)).result()
            found = store.read(name).result()
        except (ValueError, OSError, NotImplementedError) as error:
            self._check_answered(error)
            return {}
        if found.state != 'value':
            return {}
        try:
            return parse_object(found.value, f'{self._archive}{spec["path"]}{name}')
        except UserError:
            if spec['driver'] == 'http':
                return {}
            raise

    def _check_answered(self, error: Exception) -> None:
        try:
            check_answered(error, self._address)
        except UnreadableError as silent:
            if self._is_needed:
                raise
            _tell_silent(str(silent))

    def is_array(self, driver: str) -> bool:
        """Whether there is an array here, and not a group; see `read_attributes`."""
        if driver == 'zarr3':
            return self.read_json(_ZARR3).get('node_type') == 'array'
        if driver == 'n5':
            return 'dimensions' in self.read_json(_N5)
        return bool(self.read_json('.zarray'))

    def read_attributes(self, driver: str) -> dict[str, Any]:
        """Reads the attributes of an array or group; those of OME are at the top.

        Args:
          driver: 'zarr', 'zarr3' or 'n5'.
        """
        if driver == 'zarr3':
            attributes = self.read_json(_ZARR3).get('attributes', {})
            if not isinstance(attributes, dict):
                raise UserError(
                    f'{self.path}/{_ZARR3} is damaged: its attributes are no JSON object'
                )
        else:
            attributes = self.read_json(_N5 if driver == 'n5' else _ZARR2)
        ome = attributes.get('ome')
        return {**attributes, **ome} if isinstance(ome, dict) else attributes


@functools.cache  # once, however often a volume is opened
def _tell_silent(error: str) -> None:
    logging.warning('what is said of a volume in the folders above it is not known: %s', error)


@dataclass(frozen=True)
class ScaleMetadata:
    """What an OME-Zarr group says of one of its arrays.

    Attributes:
      axes: names, in stored order.
      units: of each axis, '' where none is given.
      scale: size of a voxel along each axis; None where nothing says so.
      translation: centre or corner of the first voxel along each axis; None likewise.
      finest_scale: size of a voxel of the finest array.
      finest_translation: where that begins, likewise.
    """

    axes: tuple[str, ...]
    units: tuple[str, ...]
    scale: tuple[float, ...] | None
    translation: tuple[float, ...] | None
    finest_scale: tuple[float, ...] | None
    finest_translation: tuple[float, ...] | None


def read_multiscale(attributes: Mapping[str, Any], path: str, what: str) -> ScaleMetadata | None:
    """Reads what the attributes of an OME-Zarr group say of an array; None where they do not mention it.

    Args:
      attributes: of the group.
      path: of the array, below the group.
      what: the volume, for messages.

    Raises:
      UserError: metadata that is not as the specification of OME-Zarr has it.
    """
    for multiscale in _multiscales(attributes):
        try:
            datasets = multiscale['datasets']
            for dataset in datasets:
                if dataset['path'].strip('/') == path:
                    _tell_ignored(multiscale, dataset, what)
                    return _describe_scale(multiscale, dataset, datasets[0])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f'{what}: the multiscales metadata above {path} is damaged: {reason(error)}'
            ) from error
    return None


def _describe_scale(
    multiscale: Mapping[str, Any], dataset: Mapping[str, Any], finest: Mapping[str, Any]
) -> ScaleMetadata:
    axes = [a if isinstance(a, dict) else {'name': a} for a in multiscale.get('axes', [])]
    above = multiscale.get('coordinateTransformations', [])
    scale, translation = _transformation(dataset.get('coordinateTransformations', []), above)
    return ScaleMetadata(
        tuple(str(axis['name']) for axis in axes),
        tuple(str(axis.get('unit') or '') for axis in axes),
        scale,
        translation,
        *_transformation(finest.get('coordinateTransformations', []), above),
    )


def _tell_ignored(multiscale: Mapping[str, Any], dataset: Mapping[str, Any], what: str) -> None:
    """Warns of what moves an array otherwise than by a scale and a translation that are stated as numbers."""
    for metadata in (dataset, multiscale):
        for step in metadata.get('coordinateTransformations', []):
            if step.get('type') != 'identity' and not {'scale', 'translation'} & set(step):
                logging.warning(
                    '%s: a transformation of its multiscales metadata is not understood: %s',
                    what,
                    step,
                )


def _transformation(
    *lists: Sequence[Mapping[str, Any]],
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Combines the scales and translations of an array with those of its group, which follow them."""
    scale: tuple[float, ...] | None = None
    translation: tuple[float, ...] | None = None
    for step in (step for steps in lists for step in steps):
        if 'scale' in step:
            by = tuple(map(float, step['scale']))
            scale = by if scale is None else tuple(a * b for a, b in zip(scale, by, strict=True))
            if translation is not None:
                translation = tuple(a * b for a, b in zip(translation, by, strict=True))
        if 'translation' in step:
            by = tuple(map(float, step['translation']))
            before = translation or (0.0,) * len(by)
            translation = tuple(a + b for a, b in zip(before, by, strict=True))
    return scale, translation


def _multiscales(attributes: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    entries = attributes.get('multiscales', [])
    yield from (e for e in entries if isinstance(e, dict)) if isinstance(entries, list) else ()


def _datasets(multiscale: Mapping[str, Any], what: str) -> list[Any]:
    datasets = multiscale.get('datasets', [])
    if not isinstance(datasets, list):
        raise UserError(
            f'{what}: the datasets of its multiscales metadata are {datasets!r}, no list'
        )
    return datasets


def choose_scale(folder: Folder, driver: str, scale: str, what: str) -> Folder | None:
    """Finds the array of a group of scales.

    Args:
      folder: the group.
      driver: see `Folder.read_attributes`.
      scale: name or number from 0 of the array; '': the finest.
      what: the volume, for messages.

    Returns:
      The array's folder; None if the folder is no group of scales.

    Raises:
      UserError: no such scale.
    """
    group, paths = find_scales(folder, driver, what)
    if not paths:
        return None
    if scale.isdigit() and scale not in paths and int(scale) < len(paths):
        scale = paths[int(scale)]
    if scale and scale not in paths:
        raise UserError(f'{what} has no scale {scale}; its scales are: {", ".join(paths)}')
    return group.below(scale or paths[0])


def find_scales(folder: Folder, driver: str, what: str) -> tuple[Folder, list[str]]:
    """Finds the arrays of a group of scales.

    Args:
      folder: the group, or that of bioformats2raw above it.
      driver: see `Folder.read_attributes`.
      what: the volume, for messages.

    Returns:
      The group, and the names of its arrays, the finest first; none if the folder is no group of scales.
    """
    attributes = folder.read_attributes(driver)
    if 'bioformats2raw.layout' in attributes and not attributes.get('multiscales'):
        return find_scales(folder.below('0'), driver, what)
    paths = [
        str(dataset['path']).strip('/')
        for multiscale in list(_multiscales(attributes))[:1]
        for dataset in _datasets(multiscale, what)
        if isinstance(dataset, dict) and 'path' in dataset
    ]
    if not paths and driver == 'n5':
        for name in (f's{n}' for n in range(32)):
            if 'dimensions' not in folder.below(name).read_json(_N5):
                break
            paths.append(name)
    return folder, paths
