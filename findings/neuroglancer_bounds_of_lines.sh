#!/usr/bin/env bash
# neuroglancer 2.41.2 with NumPy 2.4.6: AnnotationWriter states bounds that do not contain the annotations, for lines, boxes and ellipsoids.
# For the lower bound it looks at the first point of each alone, and for the upper one at the second. A line that runs towards smaller
# numbers along an axis sticks out of both, and one alone has a lower bound above its upper. Of an ellipsoid the second 'point' is its
# radii: the upper bound of all is the largest radius, wherever they are. The format asks for bounds that contain everything, and the
# only cell of the spatial index is as large as they say, so that a viewer, which loads what lies in the cells that it sees, need not
# find the annotations. Polylines are right. Nothing is said. Give smaller corners of boxes first, and lines as polylines.
#
# Output seen (lower bound; upper bound; size of the cell):
#   line from 10,20,30 to 50,60,70: [10, 20, 30]; [50, 60, 70]; [40, 40, 40]
#   line from 50,60,70 to 10,20,30: [50, 60, 70]; [10, 20, 30]; [1, 1, 1]
#   ellipsoid at 50,60,70 of radii 4,4,2: [50, 60, 70]; [4, 4, 2]; [1, 1, 1]
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet neuroglancer==2.41.2 numpy==2.4.6
cd "$folder" && venv/bin/python - <<'PY'
import json
from pathlib import Path

import neuroglancer
from neuroglancer.write_annotations import AnnotationWriter

space = neuroglancer.CoordinateSpace(names=['x', 'y', 'z'], units='nm', scales=[8, 8, 40])
low, high, found = [10, 20, 30], [50, 60, 70], []
for name, kind, place in (
    ('line from 10,20,30 to 50,60,70', 'line', (low, high)),
    ('line from 50,60,70 to 10,20,30', 'line', (high, low)),
    ('ellipsoid at 50,60,70 of radii 4,4,2', 'ellipsoid', (high, [4, 4, 2])),
):
    writer = AnnotationWriter(space, kind)
    getattr(writer, f'add_{kind}')(*place)
    writer.write('annotations')
    info = json.loads(Path('annotations/info').read_text())
    parts = (info['lower_bound'], info['upper_bound'], info['spatial'][0]['chunk_size'])
    found.append([[int(n) for n in part] for part in parts])
    print(f'{name}: {"; ".join(map(str, found[-1]))}')
right, ones = [low, high, [40] * 3], [1] * 3
raise SystemExit(0 if found == [right, [high, low, ones], [high, [4, 4, 2], ones]] else 'the behaviour has changed')
PY
