"""NeuroProof's pair of datasets: `stack`, supervoxel ids, and `transforms`, the body that each belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import fastremap
import numpy as np

from ffn.utils.arrays import native
from ffn.utils.errors import UserError
from ffn.utils.labels import find_ids
from ffn.volumes.unlabelled import Unlabelled

STACK, TRANSFORMS = 'stack', 'transforms'


@dataclass(frozen=True)
class Transforms:
    """The body that each supervoxel belongs to; 0, and what is not labelled, is background unless listed.

    Attributes:
      supervoxels: int64 or uint64 [n], ascending, distinct.
      bodies: int64 or uint64 [n].
    """

    supervoxels: np.ndarray
    bodies: np.ndarray

    @classmethod
    def from_table(cls, table: np.ndarray, what: str) -> Transforms:
        """Reads rows of supervoxel id and body id.

        Raises:
          UserError: the table has another shape or type, or gives a supervoxel two bodies.
        """
        if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind not in 'iu':
            raise UserError(
                f'{what} is {table.dtype} of shape {table.shape}; expected integers, N×2: '
                'supervoxel id, body id'
            )
        table = np.unique(native(table), axis=0)
        twice = table[1:, 0] == table[:-1, 0]
        if twice.any():
            raise UserError(f'{what} gives supervoxel {table[1:, 0][twice][0]} two bodies')
        # Bodies are wide enough for one that means 'not labelled'.
        wide = np.uint64 if table.dtype.kind == 'u' else np.int64
        return cls(table[:, 0], table[:, 1].astype(wide))

    def apply(self, labels: np.ndarray, what: str, rule: Unlabelled) -> np.ndarray:
        """Replaces supervoxels by their bodies.

        Args:
          labels: integer, any shape, as stored.
          what: name of the labels, for errors.
          rule: which supervoxels are none.

        Returns:
          Bodies, of the same shape; of supervoxels that are none, one that means 'not labelled'.

        Raises:
          UserError: a supervoxel without a body.
        """
        ids, inverse = fastremap.unique(labels, return_inverse=True)
        wide = ids.astype(self.supervoxels.dtype)
        at, known = find_ids(self.supervoxels, wide)
        known &= wide == ids
        unlabelled = rule.find(ids)
        none = np.zeros(len(ids), bool) if unlabelled is None else unlabelled & ~known
        unknown = ids[~known & (ids != 0) & ~none]
        if len(unknown):
            raise UserError(
                f'{what}: {TRANSFORMS} lists no body for supervoxel {unknown[0]}; complete it, or '
                f'import the supervoxels themselves with --dataset {STACK}'
            )
        bodies = np.zeros(len(ids), self.bodies.dtype)
        bodies[known] = self.bodies[at[known]]
        bodies[none] = np.iinfo(bodies.dtype).max if bodies.dtype.kind == 'u' else -1
        return bodies[inverse].reshape(labels.shape)
