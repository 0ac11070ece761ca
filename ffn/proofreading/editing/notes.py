"""The notes of proofreading as a table."""

from __future__ import annotations

import csv
from pathlib import Path

from ffn.proofreading.editing.cut_masks import CutLabels
from ffn.proofreading.editing.objects import Objects
from ffn.utils.atomic import atomic_path
from ffn.volumes.volume import Volume


def write_notes(path: Path, objects: Objects, labels: CutLabels, volume: Volume) -> None:
    """Writes all notes as CSV, atomically: x, y, z, segment, object and text, in the order of the edits.

    Args:
      path: of the table.
      objects: after the last edit.
      labels: the segmentation with the parts that were cut off.
      volume: the segmentation.
    """
    with atomic_path(path) as temporary, open(temporary, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['x', 'y', 'z', 'segment', 'object', 'text'])
        for point, note in objects.notes.items():
            segment = labels.at(volume, point)
            writer.writerow([*point, segment, objects.object_of(segment), note.text])
