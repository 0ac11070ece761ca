"""The published network, step by step against stored outputs."""

import numpy as np
import pytest
from PIL import Image

from ffn.models.model import create_model
from ffn.models.weights import load_weights

MODEL_ARGS = {'depth': 12, 'fov_size': [33, 33, 33], 'deltas': [8, 8, 8]}


@pytest.fixture(scope='module')
def network(data_dir):
    model = create_model('convstack_3d.ConvStack3DFFNModel', MODEL_ARGS)
    step = load_weights(model, data_dir / 'fib25' / 'model' / 'model.ckpt-27465036')
    assert step == 27465036
    return model


def image_around(data_dir, position_zyx):
    """The normalized field of view, read from the sections that it needs."""
    z, y, x = (int(n) for n in position_zyx)
    sections = sorted(
        (data_dir / 'fib25' / 'training_sample2' / 'grayscale_maps').glob('iso.*.png')
    )
    stack = [np.asarray(Image.open(path)) for path in sections[z - 16 : z + 17]]
    image = np.stack(stack)[:, y - 16 : y + 17, x - 16 : x + 17]
    return ((image.astype(np.float32) - 128) / 33)[np.newaxis, ..., np.newaxis]


def test_published_network_reproduces_stored_steps(network, data_dir, goldens_dir):
    golden = np.load(goldens_dir / 'forward_steps.npz')
    images = np.concatenate([image_around(data_dir, p) for p in golden['position_zyx']])
    logits = network((images, golden['seed'][..., np.newaxis]), training=False)
    difference = np.abs(np.asarray(logits)[..., 0] - golden['logits'])
    assert difference.max() <= 1e-3
