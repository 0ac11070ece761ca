"""Which precision is chosen on which device."""

import sys
from types import SimpleNamespace

import pytest

from ffn.models import precision
from ffn.utils.errors import UserError


class Cpuinfo:
    """Stands in for Path: /proc/cpuinfo with these flags, or no such file."""

    def __init__(self, flags):
        self._flags = flags

    def __call__(self, path):
        assert path == '/proc/cpuinfo'
        return self

    def read_text(self):
        if self._flags is None:
            raise FileNotFoundError('/proc/cpuinfo')
        return f'model name\t: one\nflags\t\t: fpu {self._flags} avx2\nbugs\t\t: bf16less\n'


@pytest.mark.parametrize(('capability', 'bfloat16', 'chosen'), [
    (None, True, 'bfloat16'), (None, False, 'float32'),
    ((6, 1), True, 'float32'), ((7, 0), True, 'float16'), ((7, 5), False, 'float16'),
    ((8, 0), False, 'bfloat16'), ((8, 6), False, 'bfloat16'), ((9, 0), False, 'bfloat16'),
    ((12, 0), False, 'bfloat16'),
])  # fmt: skip
def test_auto_takes_the_fastest_that_the_device_does_well(
    monkeypatch, capability, bfloat16, chosen
):
    monkeypatch.setattr(precision, 'gpu_capability', lambda: capability)
    monkeypatch.setattr(precision, 'cpu_has_bfloat16', lambda: bfloat16)
    for framework in ('tensorflow', 'torch', 'jax'):
        monkeypatch.setattr(precision, 'backend', lambda: framework)
        # On a processor, JAX is no faster in bfloat16.
        slow = framework == 'jax' and capability is None
        assert precision.choose_precision('auto') == ('float32' if slow else chosen), framework


def test_what_is_asked_for_is_taken_without_a_look_at_the_device(monkeypatch):
    def never():
        raise AssertionError('asked for')

    monkeypatch.setattr(precision, 'gpu_capability', never)
    assert precision.choose_precision('') == 'float32'
    for name in ('float32', 'bfloat16', 'float16', 'int8'):
        assert precision.choose_precision(name) == name
    for name in ('float64', 'bf16', 'AUTO', 'int4'):
        with pytest.raises(
            UserError, match=rf"'{name}'; expected float32, bfloat16, float16, int8 or auto"
        ):
            precision.choose_precision(name)


@pytest.mark.parametrize(('flags', 'has'), [
    ('avx512_bf16', True), ('amx_bf16 amx_tile', True), ('bf16', True), ('asimd bf16', True),
    ('avx512f avx512_vnni', False), ('f16c', False), ('xbf16x', False), (None, False),
])  # fmt: skip
def test_processors_tell(monkeypatch, flags, has):
    monkeypatch.setattr(precision, 'Path', Cpuinfo(flags))
    assert precision.cpu_has_bfloat16() is has


def make_gpu(framework: str, capability) -> SimpleNamespace:
    """A framework that has found one GPU, 'Tesla', or none; it may not tell the capability."""
    gpus = [] if capability is None else [SimpleNamespace(name='/gpu:0')]
    told = {'compute_capability': capability} if capability else {}
    if framework == 'tensorflow':
        details = SimpleNamespace(get_device_details=lambda gpu: {'device_name': 'Tesla', **told})
        config = SimpleNamespace(list_physical_devices=lambda kind: gpus, experimental=details)
        return SimpleNamespace(config=config)
    if framework == 'torch':
        return SimpleNamespace(
            cuda=SimpleNamespace(
                is_available=lambda: bool(gpus),
                get_device_capability=lambda i: capability,
                get_device_name=lambda i: 'Tesla',
            )
        )
    device = SimpleNamespace(platform='gpu' if gpus else 'cpu', device_kind='Tesla')
    if capability:
        device.compute_capability = '.'.join(map(str, capability))
    return SimpleNamespace(devices=lambda: [device])


@pytest.mark.parametrize(('framework', 'capability', 'expected'), [
    ('tensorflow', (7, 0), (7, 0)), ('tensorflow', (), (8, 0)), ('tensorflow', None, None),
    ('jax', (7, 5), (7, 5)), ('jax', (12, 0), (12, 0)), ('jax', (), (8, 0)), ('jax', None, None),
    ('torch', (6, 1), (6, 1)), ('torch', None, None),
])  # fmt: skip
def test_every_backend_tells_what_the_gpu_is(monkeypatch, framework, capability, expected):
    monkeypatch.setattr(precision, 'backend', lambda: framework)
    monkeypatch.setitem(sys.modules, framework, make_gpu(framework, capability))
    assert precision.gpu_capability() == expected
    described = precision.describe_device()
    assert framework in described
    assert ('Tesla' in described) == (expected is not None)
    assert ('no GPU was found' in described) == (expected is None)
