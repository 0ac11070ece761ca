#!/usr/bin/env bash
# NumPy 2.3.5: np.unique of integers takes many times as long as sorting them, where most are distinct; in 2.2.6 it sorted.
#
# Since 2.3 values are put into a hash table first, and what is left is sorted afterwards. Where few values are distinct, as in
# labels of voxels, that is as fast as before. Where millions are, as in pairs of neighbouring supervoxels or in ids of a whole
# volume, the table does not fit into caches: a line that nobody has changed takes 10 to 20 times as long after an update, with
# the same result. Asking for counts or an inverse as well goes the old way and is then faster than not asking.
#
# Output seen (version; time of np.unique in units of np.sort and comparing neighbours; the same with return_counts=True):
#   2.2.6 1.0 1.1
#   2.3.5 13.0 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cat > "$folder/measure.py" <<'PY'
import time

import numpy as np

values = np.random.default_rng(0).integers(0, 2**62, 4_000_000)

def least(call):
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)

plain = least(lambda: np.flatnonzero(np.diff(np.sort(values))))
alone, counted = (least(lambda: np.unique(values, return_counts=c)) / plain for c in (False, True))
print(f'{np.__version__} {alone:.1f} {counted:.1f}')
slower = np.__version__ == '2.3.5'
raise SystemExit(0 if (alone > 4) == slower and counted < 4 else 'the behaviour has changed')
PY
for version in 2.2.6 2.3.5; do
    python3 -m venv --clear "$folder/venv" && "$folder/venv/bin/pip" install --quiet "numpy==$version"
    "$folder/venv/bin/python" "$folder/measure.py"
done
