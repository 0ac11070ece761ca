#!/usr/bin/env bash
# scikit-image 0.26.0 with NumPy 2.4.0: skimage.segmentation.watershed decides pixels that are equally far from two
# markers by where they happen to lie in its queue, and that depends on marker pixels which cannot matter: those
# with neighbours of their own marker alone. Leave these out (or mask them), to save the time that they take, and
# borders move by a pixel, row by row, without any rule of position or label. With the distance to the nearest
# segment as the image, as for growing segments into the gaps between them, every gap of an odd width is such a tie.
# Results can be compared voxel for voxel only if markers are given whole, in the same array, each time.
#
# Output seen:
#   three columns of markers: marker 1 in rows [1]
#   one column: rows [0, 2, 4, 5]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-image==0.26.0 numpy==2.4.0
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from skimage.segmentation import watershed

# Two segments at the sides, and a gap of three columns; the middle one is as far from both.
distance = np.tile(np.array([0, 0, 0, 1, 2, 1, 0, 0, 0], float), (7, 1))
whole = np.tile(np.array([1, 1, 1, 0, 0, 0, 2, 2, 2]), (7, 1))


def rows(columns, name):
    """Prints in which rows the middle belongs to marker 1 if markers have `columns` columns."""
    markers = whole.copy()
    markers[:, : 3 - columns] = markers[:, 6 + columns :] = 0
    grown = watershed(distance, markers, mask=(whole == 0) | (markers > 0))
    ours = np.flatnonzero(grown[:, 4] == 1).tolist()
    print(f'{name} {ours}')
    return ours


seen = [rows(3, 'three columns of markers: marker 1 in rows'), rows(1, 'one column: rows')]
raise SystemExit(0 if seen[0] != seen[1] else 'the behaviour has changed')
PY
