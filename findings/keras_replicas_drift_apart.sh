#!/usr/bin/env bash
# Keras 3.4.1 on TensorFlow 2.16.1: in a tf.distribute.MirroredStrategy, optimizer.apply changes the copy of a variable on each
# device by the gradient of that device alone. Nothing is summed or averaged, nothing is said, and the copies of one
# variable, which are meant to be mirrors, drift apart; what is saved is the first. From 3.5.0 on, gradients are summed, and
# all copies are -3 below. A training that sums gradients itself, and divides them as Keras sums once more, takes steps
# that are too small with the older one.
#
# Output seen:
#   Keras 3.4.1: after gradients of 1 and 2, the copies are [-1.0, -2.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.16.1 keras==3.4.1
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PY'
import keras
import tensorflow as tf

[device] = tf.config.list_physical_devices('CPU')
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
with strategy.scope():
    weight, optimizer = keras.Variable([0.0]), keras.optimizers.SGD(1.0)
    optimizer.build([weight])

def step():
    number = tf.distribute.get_replica_context().replica_id_in_sync_group
    optimizer.apply([tf.cast([number + 1], tf.float32)], [weight])

tf.function(lambda: strategy.run(step))()
copies = [float(copy[0]) for copy in strategy.experimental_local_results(weight.value)]
print(f'Keras {keras.__version__}: after gradients of 1 and 2, the copies are {copies}')
raise SystemExit(0 if copies == [-1.0, -2.0] else 'the behaviour has changed')
PY
