#!/usr/bin/env bash
# scikit-image 0.26.0 with SciPy 1.17.1 and NumPy 2.4.0: skimage.segmentation.find_boundaries finds no boundary
# between neighbouring labels such as 2**60 and 2**60 + 1, in any of the modes thick, inner and outer, although
# the array is uint64 and the same picture with labels 1 and 2 has one. It raises and warns of nothing. The cause
# lies below: scipy.ndimage.maximum_filter (and grey dilation and erosion, which find_boundaries uses) calculates in
# float64, so integers beyond 2**53 are rounded; the filtered array even holds a label that was not in the input.
# Segment ids of that size are usual in connectomics; renumber labels before any filter of this kind.
#
# Output seen:
#   thick: ids 1, 2: 8 pixels; ids 2**60, 2**60 + 1: 0 pixels
#   inner: ids 1, 2: 8 pixels; ids 2**60, 2**60 + 1: 0 pixels
#   outer: ids 1, 2: 8 pixels; ids 2**60, 2**60 + 1: 0 pixels
#   maximum_filter of 2**60 + 1 everywhere: 2**60 + 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.0
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from scipy import ndimage
from skimage.segmentation import find_boundaries

small = np.ones((4, 6), np.uint64)
small[:, 3:] = 2
large = small + np.uint64(2**60 - 1)
seen = {}
for mode in ('thick', 'inner', 'outer'):
    seen[mode] = [int(find_boundaries(labels, mode=mode).sum()) for labels in (small, large)]
    print(f'{mode}: ids 1, 2: {seen[mode][0]} pixels; ids 2**60, 2**60 + 1: {seen[mode][1]} pixels')
rounded = int(ndimage.maximum_filter(np.full((4, 6), 2**60 + 1, np.uint64), 3).max()) - 2**60
print(f'maximum_filter of 2**60 + 1 everywhere: 2**60 + {rounded}')
as_seen = all(few > 0 and many == 0 for few, many in seen.values()) and rounded == 0
raise SystemExit(0 if as_seen else 'the behaviour has changed')
PY
