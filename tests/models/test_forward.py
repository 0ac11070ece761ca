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


@pytest.mark.slow
def test_published_network_in_int8_stays_near_stored_steps(network, data_dir, goldens_dir):
    """Ranges are from every other step, and what is compared are the others."""
    pytest.importorskip('openvino', reason='openvino is not installed')
    from ffn.models import int8, predictor

    golden = np.load(goldens_dir / 'forward_steps.npz')
    images = np.concatenate([image_around(data_dir, p) for p in golden['position_zyx']])
    seeds, logits = golden['seed'][..., np.newaxis], golden['logits'][..., np.newaxis]
    ranges = int8.measure_ranges(network, images[::2, ..., 0], seeds[::2, ..., 0])
    half = create_model('convstack_3d.ConvStack3DFFNModel', MODEL_ARGS, 'bfloat16')
    half.set_weights(network.get_weights())
    errors = {
        name: np.abs(predict(images[1::2], seeds[1::2]) - logits[1::2]).mean()
        for name, predict in (
            ('int8', int8.make_predictor(network, ranges)),
            ('bfloat16', predictor.make_predictor(half)),
        )
    }
    assert 0 < errors['bfloat16'] < errors['int8'] <= 2.5 * errors['bfloat16']
