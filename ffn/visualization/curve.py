"""Training curves from TensorBoard event files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.startup import startup_messages_hidden


def read_scalars(train_dir: str | Path) -> dict[str, np.ndarray]:
    """Reads the scalars of all event files in a folder.

    Returns:
      {tag: float64 [n, 2]}, step and value, by ascending step.

    Raises:
      UserError: there is no event file.
    """
    with startup_messages_hidden():
        from tensorboard.compat import tf

        _ = tf.io  # TensorFlow, where it is installed, is loaded by its first use
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util import tensor_util

    if not list(Path(train_dir).glob('*tfevents*')):
        raise UserError(f'{train_dir} holds no TensorBoard event file')
    events = EventAccumulator(str(train_dir), size_guidance={'tensors': 0, 'scalars': 0})
    events.Reload()
    scalars = {}
    for tag in events.Tags()['tensors']:
        points = [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
        if all(
            np.ndim(value) == 0 and np.issubdtype(value.dtype, np.number) for _, value in points
        ):
            scalars[tag] = np.array(sorted(points), dtype=np.float64)
    return scalars


def plot_scalars(
    scalars: dict[str, np.ndarray], groups: Sequence[Sequence[str]], path: Path
) -> None:
    """Draws curves over the step, one panel per group of tags.

    Args:
      scalars: as returned by `read_scalars`.
      groups: tags of each panel; absent tags are skipped.
      path: PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(groups), 3), layout='constrained')
    for axes, tags in zip(np.atleast_1d(figure.subplots(1, len(groups))), groups, strict=True):
        for tag in tags:
            if tag in scalars:
                steps, values = scalars[tag].T
                axes.plot(steps, values, label=tag)
        axes.set_xlabel('step')
        axes.locator_params(axis='x', nbins=6)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize='small')
    figure.savefig(path, dpi=120)
