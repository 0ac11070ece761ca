#!/usr/bin/env bash
# tinybrain 1.7.0 with NumPy 2.4.6: downsample_segmentation(labels, (2, 2, 2)) of an array in C order, NumPy's own, returns labels
# in places where there are none. The result has the right shape and holds only ids that occur, but axes are mixed up: the function
# walks through memory as if it were in Fortran order. The same array in that order comes out right, and so do factors of 2×2×1, and
# averages of images, in either. Nothing is said, and the README, which speaks of the order for averages, has nothing on labels.
#
# Output seen (labels 7 for x below 2, and 9 from there on; the first of the halved volume along x, and along z):
#   2×2×2 order C: x [7, 7] z [7, 9]
#   2×2×2 order F: x [7, 9] z [7, 7]
#   2×2×1 order C: x [7, 9] z [7, 7, 7, 7]
#   voxels that are no mode of their block, of labels in boxes: order C 3136 of 4096, order F 0 of 4096
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tinybrain==1.7.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from tinybrain import downsample_segmentation

halves = np.full((4, 4, 4), 7, np.uint64)
halves[2:] = 9
for factor, order in (((2, 2, 2), 'C'), ((2, 2, 2), 'F'), ((2, 2, 1), 'C')):
    small = downsample_segmentation(halves.copy(order), factor)[0]
    print('×'.join(map(str, factor)), f'order {order}: x {small[:, 0, 0].tolist()} z {small[0, 0].tolist()}')
boxes = np.random.default_rng(0).integers(1, 9, (8, 8, 8)).astype(np.uint64).repeat(4, 0).repeat(4, 1).repeat(4, 2)
wrong = [int((downsample_segmentation(boxes.copy(order), (2, 2, 2))[0] != boxes[::2, ::2, ::2]).sum()) for order in 'CF']
print(f'voxels that are no mode of their block, of labels in boxes: order C {wrong[0]} of 4096, order F {wrong[1]} of 4096')
raise SystemExit(0 if wrong[0] > 1000 and wrong[1] == 0 else 'the behaviour has changed')
PY
