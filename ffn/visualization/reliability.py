"""A reliability plot: do things come true as often as their probabilities say?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ffn.utils.atomic import atomic_path


def plot_reliability(table: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draws what was observed over what was predicted; the area of a point is the share of pairs that it stands for.

    Args:
      table: see `ffn.agglomeration.fitting.reliability`.
      path: PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6, 3.6), layout='constrained')
    axes = figure.subplots()
    predicted, observed, weights = (
        [row[name] for row in table] for name in ('predicted', 'observed', 'weight')
    )
    axes.plot([0, 1], [0, 1], color='0.6', linewidth=1)
    axes.plot(predicted, observed, color='tab:blue', linewidth=1)
    axes.scatter(predicted, observed, [20 + 400 * w for w in weights], color='tab:blue', alpha=0.6)
    axes.set(xlabel='predicted probability', ylabel='fraction in one object', aspect='equal')
    axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format='png')
