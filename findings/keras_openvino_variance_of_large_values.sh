#!/usr/bin/env bash
# Keras 3.15.1 on its OpenVINO backend (openvino 2026.4.1, NumPy 2.4.6): variances of values that are large beside their spread are wrong.
# keras.ops.var, std and moments subtract the square of the mean from the mean of the squares, in float32, where the digits that matter
# are gone; of 10000, 10001, 10002, 10003 the variance is 0. The layers that normalise use them: what LayerNormalization returns
# for these four is 35 times too large, and for 10000 ± 1 some outputs are NaN. On JAX and TensorFlow the same layer is right. Nothing is
# said. Values of 16-bit images, or a wide sum of many layers, can be like that; those around 0 are not hurt. Subtract a
# constant near the mean before a layer that normalises.
#
# Output seen:
#   openvino: variance 0.0, normalised [-47.44, -15.81, 15.81, 47.44]
#   jax: variance 1.25, normalised [-1.34, -0.45, 0.45, 1.34]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet keras==3.15.1 openvino==2026.4.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1
cat > "$folder/normalise.py" <<'PY'
import keras
import numpy as np

values = np.array([[10000, 10001, 10002, 10003]], np.float32)
variance = float(np.asarray(keras.ops.var(values)))
normalised = np.asarray(keras.layers.LayerNormalization()(values))[0]
print(f'{keras.backend.backend()}: variance {variance}, normalised {[round(float(n), 2) for n in normalised]}')
right = abs(variance - 1.25) < 0.01 and abs(normalised[3] - 1.34) < 0.01
raise SystemExit(0 if right == (keras.backend.backend() == 'jax') else 'the behaviour has changed')
PY
for backend in openvino jax; do
  KERAS_BACKEND=$backend "$folder/venv/bin/python" "$folder/normalise.py"
done
