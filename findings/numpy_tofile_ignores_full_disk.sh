#!/usr/bin/env bash
# NumPy 2.4.6: ndarray.tofile raises nothing where the end of an array does not fit on the disk any more; the file is short.
#
# It writes through a buffer of C, and does not look at whether that could be emptied. What is longer than the buffer, 4 KiB here, is
# written at once and checked, so that a small table (ids of an object, offsets, checksums) is lost as a whole and of a large one the last
# part, without a word, also through a file that Python has opened and closes. np.save hands arrays to it as well. Writing the same
# bytes to that file raises 'No space left on device'. /dev/full stands for a disk without room.
#
# Output seen (bytes; what tofile to a path, tofile to an open file, and writing the bytes said):
#   1000 nothing nothing OSError
#   10000 OSError OSError OSError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install --quiet numpy==2.4.6
cat > "$folder/measure.py" <<'PY'
import numpy as np

def with_file(write):
    with open('/dev/full', 'wb') as file:
        write(file)

def said(call):
    try:
        call()
    except OSError:
        return 'OSError'
    return 'nothing'

found = []
for size in (1000, 10_000):
    a = np.zeros(size, np.uint8)
    ways = a.tofile, lambda file: file.write(a.tobytes())
    found += [said(lambda: a.tofile('/dev/full')), *(said(lambda: with_file(w)) for w in ways)]
    print(size, *found[-3:])
raise SystemExit(0 if found == ['nothing'] * 2 + ['OSError'] * 4 else 'the behaviour has changed')
PY
"$folder/venv/bin/python" "$folder/measure.py"
