"""Skeletons of an export as SWC files, one a segment; `ffn.evaluation.swc` and programs for tracing read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffn.distributed.pool import Pool, run_stage
from ffn.export.segment_shards import SegmentShards, read_shard
from ffn.export.trees import find_parents
from ffn.utils.atomic import atomic_path
from ffn.utils.texts import parse_object

FOLDER = 'swc'


def write(folder: Path, pool: Pool, quiet: bool = False) -> None:
    """Writes those that are missing.

    Args:
      folder: of skeletons, which are finished.
      pool: runs the tasks.
      quiet: no progress bar.

    Raises:
      UserError: the skeletons are damaged.
    """
    path = folder / 'info'
    shards = SegmentShards.from_spec(
        parse_object(path.read_bytes(), str(path)).get('sharding'), path
    )
    tasks = [(file, shards, folder / FOLDER) for file in sorted(folder.glob('*.shard'))]
    for _ in run_stage(pool, _write_shard, tasks, len(tasks), 'SWC files', quiet, unit='shard'):
        pass


def _write_shard(file: Path, shards: SegmentShards, folder: Path) -> None:
    for segment, data in read_shard(file, shards):
        path = folder / f'{segment}.swc'
        if not path.exists():
            with atomic_path(path) as temporary:
                temporary.write_text(format_swc(*decode(data)), encoding='ascii')


def decode(data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads a skeleton as Neuroglancer stores it.

    Returns:
      float32 [n, 3] x, y, z nanometres; uint32 [m, 2] edges; float32 [n] radii.
    """
    nodes, edges = np.frombuffer(data, '<u4', 2).tolist()
    positions = np.frombuffer(data, '<f4', 3 * nodes, 8).reshape(-1, 3)
    pairs = np.frombuffer(data, '<u4', 2 * edges, 8 + 12 * nodes).reshape(-1, 2)
    return positions, pairs, np.frombuffer(data, '<f4', nodes, 8 + 12 * nodes + 8 * edges)


def format_swc(nodes: np.ndarray, edges: np.ndarray, radius: np.ndarray) -> str:
    """Writes trees as SWC: `id type x y z radius parent`; parents come first.

    Args:
      nodes: float [n, 3], x, y, z nanometres.
      edges: integer [m, 2], indices of nodes; trees.
      radius: float [n], nanometres.
    """
    order, parent = find_parents(edges, len(nodes))
    number = {-1: -1}
    lines = ['# x, y, z and radius in nanometres']
    for name, node in enumerate(order.tolist(), 1):
        number[node] = name
        x, y, z = nodes[node].tolist()
        above = number[int(parent[node])]
        lines.append(f'{name} 0 {x:.7g} {y:.7g} {z:.7g} {radius[node]:.4g} {above}')
    return '\n'.join(lines) + '\n'
