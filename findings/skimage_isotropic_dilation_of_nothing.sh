#!/usr/bin/env bash
# scikit-image 0.26.0 with SciPy 1.17.1: morphology.isotropic_dilation of a mask that is empty is not empty. Voxels around a corner of
# the array come out as True; isotropic_erosion of a mask that is full takes some from that corner, though it does not count what lies
# outside as empty. Other dilations and erosions leave both as they are. The cause lies in scipy.ndimage.distance_transform_edt, which
# measures to a voxel at -1, 0, 0 where there is no background, without saying so; the documentation of neither names the case. Blocks
# of a volume without any voxel of an object, or full of it, are usual, and each gets such a corner. Ask `mask.any()` and
# `mask.all()` first.
#
# Output seen (voxels of 6×6×6: isotropic, by a ball of the same radius):
#   dilation of nothing by 3: 18 0
#   erosion of everything by 3: 198 216
#   dilation of a voxel by 3: 123 123
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from skimage.morphology import ball, dilation, erosion, isotropic_dilation, isotropic_erosion

full = np.ones((6, 6, 6), bool)
one = np.zeros((9, 9, 9), bool)
one[4, 4, 4] = True
counts = []
for name, mask, isotropic, other in (
    ('dilation of nothing', ~full, isotropic_dilation, dilation),
    ('erosion of everything', full, isotropic_erosion, erosion),
    ('dilation of a voxel', one, isotropic_dilation, dilation),
):
    counts.append((int(isotropic(mask, 3).sum()), int(other(mask, ball(3)).sum())))
    print(f'{name} by 3:', *counts[-1])
(some, nothing), (less, everything), (same, expected) = counts
raise SystemExit(0 if some > nothing == 0 and less < everything == 216 and same == expected else 'the behaviour has changed')
PY
