#!/usr/bin/env bash
# ome-zarr 0.18.0 (with zarr 3.1.6), seen on Python 3.11: ome_zarr.writer.write_image accepts `coordinate_transformations`
# and axes as dictionaries with a `unit`, as the metadata of OME-Zarr have them, and writes neither: the file says scale
# 1,1,1 without units. The first is announced as deprecated ("will be removed"), yet has no effect already; of the units
# nothing is said. Only the newer arguments `scale` and `axes_units` reach the file.
# What a user meets: labels and images of 40×8×8 nm whose voxel size is unknown to every reader.
# Output seen:
#   given as metadata: scale [1.0, 1.0, 1.0] units [None, None, None] warnings of units 0
#   given as scale=, axes_units=: scale [40.0, 8.0, 8.0] units ['nanometer', 'nanometer', 'nanometer']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q ome-zarr==0.18.0 zarr==3.1.6
cat > write.py <<'P'
import warnings
import numpy as np
import zarr
from ome_zarr.writer import write_image

def written(name, axes, **more):
    group = zarr.open_group(name, mode='w', zarr_format=3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        write_image(np.zeros((8, 8, 8), np.uint8), group, axes=axes, scale_factors=[], **more)
    scales = group.attrs['ome']['multiscales'][0]
    units = [axis.get('unit') for axis in scales['axes']]
    about = [w for w in told if 'unit' in str(w.message)]
    return scales['datasets'][0]['coordinateTransformations'][0]['scale'], units, len(about)

axes = [{'name': a, 'type': 'space', 'unit': 'nanometer'} for a in 'zyx']
scale, units, told = written('a', axes, coordinate_transformations=[[{'type': 'scale', 'scale': [40, 8, 8]}]])
print('given as metadata: scale', scale, 'units', units, 'warnings of units', told)
named = dict(zip('zyx', (40.0, 8.0, 8.0)))
other, names, _ = written('b', 'zyx', scale=named, axes_units=dict.fromkeys('zyx', 'nanometer'))
print('given as scale=, axes_units=: scale', other, 'units', names)
assert scale == [1, 1, 1] and units == [None] * 3 and not told and other == [40, 8, 8] and names == ['nanometer'] * 3
P
venv/bin/python write.py
