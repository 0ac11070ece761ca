#!/usr/bin/env bash
# scikit-image 0.26.0: skeletonize (3-D) erases straight parts that are an even number of voxels wide.
#
# Thinning a straight bar of square cross-section leaves its centre line, if the bar is 3 or 5 voxels wide. If it is 2, 4
# or 6 wide, nothing is left of it; and if a wider body lies across its middle, the line of one half stays,
# and the other half has none, although the object is connected and a skeleton is expected to be as well connected
# and as long. Whoever measures lengths of neurites in labels that were drawn or upsampled gets too little, silently.
#
# Output seen (width; length of the bar; extent of the skeleton along it; the same with a body across the middle):
#   3: 190 188 188
#   4: 190 0 100
#   5: 190 186 186
#   6: 190 0 99
set -eu
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q scikit-image==0.26.0 numpy==2.3.5 scipy==1.16.3
"$folder/venv/bin/python" - <<'EOF'
import numpy as np
from skimage.morphology import skeletonize

def extent(bar):
    along = np.flatnonzero(skeletonize(bar).any(axis=(0, 1)))
    return along[-1] - along[0] + 1 if along.size else 0

found = {}
for width in (3, 4, 5, 6):
    bar = np.zeros((width + 34, 13, 200), bool)
    bar[2 : 2 + width, 2 : 2 + width, 5:195] = True
    alone = extent(bar)
    bar[2:32, 2:9, 90:97] = True
    found[width] = int(alone), int(extent(bar))
    print(f'{width}: 190', *found[width])
whole = all(min(found[width]) > 180 for width in (3, 5))
raise SystemExit(not (whole and all(found[n][0] == 0 and found[n][1] < 110 for n in (4, 6))))
EOF
