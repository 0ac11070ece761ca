#!/usr/bin/env bash
# funlib.persistence 0.7.0 (funlib.geometry 0.3.0, zarr 3.1.6, iohub 0.3.0a7), seen on Python 3.11: open_ome_ds cuts the decimals off the
# voxel size and the offset that an OME-Zarr volume states, whose scales are floats by its specification. Voxels of 4.5 nm are 4 nm, so
# that 20 of them end at 80 nm and not at 90; places in nm are looked up elsewhere, further off the larger they are. A volume that
# states micrometres, as microscopes write, has voxels of 0: its region is empty. Coordinates, which hold both, are documented
# as tuples of integers and take other numbers without a word, also where a user writes Coordinate((40, 4.5, 4.5)). State all in a
# unit in which they are whole, as picometres, before files are handed to it.
#
# Output seen (stated: what is read, voxel size; offset; size of the region):
#   [40.0, 8.0, 8.0] nanometer: (40, 8, 8); (0, 16, 16); (400, 160, 240)
#   [40.0, 4.5, 4.5] nanometer: (40, 4, 4); (0, 9, 9); (400, 80, 120)
#   [0.04, 0.008, 0.008] micrometer: (0, 0, 0); (0, 0, 0); (0, 0, 0)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet funlib.persistence==0.7.0 funlib.geometry==0.3.0 zarr==3.1.6 iohub==0.3.0a7 numpy==2.4.6
cd "$folder" && venv/bin/python -W ignore - 2>/dev/null <<'PY'
from pathlib import Path
import zarr
from funlib.persistence import open_ome_ds

found = []
for scale, unit in (([40.0, 8.0, 8.0], 'nanometer'), ([40.0, 4.5, 4.5], 'nanometer'), ([0.04, 0.008, 0.008], 'micrometer')):
    group = zarr.open_group('volume.zarr', mode='w', zarr_format=2)
    group.create_array('0', shape=(10, 20, 30), dtype='uint8')
    placed = [{'type': 'scale', 'scale': scale}, {'type': 'translation', 'translation': [0.0, 2 * scale[1], 2 * scale[2]]}]
    group.attrs['multiscales'] = [{'version': '0.4', 'axes': [{'name': n, 'type': 'space', 'unit': unit} for n in 'zyx'],
                                   'datasets': [{'path': '0', 'coordinateTransformations': placed}]}]
    volume = open_ome_ds(Path('volume.zarr'), '0')
    found.append((tuple(volume.voxel_size), tuple(volume.offset), tuple(volume.roi.shape)))
    print(f'{scale} {unit}:', '; '.join(map(str, found[-1])))
changed = [size for size, _, _ in found] != [(40, 8, 8), (40, 4, 4), (0, 0, 0)]
raise SystemExit('the behaviour has changed' if changed else 0)
PY
