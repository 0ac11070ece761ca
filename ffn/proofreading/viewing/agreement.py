"""Layers that fit together: order, names, voxel sizes; what is doubtful is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from absl import logging

from ffn.proofreading.viewing.layers import KINDS, TRUTH, Layer
from ffn.volumes.units import same_size


def agree(
    layers: Sequence[Layer],
    given: tuple[float, float, float] | None,
    advice: str = 'give --voxel_size X,Y,Z',
    of_request: tuple[float, float, float] | None = None,
) -> list[Layer]:
    """Makes layers fit together: images first, names that differ, a voxel size for each; tells what is doubtful.

    Truth is hidden at first where there is a segmentation to be seen. Places count the voxels of the last segmentation,
    if there is one: what finds them has looked at it.

    Args:
      layers: to be shown in one viewer.
      given: voxel size x, y, z that the user gave, for all.
      advice: how a user gives one.
      of_request: that of the request that they are shown for; those that are stored with none have it.
    """
    layers = sorted(layers, key=lambda layer: KINDS.index(layer.kind))
    volumes = [layer for layer in layers if layer.kind not in ('annotations', 'skeletons')]
    known = [layer for layer in layers if layer.voxel_size is not None]
    sizes = [(layer.name, layer.voxel_size) for layer in known]
    if of_request is not None:
        sizes.insert(0, ('the request', of_request))
    size = given or (sizes[0][1] if sizes else None)
    labels = [layer for layer in volumes if layer.kind == 'labels']
    of_places = (labels[-1].voxel_size if labels else None) or size
    if given is None:
        _tell_sizes(sizes)
        unknown = [layer.name for layer in volumes if layer.voxel_size is None]
        if unknown and of_request is None:
            taken = (
                f'that of {sizes[0][0]} is taken' if sizes else 'they are drawn as cubes of 1 nm'
            )
            logging.warning(
                'no voxel size is stored with %s; %s: %s', ', '.join(unknown), taken, advice
            )
        if not same_size(of_places or (), size or ()):
            for layer in layers:
                if layer.kind == 'annotations' and layer.voxel_size is None:
                    logging.warning(
                        '%s: places are taken to count the voxels of %s',
                        layer.name,
                        labels[-1].name,
                    )
    segmentations = [layer for layer in labels if layer.visible]
    names: dict[str, int] = {}
    fitted = []
    for layer in layers:
        count = names[layer.name] = names.get(layer.name, 0) + 1
        name = layer.name if count == 1 else f'{layer.name} {count}'
        own = layer.voxel_size or (of_places if layer.kind == 'annotations' else size)
        chosen = given or own or (1.0, 1.0, 1.0)
        hidden = layer.name == TRUTH and len(segmentations) > 1
        fitted.append(
            replace(layer, name=name, voxel_size=chosen, visible=layer.visible and not hidden)
        )
    _tell_boxes([layer for layer in fitted if layer.box is not None])
    return fitted


def _tell_boxes(layers: Sequence[Layer]) -> None:
    for layer in layers[1:]:
        first = layers[0]
        if layer.voxel_size != first.voxel_size or layer.box is None or first.box is None:
            continue
        if not layer.box.empty and layer.box.intersection(first.box) is None:
            logging.warning(
                '%s covers %s, but %s %s: they do not overlap',
                *(first.name, first.box, layer.name, layer.box),
            )


def _tell_sizes(sizes: Sequence[tuple[str, tuple[float, float, float] | None]]) -> None:
    """Tells whose voxels have another size than the first one's."""
    for name, size in sizes[1:]:
        first, of_first = sizes[0]
        if not same_size(size or (), of_first or ()):
            logging.warning(
                'the voxels of %s are x,y,z %s nm, those of %s %s nm; they are drawn so',
                *(first, _listed(of_first), name, _listed(size)),
            )


def _listed(numbers: Sequence[float] | None) -> str:
    return ','.join(f'{n:g}' for n in numbers or ())
