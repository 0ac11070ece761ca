#!/usr/bin/env bash
# navis 1.12.0: read_precomputed, which reads skeletons in Neuroglancer's format, drops edges of many that are valid. An edge there is a
# pair of nodes in either order. navis takes the first for the parent of the second and keeps one parent for each node, the last: of
# two edges that end in the same node one is gone. A line of four nodes whose edges are written 0 1, 2 1, 2 3 falls apart, and is
# shorter; of one whose edges all point the same way nothing is lost, so that a quick try with navis' own files shows nothing. Beside
# this, the `transform` in the info file, which navis itself writes, is not applied: nodes that are stored in voxels of 8 nm are
# returned as they are, without units. Neither is warned of or in the documentation, which says 'Follows the formats specified'.
# Read such files with another library (or as SWC), or turn the edges of each tree away from a root before writing them.
#
# Output seen (edges; transform: trees, length in nm where 240 is right):
#   [[0, 1], [1, 2], [2, 3]] 1: 1 tree, 240
#   [[0, 1], [2, 1], [2, 3]] 1: 2 trees, 160
#   [[0, 1], [1, 2], [2, 3]] 8: 1 tree, 30
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet navis==1.12.0 numpy==2.4.6
cd "$folder" && mkdir skeletons && venv/bin/python -W ignore - <<'PY'
import json
import navis
import numpy as np

navis.config.pbar_hide = True
navis.set_loggers('ERROR')
found = []
for edges, scale in (([[0, 1], [1, 2], [2, 3]], 1), ([[0, 1], [2, 1], [2, 3]], 1), ([[0, 1], [1, 2], [2, 3]], 8)):
    nodes = np.array([[80, 0, 0], [160, 0, 0], [240, 0, 0], [320, 0, 0]], np.float32) / scale
    transform = [scale, 0, 0, 0, 0, scale, 0, 0, 0, 0, scale, 0]
    with open('skeletons/info', 'w') as file:
        json.dump({'@type': 'neuroglancer_skeletons', 'transform': transform, 'vertex_attributes': []}, file)
    with open('skeletons/7', 'wb') as file:
        file.write(np.uint32([4, 3]).tobytes() + nodes.tobytes() + np.uint32(edges).tobytes())
    [neuron] = navis.read_precomputed('skeletons', parallel=False, info=True)
    found.append((neuron.n_trees, float(neuron.cable_length)))
    print(f'{edges} {scale}: {found[-1][0]} tree{"s" * (found[-1][0] > 1)}, {found[-1][1]:g}')
raise SystemExit(0 if found == [(1, 240), (2, 160), (1, 30)] else 'the behaviour has changed')
PY
