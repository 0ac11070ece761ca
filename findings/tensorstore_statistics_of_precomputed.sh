#!/usr/bin/env bash
# tensorstore 0.1.86, NumPy 2.4.6, Python 3.11
#
# `storage_statistics` says whether the chunks of a region are stored. Of an unsharded neuroglancer_precomputed volume
# on a local disk it never answers: the path of the volume is put before keys that already begin with it, and the call
# raises ValueError. Reading the same region works, and so does the same question to a Zarr volume beside it.
#
# Output seen:
#   zarr: StorageStatistics(not_stored=False, fully_stored=True)
#   precomputed: Invalid key with the folder twice; the voxels themselves: 24 of 24 are 1
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorstore==0.1.86 numpy==2.4.6
cd "$folder" && venv/bin/python - <<'PYTHON'
import os
import tensorstore as ts

here = os.getcwd()
zarr = ts.open({'driver': 'zarr', 'kvstore': f'file://{here}/zarr'}, create=True, dtype='uint8', shape=[2, 3, 4]).result()
scale = {'size': [4, 3, 2], 'resolution': [8, 8, 40], 'chunk_size': [4, 3, 2], 'encoding': 'raw'}
precomputed = ts.open({'driver': 'neuroglancer_precomputed', 'kvstore': f'file://{here}/pre', 'scale_metadata': scale,
                       'multiscale_metadata': {'type': 'image', 'data_type': 'uint8', 'num_channels': 1}},
                      create=True).result()
for store in (zarr, precomputed):
    store[...] = 1
ask = {'query_not_stored': True, 'query_fully_stored': True}
answer = zarr.storage_statistics(**ask).result()
print('zarr:', str(answer).removeprefix('TensorStore.'))
assert answer.fully_stored and not answer.not_stored
try:
    raise SystemExit(f'precomputed answers now: {precomputed.storage_statistics(**ask).result()}')
except ValueError as error:
    assert str(error).count(f'{here}/pre') == 2 and 'Invalid key' in str(error), error
values = precomputed.read().result()
print(f'precomputed: Invalid key with the folder twice; the voxels themselves: {values.sum()} of {values.size} are 1')
PYTHON
