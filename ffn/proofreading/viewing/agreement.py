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
) -> list[Layer]:
    """Makes layers fit together: images first, names that differ, a voxel size for each; tells what is doubtful.

    Truth is hidden at first where there is a segmentation to be seen.

    Args:
      layers: to be shown in one viewer.
      given: voxel size x, y, z that the user gave, for all.
      advice: how a user gives one.
    """
    layers = sorted(layers, key=lambda layer: KINDS.index(layer.kind))
    # The voxels of tables and of skeletons are those of the volumes.
    volumes = [layer for layer in layers if layer.kind not in ('annotations', 'skeletons')]
    known = [layer for layer in layers if layer.voxel_size is not None]
    size = given or (known[0].voxel_size if known else None)
    _tell_sizes(volumes, known, given, advice)
    segmentations = [layer for layer in volumes if layer.kind == 'labels' and layer.visible]
    names: dict[str, int] = {}
    fitted = []
    for layer in layers:
        count = names[layer.name] = names.get(layer.name, 0) + 1
        name = layer.name if count == 1 else f'{layer.name} {count}'
        chosen = given or layer.voxel_size or size or (1.0, 1.0, 1.0)
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


def _tell_sizes(
    layers: Sequence[Layer],
    known: Sequence[Layer],
    given: tuple[float, float, float] | None,
    advice: str,
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
            'no voxel size is stored with %s; %s: %s', ', '.join(unknown), taken, advice
        )


def _listed(numbers: Sequence[float] | None) -> str:
    return ','.join(f'{n:g}' for n in numbers or ())
