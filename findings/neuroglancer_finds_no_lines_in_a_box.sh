#!/usr/bin/env bash
# neuroglancer 2.41.2 with NumPy 2.4.6 and tensorstore 0.1.86, seen on Python 3.11: AnnotationReader.get_within_spatial_bounds, which is to
# return the annotations within a box, finds nearly none of the lines, boxes or polylines there. It compares their upper end with the
# *lower* bound of the box, and so returns those that begin and end before that: lines that lie wholly inside are left out, and others
# that are outside of it are returned. Points are found as they should be, as are all annotations if no box is given, so that a quick try
# shows nothing. There is no error; for ellipsoids there is one. Read everything, and compare positions oneself.
#
# Output seen (annotations at 0 to 9 along the diagonal, each of them 1 long; those found in the box from 3 to 7):
#   point: 3 4 5 6 7
#   line: 0 1 2
#   polyline: 0 1 2
#   axis_aligned_bounding_box: 0 1 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet neuroglancer==2.41.2 numpy==2.4.6 tensorstore==0.1.86
cd "$folder" && venv/bin/python - <<'PY'
import os

import neuroglancer
from neuroglancer.read_precomputed_annotations import AnnotationReader
from neuroglancer.write_annotations import AnnotationWriter

space = neuroglancer.CoordinateSpace(names=['x', 'y', 'z'], units='nm', scales=[8, 8, 40])
found = []
for kind in ('point', 'line', 'polyline', 'axis_aligned_bounding_box'):
    writer = AnnotationWriter(space, kind)
    for n in range(10):
        ends = ([n] * 3, [n + 1] * 3)
        getattr(writer, f'add_{kind}')(*{'point': ends[:1], 'polyline': (ends,)}.get(kind, ends), id=n)
    writer.write(kind)
    reader = AnnotationReader(f'file://{os.getcwd()}/{kind}')
    inside = reader.get_within_spatial_bounds(lower_bound=[3] * 3, upper_bound=[7] * 3)
    found.append(' '.join(sorted(one.id for one in inside)))
    print(f'{kind}: {found[-1]}')
raise SystemExit(0 if found == ['3 4 5 6 7'] + ['0 1 2'] * 3 else 'the behaviour has changed')
PY
