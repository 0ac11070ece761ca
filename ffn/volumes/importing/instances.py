"""Objects from a mask: membranes, or the inside of cells, become one label per connected component.

Two voxels touch if they share a face. In serial sections, membranes shift by more than their width from one
section to the next, and nearly everything would touch; there, components are made within each section, and two
of neighbouring sections are one object if each is the one that the other overlaps most.

The volume is read in slabs of whole sections. Components of a slab are numbered, and pairs of numbers that are
one object are joined at the end. Slabs are labelled twice, so that only one is in memory at a time.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.utils.labels import joint_histogram

Link = Literal['faces', 'overlap']


@dataclass(frozen=True)
class InstanceRule:
    """Which voxels are the inside of objects.

    Attributes:
      kind: membrane: all but those of the value; foreground: those of the value, or all but 0.
      value: see there; None for a foreground of all but 0.
      link: what is one object from section to section: faces, voxels that share a face; or overlap, components
        that overlap each other most.
    """

    kind: Literal['membrane', 'foreground']
    value: int | None = None
    link: Link = 'faces'

    @classmethod
    def parse(cls, text: str, what: str) -> InstanceRule:
        """Reads 'membrane:VALUE', 'foreground' or 'foreground:VALUE'; `what` names the flag in the error.

        Raises:
          UserError: another form.
        """
        match = re.fullmatch(r'(membrane|foreground)(?::(\d+))?', text.strip())
        if match is None or (match[1] == 'membrane' and match[2] is None):
            raise UserError(
                f'{what} is {text!r}; expected membrane:VALUE (all other values are the inside of objects), '
                'foreground:VALUE, or foreground (all but 0)'
            )
        value = None if match[2] is None else int(match[2])
        return cls('membrane' if match[1] == 'membrane' else 'foreground', value)

    def mask(self, labels: np.ndarray) -> np.ndarray:
        """The inside of objects, bool, of unsigned labels."""
        if self.kind == 'membrane':
            return labels != self.value
        return labels > 0 if self.value is None else labels == self.value

    @property
    def outside(self) -> int:
        """A label that is no inside of an object."""
        return (self.value or 0) if self.kind == 'membrane' else int(self.value == 0)

    def __str__(self) -> str:
        return self.kind if self.value is None else f'{self.kind}:{self.value}'


@dataclass(frozen=True)
class Instances:
    """Components of a volume.

    Attributes:
      numbers: per slab, uint64 [n + 1], the object that each component of the slab belongs to; 0 first.
      sizes: voxels of each object, uint64 [m], of the objects 1 to m.
      values: distinct values of the inside that were given.
      joined: objects that hold more than one of these values.
      joined_voxels: voxels of those.
    """

    numbers: Sequence[np.ndarray]
    sizes: np.ndarray
    values: int
    joined: int
    joined_voxels: int

    def describe(self, rule: InstanceRule) -> str:
        """Tells what was done, and how much is one object now."""
        voxels = int(self.sizes.sum())
        parts = 'voxels that share a face'
        if rule.link == 'overlap':
            parts = f'{self.components} parts of sections that overlap each other most'
        text = (
            f'--instances={rule}: {len(self.sizes)} objects of {parts}, made of {voxels} voxels; the largest '
            f'holds {self.sizes.max() / voxels:.1%} of them'
        )
        if self.values > 1:
            text += (
                f'; {self.values} values became objects, and {self.joined} objects '
                f'({self.joined_voxels / voxels:.1%} of the voxels) join several of them'
            )
        return text

    @property
    def components(self) -> int:
        """Components of slabs or sections that were joined."""
        return sum(len(numbers) - 1 for numbers in self.numbers)

    @property
    def is_doubtful(self) -> bool:
        """Whether one object holds more than half of several: membranes with gaps join neighbours."""
        return len(self.sizes) > 1 and self.sizes.max() > self.sizes.sum() / 2


def label_slab(labels: np.ndarray, rule: InstanceRule) -> np.ndarray:
    """Numbers the components of a slab, or of its sections, from 1.

    Args:
      labels: unsigned [z, y, x].
      rule: which voxels are inside.

    Returns:
      Unsigned [z, y, x], 0 outside.
    """
    import cc3d

    mask = rule.mask(labels)
    if rule.link == 'faces':
        return np.asarray(cc3d.connected_components(mask, connectivity=6))
    slab, count = np.zeros(mask.shape, np.uint32), 0
    for section, inside in zip(slab, mask, strict=True):
        found = cc3d.connected_components(inside, connectivity=4)
        # In 32 bits, as what was found may have 16.
        np.add(found, count, out=section, where=found > 0, dtype=slab.dtype)
        count += int(found.max(initial=0))
    return slab


def find_instances(
    slabs: Sequence[Box],
    read: Callable[[Box], np.ndarray],
    rule: InstanceRule,
    occurs: Callable[[], bool] = lambda: True,
) -> Instances:
    """Finds the components of a volume.

    Args:
      slabs: whole sections, in the order of z.
      read: reads the labels of one, unsigned [z, y, x].
      rule: which voxels are inside.
      occurs: whether a voxel that has been read has the value of the rule; those without a label do not count.

    Raises:
      UserError: all voxels are inside of objects, or none is.
    """
    before: np.ndarray | None = None
    counts, pairs, held = [0], [np.zeros((2, 0), np.int64)], [np.zeros((0, 3), np.uint64)]
    for slab in slabs:
        labels = read(slab)
        components = label_slab(labels, rule)
        rows = joint_histogram(components, labels)
        rows = rows[rows[:, 0] > 0]
        rows[:, 0] += np.uint64(counts[-1])
        held.append(rows)
        for z, section in enumerate(components):
            numbered = np.where(section, section.astype(np.int64) + counts[-1], 0)
            if before is not None and (z == 0 or rule.link == 'overlap'):
                pairs.append(_pairs(before, numbered, rule.link))
            before = numbered
        counts.append(counts[-1] + int(components.max(initial=0)))
    found = _join(counts, np.concatenate(pairs, axis=1), np.concatenate(held))
    is_all = int(found.sizes.sum()) == sum(math.prod(slab.size) for slab in slabs)
    _check_inside(found, np.concatenate(held), rule, is_all or not occurs())
    return found


def _check_inside(found: Instances, held: np.ndarray, rule: InstanceRule, is_all: bool) -> None:
    if not len(found.sizes):
        raise UserError(f'--instances={rule}: no voxel is inside of an object')
    if rule.kind == 'membrane' and is_all:
        values = np.unique(held[:, 1]).tolist()
        shown = ', '.join(map(str, values[:10])) + (', …' if len(values) > 10 else '')
        raise UserError(f'--instances={rule}: no voxel has this label; the labels are {shown}')


def _pairs(before: np.ndarray, section: np.ndarray, link: Link) -> np.ndarray:
    """Components of two neighbouring sections that are one object, int64 [2, n]."""
    rows = joint_histogram(before, section).astype(np.int64)
    rows = rows[(rows[:, :2] > 0).all(axis=1)]
    if link == 'overlap':
        rows = rows[_most(rows, 0) & _most(rows, 1)]
    return rows[:, :2].T


def _most(rows: np.ndarray, column: int) -> np.ndarray:
    """Whether a row of id, id, voxels has the most voxels of those with the same id in a column; bool [n]."""
    order = np.lexsort((-rows[:, 2], rows[:, column]))
    _, first = np.unique(rows[order, column], return_index=True)
    most = np.zeros(len(rows), bool)
    most[order[first]] = True
    return most


def _join(counts: Sequence[int], pairs: np.ndarray, held: np.ndarray) -> Instances:
    """Joins components by their pairs; `held` lists component, value and voxels."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = counts[-1]
    graph = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs - 1)), shape=(n, n))
    m, objects = connected_components(graph, directed=False) if n else (0, np.zeros(0, np.int64))
    object_of = np.concatenate([[0], objects.astype(np.uint64) + np.uint64(1)]).astype(np.uint64)
    owner = object_of[held[:, 0].astype(np.int64)].astype(np.int64)
    sizes = np.zeros(m + 1, np.uint64)
    np.add.at(sizes, owner, held[:, 2])
    distinct = np.unique(np.stack([owner.astype(np.uint64), held[:, 1]], axis=1), axis=0)
    joined = np.bincount(distinct[:, 0].astype(np.int64), minlength=m + 1) > 1
    numbers = [
        np.concatenate([object_of[:1], object_of[a + 1 : b + 1]])
        for a, b in itertools.pairwise(counts)
    ]
    return Instances(
        numbers,
        sizes[1:],
        len(np.unique(held[:, 1])),
        int(joined.sum()),
        int(sizes[joined].sum()),
    )
