"""Networks in 8-bit integers, beside the same in float32."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
import pytest

from ffn.models import int8, predictor
from ffn.models.info import ModelInfo
from ffn.models.model import FFNModel, create_model
from ffn.utils.geometry import Xyz
from tests.models.small_network import refused

pytest.importorskip('openvino', reason='openvino is not installed')

FOV_ZYX = (9, 11, 13)
NETWORKS = {
    'convstack': (
        'convstack_3d.ConvStack3DFFNModel',
        {'fov_size': [13, 11, 9], 'deltas': [3, 2, 1], 'depth': 3, 'features': 8},
    ),
    'layer norm, flat and smaller': (
        'residual_stack.ResidualStackFFNModel',
        {
            'fov_size': [13, 11, 9],
            'deltas': [1, 1, 0],
            'depth': 1,
            'features': 8,
            'padding': 'valid',
            'flat_stages': 1,
        },
    ),
}


class Unrectified(FFNModel):
    """Its second convolution sees negative numbers."""

    def __init__(self):
        super().__init__(ModelInfo(Xyz(3, 2, 1), *[Xyz(13, 11, 9)] * 3))
        self._layers_in_order = [
            keras.layers.Conv3D(n, 3, padding='same', activation='tanh', name=f'conv{i}')
            for i, n in enumerate((8, 8, 1))
        ]
        self.finish()

    def update(self, image, seed):
        net = keras.ops.concatenate([image, seed], axis=-1)
        for layer in self._layers_in_order:
            net = layer(net)
        return net


@pytest.fixture(scope='module', params=[*NETWORKS, 'unrectified'])
def model(request) -> FFNModel:
    name, args = NETWORKS.get(request.param, (None, {}))
    made = Unrectified() if name is None else create_model(name, args)
    made.initialize(np.random.default_rng(3))
    return made


def patches(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and seed logits, float32 [count, z, y, x]."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(count, *FOV_ZYX)).astype(np.float32)
    return image, rng.normal(-1, 2, image.shape).astype(np.float32)


@pytest.fixture(scope='module')
def ranges(model) -> list[float]:
    return int8.measure_ranges(model, *patches(4))


@pytest.fixture(scope='module')
def predict(model, ranges) -> predictor.Predict:
    return int8.make_predictor(model, ranges)


@pytest.fixture(scope='module')
def exact(model) -> np.ndarray:
    """Logits in float32."""
    return predictor.make_predictor(model)(*(a[..., np.newaxis] for a in patches(3)))


def test_logits_are_near_those_of_float32(model, predict, exact):
    if isinstance(model, Unrectified) and not int8._has_vnni():
        pytest.skip('without VNNI, pairs of products are summed in 16 bits, and may overflow')
    images, seeds = (a[..., np.newaxis] for a in patches(3))
    found = predict(images, seeds)
    assert found.shape == exact.shape
    assert found.dtype == np.float32
    update = exact - seeds
    error = np.abs(found - exact)
    assert 0 < error.mean() < 0.03 * np.abs(update).mean() + 1e-2 * update.std()
    assert error.max() < 0.3 * np.abs(update).max()


def test_batches_and_calls_change_nothing(predict):
    images, seeds = (a[..., np.newaxis] for a in patches(3))
    together = predict(images, seeds)
    for i in range(3):
        np.testing.assert_array_equal(predict(images[i : i + 1], seeds[i : i + 1])[0], together[i])


def test_earlier_logits_are_not_overwritten(predict):
    images, seeds = (a[..., np.newaxis] for a in patches(2))
    first = predict(images[:1], seeds[:1])
    kept = first.copy()
    predict(images[1:], seeds[1:])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='no /proc/self/maps')
def test_signals_are_handled_afterwards(model, ranges):
    """On a stack that is still there: see `int8._core`."""
    predict = int8.make_predictor(model, ranges)
    for count in (1, 2):
        predict(*(a[..., np.newaxis] for a in patches(count)))
    del predict
    gc.collect()
    stack = StackOfHandlers()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    lines = Path('/proc/self/maps').read_text().splitlines()
    mapped = [[int(end, 16) for end in line.split()[0].split('-')] for line in lines]
    assert stack.at is None or any(first <= stack.at < last for first, last in mapped)


class StackOfHandlers(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_: ClassVar = [
        ('at', ctypes.c_void_p),
        ('flags', ctypes.c_int),
        ('size', ctypes.c_size_t),
    ]


def test_narrow_ranges_spoil_it(model, ranges, predict, exact):
    """What shows that the ranges are those of the activations."""
    images, seeds = (a[..., np.newaxis] for a in patches(3))
    narrow = int8.make_predictor(model, [top / 10 for top in ranges])
    errors = [np.abs(way(images, seeds) - exact) for way in (predict, narrow)]
    assert errors[1].mean() > 3 * errors[0].mean()


def test_ranges_are_a_quarter_beyond_what_was_seen():
    """The first convolution of the depth-1 network makes its only range: computed here by hand."""
    name, args = NETWORKS['convstack']
    model = create_model(name, {**args, 'depth': 1})
    model.initialize(np.random.default_rng(1))
    images, seeds = patches(2)
    first = model.get_layer('conv0_a')
    tops = []
    for image, seed in zip(images, seeds, strict=True):
        activations = first(np.stack([image, seed], axis=-1)[np.newaxis])
        tops.append(float(np.max(activations)))
    [found] = int8.measure_ranges(model, images, seeds)
    assert found == pytest.approx(1.25 * max(tops), rel=1e-5)


def test_a_convolution_that_sees_nothing_but_0():
    model = create_model(*NETWORKS['convstack'])
    model.initialize(np.random.default_rng(1))
    model.get_layer('conv1_a').kernel.assign(np.zeros((3, 3, 3, 8, 8), np.float32))
    ranges = int8.measure_ranges(model, *patches(2))
    assert ranges.count(1.0) == 1
    images, seeds = (a[..., np.newaxis] for a in patches(2))
    exact = predictor.make_predictor(model)(images, seeds)
    error = np.abs(int8.make_predictor(model, ranges)(images, seeds) - exact)
    assert error.mean() < 0.05 * np.abs(exact - seeds).mean()


@pytest.mark.parametrize(
    'ranges', [[], [1.0] * 3, [1.0, -1.0, 1.0, 1.0, 1.0], [1, 1, np.nan, 1, 1]]
)
def test_ranges_that_do_not_fit(ranges):
    model = create_model(*NETWORKS['convstack'])  # 7 convolutions
    with refused('int8_ranges', f'{len(ranges)} numbers', 'needs 5'):
        int8.make_predictor(model, ranges)


def test_what_the_machine_lacks_is_one_line(monkeypatch):
    monkeypatch.setattr(int8, '_has_vnni', lambda: False)
    with refused('VNNI', 'bfloat16'):
        int8.check_int8()
    monkeypatch.setattr(int8, '_has_vnni', lambda: True)
    with monkeypatch.context() as patched:
        patched.setattr(int8, 'backend', lambda: 'torch')
        with refused('KERAS_BACKEND=tensorflow', 'torch'):
            int8.check_int8()
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with refused('openvino', "pip install 'flood-filling-networks[openvino]'"):
        int8.check_int8()
