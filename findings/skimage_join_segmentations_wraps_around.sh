#!/usr/bin/env bash
# scikit-image 0.26.0 with NumPy 2.4.6: segmentation.join_segmentations is to keep two voxels together only if both segmentations do.
# It numbers the pairs of labels in the type of the arrays, as (largest label of the second + 1) · first + second, so that numbers wrap
# around, and voxels become one segment that are apart in both inputs. Nothing is said, and the documentation names no limit. The type
# that is tight for the labels is usually too small for their pairs: 20 objects times 20 in uint8, 256 times 256 in uint16. It takes
# only two objects if the second array has the largest label of its type: the factor is 0 then, and the first has no effect at all (here
# NumPy warns of a sum of scalars). uint64 is not safe either, since the factor is the label itself, and not how many there are.
# Calling relabel_sequential on both, and giving them as int64, helps.
#
# Output seen (kind of labels: segments of the join; pairs of labels that there are):
#   20 by 20 labels, uint8: 251; 400
#   20 by 20 labels, int64: 400; 400
#   2 labels with one of 65535, uint16: 1; 2
#   17 labels with one of 2**60 - 1, uint64: 16; 17
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-image==0.26.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PY'
import numpy as np
from skimage.segmentation import join_segmentations

rows, columns = np.mgrid[1:21, 1:21]
two, many = np.array([1, 2], np.uint16), np.arange(17, dtype=np.uint64)
joined = []
for name, first, second in (
    ('20 by 20 labels, uint8', rows.astype(np.uint8), columns.astype(np.uint8)),
    ('20 by 20 labels, int64', rows, columns),
    ('2 labels with one of 65535, uint16', two, np.full_like(two, 65535)),
    ('17 labels with one of 2**60 - 1, uint64', many, np.full_like(many, 2**60 - 1)),
):
    pairs = len(set(zip(first.ravel().tolist(), second.ravel().tolist())))
    joined.append((len(np.unique(join_segmentations(first, second))), pairs))
    print(f'{name}: {joined[-1][0]}; {pairs}')
raise SystemExit(0 if all((n == pairs) == (i == 1) for i, (n, pairs) in enumerate(joined)) else 'the behaviour has changed')
PY
