"""Pictures of a report: planes, the largest objects in 3-d, histograms, maps of the grid."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ffn.assembly.tiling import Tiling
from ffn.evaluation.run_report.census import Census
from ffn.evaluation.run_report.object_summaries import LargeObject
from ffn.evaluation.run_report.subvolume_summaries import middle_of
from ffn.utils.geometry import Box, Xyz
from ffn.visualization.case_pictures import as_gray, encode_png
from ffn.visualization.overlay import label_colors
from ffn.visualization.overview import PLANES, Panel, Sampling, draw_panels
from ffn.visualization.render import Solid, render
from ffn.volumes.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Layers of a grid that are drawn one by one; of more, means along each axis.
_MAX_LAYERS = 12
_ALL, _ONE = (885, 560), (290, 260)
_SINGLES = 6


def draw_planes(
    labels: Volume,
    image: Volume | None,
    box: Box,
    tiling: Tiling | None,
    voxel_size_xyz: Sequence[float],
) -> list[tuple[str, bytes]]:
    """Draws the planes through the middle, with the borders between subvolumes.

    Returns:
      Caption and PNG of each.
    """
    at, drawn = middle_of(box), []
    for name, (across, down, right) in PLANES.items():
        sampling = Sampling.of(name, box, at, voxel_size_xyz)
        found, gray = sampling.read(labels), None
        if image is not None:
            values = sampling.read(image)
            gray = as_gray(values, np.ones(values.shape, bool))
        panel = Panel.of_labels('segmentation', found, plain=gray is None)
        if tiling is not None:
            _mark_borders(panel, sampling, tiling, down, right)
        caption = f'Plane {name} at {"xyz"[across]} = {at[across]}, in the middle of the box'
        drawn.append((caption, encode_png(draw_panels(gray, [panel], columns=2))))
    return drawn


def _mark_borders(panel: Panel, sampling: Sampling, tiling: Tiling, down: int, right: int) -> None:
    """Draws white lines where cores meet."""
    for axis, index, line in ((down, sampling.rows, 0), (right, sampling.columns, 1)):
        start, stride = tiling.box.start[axis] - sampling.box.start[axis], tiling.stride[axis]
        owner = np.minimum((index - start) // stride, tiling.grid[axis] - 1)
        places = np.flatnonzero(np.diff(owner)) + 1
        where = (places, slice(None)) if line == 0 else (slice(None), places)
        panel.colors[where], panel.alpha[where], panel.edges[where] = 255, 0.6, False


def draw_largest(
    census: Census, largest: Sequence[LargeObject], voxel_size_xyz: Sequence[float], unit: str
) -> list[tuple[str, bytes]]:
    """Draws the largest objects in 3-d, from the coarse copy: together, and some one by one.

    Returns:
      Caption and PNG of each.
    """
    ids = [one.id for one in largest if (census.coarse == one.id).any()]
    if not ids:
        return []
    parts = np.zeros(census.coarse.shape, np.uint8)
    for number, label in enumerate(ids, 1):
        parts[census.coarse == label] = number
    colors = [tuple(map(int, c)) for c in label_colors(np.array(ids, np.uint64))]
    voxel = [f * size for f, size in zip(census.factors, voxel_size_xyz, strict=True)]
    start = [s * size for s, size in zip(census.box.start, voxel_size_xyz, strict=True)]

    def solid(chosen: np.ndarray, of: Sequence[Any]) -> Solid:
        (z0, z1), (y0, y1), (x0, x1) = (
            (int(a.min()), int(a.max()) + 1) for a in np.nonzero(chosen)
        )
        corner = [s + n * v for s, n, v in zip(start, (x0, y0, z0), voxel, strict=True)]
        return Solid(chosen[z0:z1, y0:y1, x0:x1], of, voxel, corner)

    together = render(solid(parts, colors), _ALL, unit=unit)
    drawn = [(f'The {len(ids)} largest objects', encode_png(together))]
    count = min(len(ids), _SINGLES)
    sheet = Image.new('RGB', (3 * _ONE[0] + 10, -(-count // 3) * (_ONE[1] + 5) - 5), 'white')
    for number in range(count):
        one = render(
            solid((parts == number + 1).astype(np.uint8), [colors[number]]), _ONE, unit=unit
        )
        sheet.paste(one, (number % 3 * (_ONE[0] + 5), number // 3 * (_ONE[1] + 5)))
    names = ', '.join(map(str, ids[:count]))
    return [*drawn, (f'The largest, one by one, row by row: {names}', encode_png(sheet))]


def draw_bars(
    edges: Sequence[float],
    series: Sequence[tuple[str, Sequence[int]]],
    label: str,
    what: str,
    log: bool = False,
) -> bytes:
    """Draws histograms as a PNG.

    Args:
      edges: of bars, one more than there are bars.
      series: name and counts, drawn over each other.
      label: of the horizontal axis.
      what: is counted.
      log: whether the horizontal axis is logarithmic.
    """

    def draw(axes: Axes) -> None:
        axes.set_xscale('log' if log else 'linear')
        used = np.flatnonzero(np.sum([counts for _, counts in series], axis=0))
        if len(used):
            axes.set_xlim(edges[used[0]], edges[used[-1] + 1])
        for name, counts in series:
            axes.stairs(counts, edges, fill=True, alpha=0.6, label=name or None)
        axes.set(xlabel=label, ylabel=what, yscale='symlog', ylim=(0, None))
        axes.grid(alpha=0.3)
        if len(series) > 1:
            axes.legend()

    return _plot(draw, (7, 2.6))


def draw_map(values: np.ndarray, label: str, low: float | None = None) -> bytes:
    """Draws a number for each subvolume: layers along z, or means along each axis if there are many.

    Args:
      values: float [z, y, x] of the grid; not a number where there is none.
      label: what the numbers are.
      low: end of the scale of colours; None: that of the numbers.
    """
    depth = len(values)
    if depth <= _MAX_LAYERS:
        panels = [(f'z {i}', values[i], 'x', 'y') for i in range(depth)]
    else:
        means = [_mean(values, axis) for axis in range(3)]
        panels = [
            ('mean along z', means[0], 'x', 'y'),
            ('mean along y', means[1], 'x', 'z'),
            ('mean along x', means[2], 'y', 'z'),
        ]
    columns = min(len(panels), 4)
    rows = math.ceil(len(panels) / columns)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 * columns + 1.2, 2.4 * rows + 0.3), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False)
    finite = values[np.isfinite(values)]
    top = float(finite.max(initial=0)) or 1.0
    bottom = float(finite.min(initial=top)) if low is None else low
    for (title, picture, right, down), axis in zip(panels, axes.flat, strict=False):
        drawn = axis.imshow(
            np.ma.masked_invalid(picture), vmin=bottom, vmax=top, cmap='viridis', aspect='equal'
        )
        axis.set_facecolor('0.85')
        axis.set_title(title, fontsize='small')
        axis.set(xlabel=right, ylabel=down)
        axis.locator_params(integer=True, nbins=5)
        axis.tick_params(labelsize='x-small')
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.colorbar(drawn, ax=axes, label=label, shrink=0.9)
    return _as_png(figure)


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    known = np.isfinite(values)
    total, count = np.where(known, values, 0).sum(axis=axis), known.sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _plot(draw: Callable[[Axes], None], inches: tuple[float, float]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout='constrained')
    draw(figure.subplots())
    return _as_png(figure)


def _as_png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=100)
    return buffer.getvalue()


def grid_of(tiling: Tiling, values: np.ndarray) -> np.ndarray:
    """Arranges a number for each subvolume as the grid, [z, y, x]."""
    return values.reshape(tiling.grid.zyx)


def position(at: Xyz) -> str:
    """Formats a voxel as the flag --position takes it."""
    return ','.join(map(str, at))
