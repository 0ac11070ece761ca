import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ffn.utils.errors import UserError
from ffn.visualization.curve import plot_scalars, read_scalars


def test_scalars_of_all_event_files_in_order(tmp_path):
    for first in (30, 0):
        writer = tf.summary.create_file_writer(str(tmp_path))
        with writer.as_default():
            for step in (first, first + 10):
                tf.summary.scalar('loss', 1 / (step + 1), step=step)
                tf.summary.histogram('weights', np.arange(5.0), step=step)
        writer.close()
    scalars = read_scalars(tmp_path)
    assert list(scalars) == ['loss']
    np.testing.assert_array_equal(scalars['loss'][:, 0], [0, 10, 30, 40])
    np.testing.assert_allclose(scalars['loss'][:, 1], [1, 1 / 11, 1 / 31, 1 / 41])

    plot_scalars(scalars, [['loss', 'absent'], ['absent']], tmp_path / 'curve.png')
    picture = np.asarray(Image.open(tmp_path / 'curve.png').convert('L'))
    assert (picture < 200).any()


def test_no_event_file(tmp_path):
    with pytest.raises(UserError, match='no TensorBoard event file'):
        read_scalars(tmp_path)
