"""What proofreading shows: segments, which are one colour where they are one object, and the places pointed at.

Objects are equivalences of the layer, so that a merge shows at once and nothing is fetched for it. Where segments were
cut, the layer gets another source, since Neuroglancer does not fetch the meshes of a volume again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import neuroglancer
import numpy as np
from neuroglancer import equivalence_map, viewer_state

from ffn.proofreading.editing.cut_masks import CutLabels
from ffn.proofreading.editing.cut_scales import read_coarse
from ffn.proofreading.editing.edits import Cut, Note
from ffn.proofreading.editing.objects import Objects
from ffn.proofreading.viewing.sources import Level, ServedArray, coordinate_space, find_factors
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import Volume

SEGMENTS, PLACE, SIDES, NOTES = 'segments', 'place', ('first side', 'second side'), 'notes'
_COLORS = {PLACE: '#ffeb00', SIDES[0]: '#ff3c3c', SIDES[1]: '#3c8cff', NOTES: '#7dff7d'}
# Segments in objects of several up to which all of these are shown as one; beyond, those that were edited or
# are looked at.
_ALL = 50_000


class _Equivalences(equivalence_map.EquivalenceMap):
    """As the package's own, which writes ids as numbers: a browser rounds those from 2^53 on."""

    def to_json(self) -> list[list[str]]:
        """Groups of ids, as text."""
        return [[str(one) for one in group] for group in super().to_json()]


class _Segments:
    """A scale of the base volume with the parts that were cut off, as an array [x, y, z] that is read when it is indexed."""

    dtype = np.dtype(np.uint64)

    def __init__(self, volume: Volume, labels: CutLabels, factors: Xyz):
        self.shape = tuple(volume.box.size)
        self._volume, self._labels, self._factors = volume, labels, factors

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        spans = [part.indices(n) for part, n in zip(index, self.shape, strict=True)]
        start = [span[0] + s for span, s in zip(spans, self._volume.box.start, strict=True)]
        box = Box(Xyz(*start), Xyz(*(span[1] - span[0] for span in spans)))
        return read_coarse(self._labels, self._volume, box, self._factors).T

    def transpose(self) -> np.ndarray:
        """All of it, [z, y, x], for meshes."""
        return np.ascontiguousarray(self[(slice(None),) * 3].T)


class ProofreadLayers:
    """The layers of a session in a viewer."""

    def __init__(
        self,
        volume: Volume,
        voxel_size: tuple[float, float, float],
        coarser: Sequence[Volume] = (),
        tell: Callable[[str], None] = lambda text: None,
    ):
        """Takes the base volume.

        Args:
          volume: labels.
          voxel_size: x, y, z nanometres.
          coarser: the same at other scales.
          tell: see `ServedArray`.
        """
        self._volume, self._voxel_size = volume, voxel_size
        self._coarser, self._tell = coarser, tell
        self._cuts: tuple[Cut, ...] | None = None

    def add_to(self, state: Any, labels: CutLabels, objects: Objects) -> None:
        """Adds them to the state of a viewer."""
        layer = neuroglancer.SegmentationLayer(source=[], not_selected_alpha=0.2)
        state.layers.append(name=SEGMENTS, layer=layer)
        for name, color in _COLORS.items():
            points = neuroglancer.LocalAnnotationLayer(
                dimensions=coordinate_space(self._voxel_size), annotation_color=color
            )
            state.layers.append(name=name, layer=points)
        self.draw_objects(state, labels, objects, ())

    def draw_objects(
        self, state: Any, labels: CutLabels, objects: Objects, selected: Iterable[int]
    ) -> None:
        """Shows which segments are one object.

        Args:
          state: of the viewer.
          labels: the base volume with the parts that were cut off.
          objects: after the last edit.
          selected: objects to show in 3-d, in full colour; empty: those that are.
        """
        if SEGMENTS not in {layer.name for layer in state.layers}:  # removed by the user
            return
        layer = state.layers[SEGMENTS].layer
        if labels.cuts != self._cuts:
            layer.source = [self._serve(labels)]
            self._cuts = labels.cuts
        # A part whose cut was undone has no mesh, for which the viewer would wait.
        gone = objects.parts - {cut.new for cut in labels.cuts}
        shown = [int(one) for one in selected or layer.segments]
        chosen = [objects.object_of(one) for one in shown if one not in gone]
        layer.equivalences = _Equivalences(_groups(objects, chosen))
        layer.segments = sorted(set(chosen))

    def _serve(self, labels: CutLabels) -> ServedArray:
        levels = []
        for one in self._coarser:
            factors = Xyz(*find_factors(self._volume, one))
            levels.append(Level(factors, _Segments(one, labels, factors), one.box.start))
        array = _Segments(self._volume, labels, Xyz(1, 1, 1))
        start = self._volume.box.start
        return ServedArray(array, start, self._voxel_size, True, self._tell, levels)

    def draw_points(self, state: Any, name: str, points: Sequence[Xyz]) -> None:
        """Shows points in one of the layers for these."""
        if name in {layer.name for layer in state.layers}:
            state.layers[name].layer.annotations = [
                viewer_state.PointAnnotation(id=str(n), point=[p + 0.5 for p in point])
                for n, point in enumerate(points)
            ]

    def draw_notes(self, state: Any, notes: Mapping[Xyz, Note]) -> None:
        """Shows all notes; their texts are descriptions, which are written in the viewer."""
        if NOTES in {layer.name for layer in state.layers}:
            state.layers[NOTES].layer.annotations = [
                viewer_state.PointAnnotation(
                    id=str(point), point=[p + 0.5 for p in point], description=note.text
                )
                for point, note in notes.items()
            ]

    def select_note(self, state: Any, point: Xyz) -> None:
        """Opens a panel with the text of a note, where it can be written."""
        one = {'annotationId': str(point), 'annotationSource': 0, 'annotationSubsource': 'default'}
        # The package has no name for it.
        state._json_data['selection'] = {
            'position': [p + 0.5 for p in point],
            'layers': {NOTES: {**one, 'annotationPart': 0}},
        }

    def find_texts(self, raw_state: Mapping[str, Any], notes: Mapping[Xyz, Note]) -> dict[Xyz, str]:
        """Finds texts of notes that were changed in the viewer.

        Args:
          raw_state: of the viewer, as JSON.
          notes: as they are.

        Returns:
          Voxel → what stands there now.
        """
        layers = {layer['name']: layer for layer in raw_state.get('layers', ())}
        drawn = layers.get(NOTES, {}).get('annotations', ())
        texts = {one['id']: one.get('description') or '' for one in drawn}
        return {
            point: texts[str(point)]
            for point, note in notes.items()
            if texts.get(str(point), note.text) != note.text
        }


def _groups(objects: Objects, chosen: Iterable[int]) -> list[list[int]]:
    """The segments of all objects of several, or of those that were edited or chosen if these are too many."""
    table = objects.equivalences()
    groups: dict[int, list[int]] = {}
    if len(table) <= _ALL:
        for segment, one in table.items():
            groups.setdefault(one, []).append(segment)
    else:
        for one in {table.get(i, i) for i in (*objects.changed(), *chosen)}:
            groups[one] = sorted(objects.members(one))
    return [group for group in groups.values() if len(group) > 1]
