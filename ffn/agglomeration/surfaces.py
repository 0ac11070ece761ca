"""How far voxels are from an object, whatever other objects are nearer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree


class Surfaces:
    """The voxels of objects that have a face in common with something else, by object."""

    def __init__(self, objects: np.ndarray, edges_zyx: Sequence[float]) -> None:
        """Collects them.

        Args:
          objects: integer [z, y, x]; 0 is empty.
          edges_zyx: of a voxel.
        """
        self._edges = edges_zyx
        # Along a fourth axis, two objects are farther from each other than anything within the array.
        self._apart = 2 * math.hypot(*np.multiply(objects.shape, edges_zyx))
        at = np.nonzero(beside(objects, objects, np.ones(objects.shape, bool)))
        # Balancing takes longer than it saves.
        self._tree = KDTree(self._points(at, objects[at]), balanced_tree=False, compact_nodes=False)

    def distances(
        self, at: tuple[np.ndarray, ...], objects: np.ndarray, limit: float = math.inf
    ) -> np.ndarray:
        """Returns how far voxels are from an object, center to center, float64 [n].

        Args:
          at: z, y and x of each, which lies outside of the object.
          objects: of each, integer [n].
          limit: what is farther than this is infinite.
        """
        distances, _ = self._tree.query(self._points(at, objects), distance_upper_bound=limit)
        return distances

    def _points(self, at: tuple[np.ndarray, ...], objects: np.ndarray) -> np.ndarray:
        along = [i * edge for i, edge in zip(at, self._edges, strict=True)]
        return np.column_stack([*along, objects * self._apart])


def beside(objects: np.ndarray, others: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns which voxels of objects share a face with one that counts and has another value than they.

    Args:
      objects: integer [z, y, x]; 0 is empty.
      others: integer, same shape: the values that the objects are compared with.
      counts: bool, same shape.
    """
    found = np.zeros(objects.shape, bool)
    for axis in range(objects.ndim):
        whole = [slice(None)] * axis
        ahead, behind = (*whole, slice(1, None)), (*whole, slice(-1))
        for here, there in ((ahead, behind), (behind, ahead)):
            found[here] |= counts[there] & (objects[here] != others[there])
    return found & (objects > 0)
