"""SWC files: trees along neurons, as programs for tracing write them.

Cannon et al., An on-line archive of reconstructed hippocampal neurons, J. Neurosci. Methods 84, 1998. A
line is `id type x y z radius parent`; `#` begins a comment. A root has parent -1 or, as Vaa3D writes it,
parent 0 where no node has id 0. Type, radius and further columns are not used.
"""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ffn.utils.errors import UserError

# Ids of 64 bits, signed or not, and no number that fills the memory.
_ID_LIMIT = 2**64
_EXPECTED = 'expected id type x y z radius parent, with an id of 0 or more and a finite position'


class _Node(NamedTuple):
    """A line of a file."""

    line: int
    xyz: tuple[float, float, float]
    parent: int


def read_swc(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads an SWC file.

    Returns:
      float64 [n, 3] positions x,y,z as stored; int64 [m, 2] edges, indices of nodes: child, parent.

    Raises:
      UserError: no such file, a line that is not a node, an id twice, a parent that does not exist, or a
        cycle of parents.
    """
    if not path.is_file():
        raise UserError(f'no such file: {path}')
    nodes: dict[int, _Node] = {}
    lines = path.read_text(encoding='utf-8-sig', errors='replace').splitlines()
    for number, line in enumerate(lines, 1):
        fields = line.partition('#')[0].split()
        if fields:
            try:
                name, node = _parse_node(fields, number)
            except (ValueError, ArithmeticError) as error:
                raise UserError(f'{path}, line {number}: {line.strip()!r}; {_EXPECTED}') from error
            if name in nodes:
                raise UserError(
                    f'{path}, line {number}: node {name} is there already, in line '
                    f'{nodes[name].line}; expected each id once'
                )
            nodes[name] = node
    if not nodes:
        raise UserError(f'{path} holds no node')
    edges = _find_edges(nodes, path)
    _check_trees(list(nodes), edges, path)
    return np.array([node.xyz for node in nodes.values()], np.float64), edges


def _parse_node(fields: list[str], line: int) -> tuple[int, _Node]:
    name, _, x, y, z, _, parent = fields[:7]
    xyz = (float(x), float(y), float(z))
    if not math.isfinite(sum(xyz)):
        raise ValueError('a position that is not finite')
    id_ = _parse_id(name)
    if id_ < 0:
        raise ValueError('an id below 0')
    return id_, _Node(line, xyz, _parse_id(parent))


def _parse_id(text: str) -> int:
    """Reads an id exactly: from 2^53 on, floats would take neighbours for one."""
    if text.isdecimal() and len(text) < 20:
        return int(text)
    value = Decimal(text)
    if abs(value) >= _ID_LIMIT or value != value.to_integral_value():
        raise ValueError(f'{text} is no id')
    return int(value)


def _find_edges(nodes: dict[int, _Node], path: Path) -> np.ndarray:
    index = {name: i for i, name in enumerate(nodes)}
    edges = []
    for name, node in nodes.items():
        if node.parent < 0 or (node.parent == 0 and 0 not in nodes):
            continue
        if node.parent not in index:
            raise UserError(
                f'{path}, line {node.line}: node {name} has parent {node.parent}, which is not there'
            )
        edges.append((index[name], index[node.parent]))
    return np.array(edges, np.int64).reshape(-1, 2)


def _check_trees(names: list[int], edges: np.ndarray, path: Path) -> None:
    """Checks that no node is its own ancestor: such a tree has as many edges as nodes, not one fewer."""
    graph = coo_array((np.ones(len(edges), bool), edges.T), (len(names),) * 2)
    trees, tree = connected_components(graph, directed=False)
    nodes_of, edges_of = np.bincount(tree), np.bincount(tree[edges[:, 0]], minlength=trees)
    cyclic = np.flatnonzero(nodes_of == edges_of)
    if not len(cyclic):
        return
    parent = dict(edges.tolist())
    at = int(np.flatnonzero(tree == cyclic[0])[0])
    for _ in range(nodes_of[cyclic[0]]):  # then it is in the cycle, wherever it began
        at = parent[at]
    raise UserError(
        f'{path}: node {names[at]} is its own ancestor; expected trees, whose roots have parent -1'
    )
