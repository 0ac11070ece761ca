#!/usr/bin/env bash
# ngff-zarr 0.50.0 with dask-image 2026.5.0, seen on Python 3.11: the coarse scales that to_multiscales makes with the methods
# DASK_IMAGE_GAUSSIAN and DASK_IMAGE_NEAREST do not lie where their metadata say. A voxel that stands for a block of f voxels holds
# the value at the *first* of them, while its `translation` names the middle of the block, as is right for the other methods. So
# the picture is moved by (f - 1) / 2 fine voxels along every axis: half a voxel at factor 2, one and a half at 4. Nothing is said. The
# image below holds its own positions, so that each scale should read what its metadata say.
#
# Output seen (method: position by the metadata less that in the image, in nm, at factors 2 and 4 of 8 nm voxels):
#   DASK_BIN_SHRINK: 0 0
#   ITKWASM_GAUSSIAN: 0 0
#   DASK_IMAGE_GAUSSIAN: 4 12
#   DASK_IMAGE_NEAREST: 4 12
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ngff-zarr[dask-image]==0.50.0' dask-image==2026.5.0 dask==2026.8.0
"$folder/venv/bin/python" -W ignore - <<'PY'
import ngff_zarr
import numpy as np

positions = 24 + 8 * np.arange(64, dtype=np.float32)  # along x
image = ngff_zarr.to_ngff_image(np.broadcast_to(positions, (8, 8, 64)).copy(), dims=['z', 'y', 'x'],
                                scale={'z': 40., 'y': 8., 'x': 8.}, translation={'z': 0., 'y': 0., 'x': 24.})
seen = {}
for name in ('DASK_BIN_SHRINK', 'ITKWASM_GAUSSIAN', 'DASK_IMAGE_GAUSSIAN', 'DASK_IMAGE_NEAREST'):
    scales = ngff_zarr.to_multiscales(image, scale_factors=[2, 4], method=ngff_zarr.Methods[name]).images[1:]
    seen[name] = []
    for scale in scales:
        voxels = np.asarray(scale.data)[1, 1]
        middle = len(voxels) // 2
        seen[name].append(round(scale.translation['x'] + middle * scale.scale['x'] - float(voxels[middle])))
    print(f'{name}:', *seen[name])
raise SystemExit(0 if list(seen.values()) == [[0, 0], [0, 0], [4, 12], [4, 12]] else 'the behaviour has changed')
PY
