#!/usr/bin/env bash
# neuroglancer 2.41.2: a segmentation layer's `equivalences`, set from Python, go to the browser as JSON numbers, and
# not as text as its `segments` do. A browser reads numbers as doubles, so ids from 2**53 on are rounded there: two
# segments stay apart that Python says are one, others are joined, and the rounded ids come back into the Python
# state. Nothing is raised or warned of, on either side. Ids of that size are usual in connectomics; give the layer
# an EquivalenceMap whose to_json() returns text, which the client takes.
#
# Output seen:
#   segments: ["9223372036854775819"]
#   equivalences: [[1, 9223372036854775819]]
#   as a browser reads them: [[1, 9223372036854775808]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet neuroglancer==2.41.2
"$folder/venv/bin/python" - <<'PY'
import json

import neuroglancer

big = 2**63 + 11
layer = neuroglancer.SegmentationLayer(source=[], segments=[big])
layer.equivalences = [[1, big]]
sent = layer.to_json()
numbers = sent['equivalences']
# JavaScript has no other numbers than doubles.
read = json.loads(json.dumps(numbers), parse_int=lambda text: int(float(text)))
print('segments:', json.dumps(sent['segments']))
print('equivalences:', json.dumps(numbers))
print('as a browser reads them:', json.dumps(read))
raise SystemExit(not (sent['segments'] == [str(big)] and numbers == [[1, big]] != read))
PY
