"""The precision that a network computes in, and the device that it runs on."""

from __future__ import annotations

import re
from pathlib import Path

from ffn.utils.errors import UserError

PRECISIONS = ('float32', 'bfloat16', 'float16', 'int8')
BACKENDS = ('tensorflow', 'jax', 'torch')


def choose_precision(asked: str) -> str:
    """Turns the precision of a request into one of PRECISIONS.

    Args:
      asked: one of them, '' for float32, or 'auto' for the fastest that the device computes natively.

    Raises:
      UserError: anything else.
    """
    if asked == 'auto':
        return _fastest()
    if asked and asked not in PRECISIONS:
        raise UserError(f'precision is {asked!r}; expected {", ".join(PRECISIONS)} or auto')
    return asked or 'float32'


def _fastest() -> str:
    capability = gpu_capability()
    if capability is None:
        # JAX gains nothing from the processor's bfloat16 multiplication.
        return 'bfloat16' if cpu_has_bfloat16() and backend() != 'jax' else 'float32'
    # Tensor cores: bfloat16 since 8.0 (A100), float16 since 7.0 (V100).
    return 'bfloat16' if capability >= (8, 0) else 'float16' if capability >= (7, 0) else 'float32'


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively; False where that is not known (not Linux)."""
    return _cpu_has('avx512_bf16|amx_bf16|bf16')


def cpu_has_avx512() -> bool:
    """Whether the processor computes 16 numbers of float32 at a time; False where that is not known (not Linux)."""
    return _cpu_has('avx512f')


def _cpu_has(flags: str) -> bool:
    try:
        found = Path('/proc/cpuinfo').read_text()
    except OSError:
        return False
    return re.search(rf'\b({flags})\b', found) is not None


def backend() -> str:
    """Name of the active Keras backend.

    Raises:
      UserError: it is not supported, or not installed.
    """
    try:
        import keras
    except (ImportError, ValueError) as error:
        raise UserError(
            f'Keras cannot load its backend ({error}); set KERAS_BACKEND to one that is installed: '
            f'{", ".join(BACKENDS)}'
        ) from error
    name: str = keras.config.backend()
    if name not in BACKENDS:
        raise UserError(f'Keras runs on {name}; expected {", ".join(BACKENDS)} in KERAS_BACKEND')
    return name


def gpu_capability() -> tuple[int, int] | None:
    """Compute capability of the first GPU of the active Keras backend, None without a GPU.

    A device that does not report one counts as (8, 0).
    """
    name = backend()
    if name == 'tensorflow':
        import tensorflow as tf

        gpus = tf.config.list_physical_devices('GPU')
        details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
        return details.get('compute_capability', (8, 0)) if gpus else None
    if name == 'torch':
        import torch

        return torch.cuda.get_device_capability(0) if torch.cuda.is_available() else None
    import jax

    device = jax.devices()[0]
    if device.platform == 'cpu':
        return None
    major, _, minor = str(getattr(device, 'compute_capability', '8.0')).partition('.')
    return int(major), int(minor or 0)


def describe_device() -> str:
    """Names the device and the backend that the network runs on, for the log."""
    name = backend()
    if gpu_capability() is None:
        return f'CPU (no GPU was found), {name}'
    if name == 'tensorflow':
        import tensorflow as tf

        gpus = tf.config.list_physical_devices('GPU')
        details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
        found = ', '.join(d.get('device_name', g.name) for g, d in zip(gpus, details, strict=True))
    elif name == 'torch':
        import torch

        found = torch.cuda.get_device_name(0)
    else:
        import jax

        found = jax.devices()[0].device_kind
    return f'{found}, {name}'
