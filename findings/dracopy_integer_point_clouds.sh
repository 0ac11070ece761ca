#!/usr/bin/env bash
# DracoPy 2.2.0 with NumPy 2.4.6: encode(points) without faces ruins positions that are integers. What is stored, and read back, are the
# bit patterns of these numbers as float32, taken for integers: 1,2,3 becomes 1065353216,1073741824,1077936128. Signed positions come
# back as float32 of that size. Nothing is raised or warned of. With triangles the same positions are right, so that a program whose
# meshes are fine stores its places (synapses, nodes of skeletons) wrongly with the same call. The README says that points which are
# integers are encoded as an integer attribute, and makes no exception. Positions given as floats are right.
#
# Output seen (type given; with triangles; without):
#   uint32 uint32 [1, 2, 3] uint32 [1065353216, 1073741824, 1077936128]
#   int64 float32 [1.0, 2.0, 3.0] float32 [1065353216.0, 1073741824.0, 1077936128.0]
#   float32 float32 [1.0, 2.0, 3.0] float32 [1.0, 2.0, 3.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet DracoPy==2.2.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import DracoPy
import numpy as np

seen = {}
for dtype in (np.uint32, np.int64, np.float32):
    points = np.array([[0, 0, 0], [1, 2, 3], [10, 20, 30]], dtype)
    read = []
    for more in ([np.array([[0, 1, 2]])], []):
        data = DracoPy.encode(points, *more, preserve_order=True, quantization_bits=20)
        read.append(np.asarray(DracoPy.decode(data).points))
    print(points.dtype, *(part for one in read for part in (one.dtype, np.round(one[1], 3).tolist())))
    seen[points.dtype.name] = [bool(np.allclose(one, points, atol=1e-3)) for one in read]
as_seen = seen['uint32'] == seen['int64'] == [True, False] and all(seen['float32'])
raise SystemExit(0 if as_seen else 'the behaviour has changed')
PY
