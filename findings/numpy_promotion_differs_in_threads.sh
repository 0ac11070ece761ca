#!/usr/bin/env bash
# NumPy 2.1.1 (and 2.1.0): which type an operation has depends on the thread. In the main thread a float64 scalar times a float32
# array is float64, as it is since NumPy 2; in any other thread it is float32, as it was in NumPy 1. Nothing is said, and
# numpy.array_equal of what a thread pool and a plain loop have computed is False. 2.0.2, and 2.1.2 and newer, give float64 in both.
#
# Output seen:
#   NumPy 2.1.1: float64 in the main thread, float32 in another one
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.1.1
"$folder/venv/bin/python" - <<'PY'
from concurrent.futures import ThreadPoolExecutor

import numpy as np

def product():
    return (np.float64(1.3) * np.ones(3, np.float32)).dtype

with ThreadPoolExecutor(1) as pool:
    own, other = product(), pool.submit(product).result()
print(f'NumPy {np.__version__}: {own} in the main thread, {other} in another one')
raise SystemExit(0 if (own, other) == (np.float64, np.float32) else 'the behaviour has changed')
PY
