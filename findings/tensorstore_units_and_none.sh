#!/usr/bin/env bash
# tensorstore 0.1.86, NumPy 2.4.6, Python 3.11
#
# `dimension_units` of a store is a tuple of units, and of None where an axis has none, as the channel axis of a
# precomputed volume. The obvious question whether some axis lacks a unit, `None in store.dimension_units`, raises
# TypeError as soon as a unit comes before the None: a Unit compared with anything but a Unit raises, where Python's
# convention is to be unequal. So does `unit == '8nm'`, although Unit('8nm') can be made of that text.
#
# Output seen:
#   (Unit(8, "nm"), Unit(8, "nm"), Unit(40, "nm"), None)
#   None in units: TypeError; units[0] == '8nm': TypeError; units[0] == Unit('8nm'): True
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorstore==0.1.86 numpy==2.4.6
cd "$folder" && venv/bin/python - <<'PYTHON'
import os
import tensorstore as ts

scale = {'size': [4, 3, 2], 'resolution': [8, 8, 40], 'chunk_size': [4, 3, 2], 'encoding': 'raw'}
units = ts.open({'driver': 'neuroglancer_precomputed', 'kvstore': f'file://{os.getcwd()}/pre', 'scale_metadata': scale,
                 'multiscale_metadata': {'type': 'image', 'data_type': 'uint8', 'num_channels': 1}},
                create=True).result().dimension_units
print(units)
assert units[3] is None and units[0] == ts.Unit('8nm')
for ask in (lambda: None in units, lambda: units[0] == '8nm'):
    try:
        raise SystemExit(f'the answer is {ask()} now')
    except TypeError:
        pass
print("None in units: TypeError; units[0] == '8nm': TypeError; units[0] == Unit('8nm'): True")
PYTHON
