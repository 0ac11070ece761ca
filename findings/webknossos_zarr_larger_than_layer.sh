#!/usr/bin/env bash
# webknossos 4.3.3 (tensorstore 0.1.86), seen on Python 3.11: a layer in Zarr 3 with a bounding box of 31×20×13 voxels
# at 5,7,9 becomes an array of 1024×1024×1024 voxels, as large as a shard, that begins at voxel 0; the OME-Zarr
# metadata beside it have no translation and say nothing of the box. It stands in datasource-properties.json, two folders
# above. What a user meets: readers of OME-Zarr see a volume 130,000 times as large, nearly all of it empty.
# Output seen:
#   layer 31×20×13 at (5, 7, 9); array (1, 1024, 1024, 1024); transformations ['scale']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q webknossos==4.3.3 tensorstore==0.1.86
cat > write.py <<'P'
import json
import numpy as np
import webknossos as wk

if __name__ == '__main__':
    dataset = wk.Dataset('d', voxel_size=(8, 8, 40))
    box = wk.BoundingBox((5, 7, 9), (31, 20, 13))
    layer = dataset.add_layer('cells', 'segmentation', dtype=np.uint32, data_format='zarr3',
                              largest_segment_id=9999, bounding_box=box)
    layer.add_mag(1).write(np.ones((31, 20, 13), np.uint32), absolute_offset=(5, 7, 9), allow_unaligned=True)
    shape = tuple(json.load(open('d/cells/1/zarr.json'))['shape'])
    scales = json.load(open('d/cells/zarr.json'))['attributes']['ome']['multiscales'][0]
    kinds = [t['type'] for t in scales['datasets'][0]['coordinateTransformations']]
    print('layer 31×20×13 at', (5, 7, 9), end='; ')
    print('array', shape, end='; ')
    print('transformations', kinds)
    assert shape == (1, 1024, 1024, 1024) and kinds == ['scale']
P
venv/bin/python write.py
