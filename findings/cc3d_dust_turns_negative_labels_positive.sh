#!/usr/bin/env bash
# connected-components-3d 4.1.1 with NumPy 2.4.6: cc3d.dust, which removes small components, changes the type of a signed array
# where there is nothing to remove. Labels -1 and 3 of int16 come back as they are from an array with a speck of dust, and as 65535
# and 3 of uint16 from one without. So what a call returns for one block of a volume is of another type than for the next, and -1,
# which often means 'not labelled', is an object with a valid id. Nothing is said, and connected_components itself takes signed labels
# well. Comparing the type with that of the input tells; viewing the result as that type mends it.
#
# Output seen (labels -1 and 3 of int16):
#   with a speck: int16 [-1, 0, 3]
#   without: uint16 [0, 3, 65535]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet connected-components-3d==4.1.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import cc3d
import numpy as np

labels = np.zeros((6, 5, 4), np.int16)
labels[:2], labels[4:] = -1, 3
specked = labels.copy()
specked[3, 2, 2] = -1
seen = {}
for name, array in (('with a speck', specked), ('without', labels)):
    dusted = cc3d.dust(array, threshold=4, connectivity=6)
    seen[name] = dusted.dtype.name, np.unique(dusted).tolist()
    print(f'{name}:', *seen[name])
as_seen = seen == {'with a speck': ('int16', [-1, 0, 3]), 'without': ('uint16', [0, 3, 65535])}
raise SystemExit(0 if as_seen else 'the behaviour has changed')
PY
