#!/usr/bin/env bash
# Keras 3.15.1 on its OpenVINO backend (openvino 2026.4.1, NumPy 2.4.6): what a layer of dtype bfloat16 returns comes out
# of model.predict as an array of dtype float16 whose bits are those of bfloat16 numbers. There is no error and no
# warning, and values are of a plausible size: 1 becomes 1.875, 100 becomes 3.39. Whoever runs a network in 16 bits that
# way has to look at the bits, or end it with a layer of float32, as networks with float32 logits do by themselves.
#
# Output seen:
#   float16 [1.875, 2.125, 1.75, 3.390625]
#   the same bits as bfloat16: [1.0, 3.0, 0.5, 100.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet keras==3.15.1 openvino==2026.4.1 numpy==2.4.6 scipy==1.17.1
KERAS_BACKEND=openvino "$folder/venv/bin/python" - <<'PY'
import keras
import numpy as np

given = np.array([[1, 3, 0.5, 100]], np.float32)
numbers = keras.Input((4,))
model = keras.Model(numbers, keras.layers.Activation('linear', dtype='bfloat16')(numbers))
found = model.predict(given, verbose=0)
print(found.dtype, found[0].tolist())
bits = (found.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
print('the same bits as bfloat16:', bits[0].tolist())
changed = found.dtype != np.float16 or np.array_equal(found, given)
raise SystemExit('the behaviour has changed' if changed or not np.array_equal(bits, given) else 0)
PY
