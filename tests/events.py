"""Reading what training wrote for TensorBoard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf


def read_events(folder: Path) -> dict[str, dict[int, np.ndarray]]:
    """Tag → step → value, of all event files of a folder; raises where one is damaged."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for path in sorted(folder.glob('events.out.tfevents.*')):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    return found
