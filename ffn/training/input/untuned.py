"""Pipelines of TensorFlow without the thread that tunes them, which the end of an iterator may wait for."""

from __future__ import annotations

import tensorflow as tf


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """To be applied before each iteration; ours have nothing to tune.

    The thread sleeps for up to a minute, and sometimes sleeps on when its iterator is deleted, which waits for it
    (`findings/tf_data_iterator_waits_for_autotuner.sh`).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
