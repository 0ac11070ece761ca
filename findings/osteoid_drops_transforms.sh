#!/usr/bin/env bash
# osteoid 0.7.4 with NumPy 2.4.6 (the skeletons of CloudVolume, kimimaro and igneous): two ways in which a skeleton loses its place or its
# size, without a word. A skeleton in voxels has a transform to nanometres, 'scaling and translation' by the documentation.
# (1) voxel_space() does not undo physical_space() where there is a translation: it subtracts nanometres from voxels. (2) components(),
# if there are two or more, and downsample() return skeletons whose transform is the identity, though still in voxels, so that
# the cable length ('typically nanometers') of the parts is not that of the whole. clone(), crop() and consolidate() keep the transform, as
# does components() of a skeleton that is in one piece. Go to physical_space() first, stay there, and shift vertices by hand.
#
# Output seen (voxels of 8×8×40 nm from 800,1600,4000; two lines of 3 and 2 voxels along x, and z):
#   vertex 1,0,0 in physical space: [808, 1600, 4000]; and back: [-699, -1400, -3900]
#   length: whole 104, components 3 + 2, downsampled 5
#   in physical space: whole 104, components 24 + 80, downsampled 104
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet osteoid==0.7.4 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from osteoid import Skeleton

vertices = np.float32([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [9, 5, 5], [9, 5, 6], [9, 5, 7]])
edges = np.uint32([[0, 1], [1, 2], [2, 3], [4, 5], [5, 6]])
skeleton = Skeleton(vertices, edges, transform=[8, 0, 0, 800, 0, 8, 0, 1600, 0, 0, 40, 4000], space='voxel')
physical = skeleton.physical_space()
there, back = (one.vertices[1].astype(int).tolist() for one in (physical, physical.voxel_space()))
print(f'vertex 1,0,0 in physical space: {there}; and back: {back}')
found = []
for title, one in (('length', skeleton), ('in physical space', physical)):
    parts = [int(part.cable_length()) for part in one.components()]
    short = int(one.downsample(3).cable_length())
    found.append((int(one.clone().cable_length()), *parts, short))
    print(f'{title}: whole {found[-1][0]}, components {parts[0]} + {parts[1]}, downsampled {short}')
right = there == [808, 1600, 4000] and back == [-699, -1400, -3900]
raise SystemExit(0 if right and found == [(104, 3, 2, 5), (104, 24, 80, 104)] else 'the behaviour has changed')
PY
