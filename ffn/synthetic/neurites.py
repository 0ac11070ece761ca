"""Where the neurites of a generated sample run: centre lines that branch and avoid each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import spatial

# Radii of neurites and length of a step along them, in units of the shortest side of a voxel.
RADII = (9.0, 16.0)
_STEP = 2.0


class Neurites(NamedTuple):
    """Points along the centre lines of neurites, one line after the other.

    Attributes:
      points: float64 [n, 3], positions z, y, x in these units.
      numbers: int64 [n], which neurite a point belongs to, from 1.
      radii: float64 [n], radius of the neurite at each point.
    """

    points: np.ndarray
    numbers: np.ndarray
    radii: np.ndarray


def grow_neurites(extent: np.ndarray, rng: np.random.Generator) -> Neurites:
    """Fills a box with centre lines.

    Args:
      extent: float64 [3], size z, y, x of the box in these units.
      rng: source of randomness.
    """
    # A coarse grid of places to fill; each neurite starts in the widest gap that is left.
    grid = np.stack(
        np.meshgrid(*(np.arange(2, n, 4.0) for n in extent), indexing='ij'), axis=-1
    ).reshape(-1, 3)
    gap = np.full(len(grid), np.inf)
    lines: list[np.ndarray] = []
    widths: list[np.ndarray] = []
    tree = None
    while gap.max() > 0.6 * RADII[0]:
        widest = np.flatnonzero(gap > min(gap.max(), 8) * 0.95)
        start = grid[rng.choice(widest)] + rng.uniform(-1, 1, 3)
        radius = rng.uniform(*RADII) if not lines else min(rng.uniform(*RADII), gap.max() + 3)
        radius = max(radius, RADII[0])
        line = np.array(_grow_branches(start, radius, extent, tree, rng))
        width = radius * (1 + 0.15 * np.sin(np.arange(len(line)) * 0.15 + rng.uniform(0, 6)))
        lines.append(line)
        widths.append(width)
        distances, nearest = spatial.cKDTree(line).query(grid)
        gap = np.minimum(gap, distances - width[nearest])
        tree = spatial.cKDTree(np.concatenate(lines))
    numbers = np.repeat(np.arange(1, len(lines) + 1), [len(line) for line in lines])
    return Neurites(np.concatenate(lines), numbers, np.concatenate(widths))


def _grow_branches(
    start: np.ndarray,
    radius: float,
    extent: np.ndarray,
    others: spatial.cKDTree | None,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Grows a neurite in both directions from a point, and sometimes a branch."""
    direction = _draw_direction(rng)
    line = [start]
    for sign in (1, -1):
        line += _walk(start, sign * direction, radius, extent, others, rng)
    if rng.random() < 0.4:
        fork = line[rng.integers(len(line))]
        line += _walk(fork, _draw_direction(rng), radius, extent, others, rng)
    return line


def _draw_direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def _walk(
    start: np.ndarray,
    direction: np.ndarray,
    radius: float,
    extent: np.ndarray,
    others: spatial.cKDTree | None,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Walks on, turning gently to where most room is, until it leaves the box or meets another neurite."""
    line: list[np.ndarray] = []
    position = start
    while True:
        turns = direction + 0.3 * rng.normal(size=(6, 3))
        turns /= np.linalg.norm(turns, axis=1, keepdims=True)
        if others is None:
            direction = turns[0]
        else:
            room = others.query(position + 3 * _STEP * turns)[0]
            direction = turns[np.argmax(np.minimum(room, 2 * radius))]
        position = position + _STEP * direction
        crowded = others is not None and others.query(position)[0] < 0.5 * radius
        if np.any(position < -radius) or np.any(position > extent + radius) or crowded:
            return line
        line.append(position)
