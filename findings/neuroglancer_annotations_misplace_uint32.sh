#!/usr/bin/env bash
# neuroglancer 2.41.2 with NumPy 2.4.6: AnnotationWriter, which writes annotations in Neuroglancer's precomputed format, puts values of
# type uint32 where the format does not have them, if other values of 4 bytes come first. The format places these one after the other,
# and pads at the end of each record. The writer takes 3 for the alignment of uint32 (4 for int32 and float32), and leaves a gap of 2
# bytes before a uint32 at byte 4, and another before the next. Records are also longer than a reader of the format expects, so in a list
# the positions from the second on are wrong as well. Nothing is said, and a try with its own AnnotationReader shows nothing: that shares
# the mistake, and reads wrong files as they were meant, and right ones wrongly. Counts and numbers of synapses are often uint32: store
# them as int32 or float32, or have a single uint32 and neither of the others.
#
# Output seen (bytes of a record, which should be 24; score, count and body, which are 0.5, 11 and 22, where the format has them):
#   uint32: 28 bytes, [0.5, 720896, 0]
#   int32: 24 bytes, [0.5, 11, 22]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet neuroglancer==2.41.2 numpy==2.4.6
cd "$folder" && venv/bin/python - <<'PY'
import struct

import neuroglancer
from neuroglancer.write_annotations import AnnotationWriter

space = neuroglancer.CoordinateSpace(names=['x', 'y', 'z'], units='nm', scales=[8, 8, 40])
found = []
for kind in ('uint32', 'int32'):
    types = {'score': 'float32', 'count': kind, 'body': kind}
    properties = [neuroglancer.AnnotationPropertySpec(id=name, type=one) for name, one in types.items()]
    writer = AnnotationWriter(space, 'point', properties=properties)
    writer.add_point([1, 2, 3], id=7, score=0.5, count=11, body=22)
    writer.write(kind)
    with open(f'{kind}/by_id/7', 'rb') as file:
        record = file.read()
    found.append((len(record), list(struct.unpack_from('<3ffII', record)[3:])))
    print(f'{kind}: {found[-1][0]} bytes, {found[-1][1]}')
raise SystemExit(0 if found == [(28, [0.5, 720896, 0]), (24, [0.5, 11, 22])] else 'the behaviour has changed')
PY
