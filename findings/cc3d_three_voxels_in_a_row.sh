#!/usr/bin/env bash
# connected-components-3d 4.1.1: three voxels in a row of type bool, the middle one empty, raise an error; as uint8 they are two components.
#
# cc3d.connected_components with connectivity=26 (the default) has code of its own for bool, which expects at most one component
# in this case. Who looks for the pieces of each label in its bounding box, as `labels[box] == label`, meets such a mask sooner or later:
# a label with two voxels that are apart is enough. Viewing the mask as uint8 takes the other way; connectivities 6 and 18 do not fail.
#
# Output seen (kind of array: components, or the error):
#   bool 26 maximum length exception
#   bool 6 2
#   uint8 26 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cat > "$folder/count.py" <<'PY'
import cc3d
import numpy as np

labels = np.array([[[7, 0, 7]]])
found = []
for kind, connectivity in ((bool, 26), (bool, 6), (np.uint8, 26)):
    try:
        count = cc3d.connected_components((labels == 7).astype(kind), connectivity=connectivity).max()
    except RuntimeError as error:
        count = error
    found.append(f'{np.dtype(kind).name} {connectivity} {count}')
print('\n'.join(found))
expected = ['bool 26 maximum length exception', 'bool 6 2', 'uint8 26 2']
raise SystemExit(0 if found == expected else 'the behaviour has changed')
PY
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet connected-components-3d==4.1.1 numpy==2.2.6
"$folder/venv/bin/python" "$folder/count.py" 2>/dev/null | grep -v '^Connected Components Error'
