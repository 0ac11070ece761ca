#!/usr/bin/env bash
# fastremap 1.17.2: unique(return_counts=True) returns the ids of an int64 or uint64 array in ascending order, but their
# counts in another: that in which the ids first occur. It happens where ids range over more than the array has elements,
# as segment ids do. Arrays of ten elements, and those in which ids first occur in ascending order, come out right, so
# that a quick try shows nothing. From 1.17.3 on both are in the same order.
#
# Output seen:
#   fastremap [0, 7, 9, 1099511627776] [40, 30, 20, 10]
#   numpy     [0, 7, 9, 1099511627776] [40, 30, 10, 20]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastremap==1.17.2 numpy==1.26.4
"$folder/venv/bin/python" - <<'PY'
import fastremap
import numpy as np

voxels = np.repeat(np.array([0, 7, 2**40, 9]), [40, 30, 20, 10])
results = []
for name, unique in (('fastremap', fastremap.unique), ('numpy    ', np.unique)):
    ids, counts = unique(voxels, return_counts=True)
    results.append((ids.tolist(), counts.tolist()))
    print(name, *results[-1])
(ids, counts), (true_ids, true_counts) = results
raise SystemExit(0 if ids == true_ids and counts != true_counts else 'the behaviour has changed')
PY
