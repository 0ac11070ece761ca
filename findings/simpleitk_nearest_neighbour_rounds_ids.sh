#!/usr/bin/env bash
# SimpleITK 2.5.7 with NumPy 2.4.6: resampling labels by nearest neighbour changes ids beyond 2**53. Images of 64-bit integers are read,
# written and sliced exactly, and nearest neighbour invents no values; yet Resample (also onto its own grid), Expand and Warp take each
# value through a float64, so that neighbours with ids 2**60 + 1, + 3 and + 90 become one segment, of an id that was not there. Thresholds
# and comparisons, which take ids as float64 too, find no voxel of an id like that. There is no error and no warning, and the
# documentation of these functions names no limit. Segment ids of that size are usual in connectomics: renumber labels before, and put
# ids back afterwards. LabelShapeStatistics and Shrink are exact.
#
# Output seen (ids less 2**60):
#   before: 1 3 90; Shrink: 1 3 90; voxels found by == and by BinaryThreshold: 0 0
#   Resample: 0
#   Expand: 0
#   Warp: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet simpleitk==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import SimpleITK as sitk


def ids(image):
    return ' '.join(str(int(one) - 2**60) for one in np.unique(sitk.GetArrayFromImage(image)))


labels = np.uint64([1, 3, 90]).repeat(2) + np.uint64(2**60) + np.zeros((4, 5, 1), np.uint64)
image = sitk.GetImageFromArray(labels)
still = sitk.Cast(sitk.GetImageFromArray(np.zeros((*labels.shape, 3)), isVector=True), sitk.sitkVectorFloat64)
masks = (image == 2**60 + 1, sitk.BinaryThreshold(image, 2**60 + 1, 2**60 + 1))
first = f'before: {ids(image)}; Shrink: {ids(sitk.Shrink(image, (2, 1, 1)))}; voxels found by == and by BinaryThreshold: '
first += ' '.join(str(sitk.GetArrayFromImage(mask).sum()) for mask in masks)
found = [first, f'Resample: {ids(sitk.Resample(image, image, sitk.Transform(), sitk.sitkNearestNeighbor))}']
found.append(f'Expand: {ids(sitk.Expand(image, (2, 2, 1), sitk.sitkNearestNeighbor))}')
found.append(f'Warp: {ids(sitk.Warp(image, still, sitk.sitkNearestNeighbor))}')
print('\n'.join(found))
right = first == 'before: 1 3 90; Shrink: 1 3 90; voxels found by == and by BinaryThreshold: 0 0'
raise SystemExit(0 if right and [one[one.index(':'):] for one in found[1:]] == [': 0'] * 3 else 'the behaviour has changed')
PY
