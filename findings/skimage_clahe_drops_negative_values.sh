#!/usr/bin/env bash
# scikit-image 0.26.0: exposure.equalize_adapthist (CLAHE) of a signed integer image takes everything below 0 for one value. The
# same picture stored from 0 on keeps all of its contrast, so the result depends on where 0 is, though the contrast of a
# picture does not. No warning is given, and half of an image that is centred on 0 is flat.
#
# Output seen:
#   different values after CLAHE where the image was below 0: 1; of the same pixels stored from 0 on: 1353
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-image==0.26.0
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from skimage.exposure import equalize_adapthist

image = np.random.default_rng(0).integers(0, 200, (64, 80)).astype(np.int16)
below = image < 100
centred, from_0 = (len(np.unique(equalize_adapthist(one)[below])) for one in (image - 100, image))
print(f'different values after CLAHE where the image was below 0: {centred}; of the same pixels stored from 0 on: {from_0}')
raise SystemExit(0 if centred == 1 and from_0 > 100 else 'the behaviour has changed')
PY
