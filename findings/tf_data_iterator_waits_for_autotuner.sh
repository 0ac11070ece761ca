#!/usr/bin/env bash
# TensorFlow 2.21.0: deleting a tf.data iterator may take up to a minute, although there is nothing to tune in its pipeline.
#
# Each iterator has a thread that tunes parallelism and buffers, also where all of them are given as numbers. It sleeps between two
# looks, ever longer, up to 60 s. Deleting the iterator wakes it and waits for its end; some are not woken, and the deletion lasts
# until the thread looks again, at the end of a process as well. With many iterators, whose threads sleep ever longer meanwhile,
# that adds up. Options.autotune.enabled = False leaves the thread away.
#
# Output seen (seconds to delete 40 iterators after 3 s of use, longest and all; the former differ from run to run):
#   tuned 59.99 198.91
#   not tuned 0.01 0.03
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.21.0
cat > "$folder/measure.py" <<'PY'
import time
import tensorflow as tf

def deletions(tuned):
    options = tf.data.Options()
    options.autotune.enabled = tuned
    options.threading.private_threadpool_size = 2
    numbers = tf.data.Dataset.range(10**9).map(lambda x: x + 1, num_parallel_calls=2).prefetch(2)
    iterators, end, took = [iter(numbers.with_options(options)) for _ in range(40)], time.time() + 3, []
    while time.time() < end:
        for iterator in iterators:
            next(iterator)
        del iterator
    while iterators:
        start = time.time()
        iterators.pop()
        took.append(time.time() - start)
    print('tuned' if tuned else 'not tuned', round(max(took), 2), round(sum(took), 2))
    return max(took)

waited = any(deletions(True) > 0.5 for _ in range(10))
raise SystemExit(0 if waited and deletions(False) < 0.2 else 'the behaviour has changed')
PY
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/measure.py"
