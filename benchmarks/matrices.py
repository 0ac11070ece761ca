"""The rate at which a device multiplies matrices, which others are compared with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from ffn.models import precision as precisions


def seconds_of(call: Callable[[], object], at_least_s: float) -> float:
    """Median time of a call that returns when it is done; the first, which compiles, is left out."""
    call()
    times: list[float] = []
    end = time.perf_counter() + at_least_s
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def matmul_rate(kind: str, size: int, at_least_s: float) -> float:
    """Operations per second of multiplying square matrices on the active backend."""
    dtype = 'float32' if kind == 'tf32' else kind
    # Several in a row, so that starting them does not count.
    repeats = 8
    name = precisions.backend()
    if name == 'jax':
        import jax

        a = jax.random.normal(jax.random.PRNGKey(0), (size, size)).astype(dtype)

        @jax.jit
        def multiply(a: Any) -> Any:
            with jax.default_matmul_precision('tensorfloat32' if kind == 'tf32' else 'float32'):
                return jax.lax.fori_loop(0, repeats, lambda i, b: a @ b / size, a)

        seconds = seconds_of(lambda: multiply(a).block_until_ready(), at_least_s)
    elif name == 'torch':
        import torch

        on_gpu = torch.cuda.is_available()
        torch.backends.cuda.matmul.allow_tf32 = kind == 'tf32'
        a = torch.randn(size, size, device='cuda' if on_gpu else 'cpu').to(getattr(torch, dtype))

        def multiply() -> None:
            b = a
            for _ in range(repeats):
                b = torch.matmul(a, b)
            if on_gpu:
                torch.cuda.synchronize()

        with torch.inference_mode():
            seconds = seconds_of(multiply, at_least_s)
    else:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(kind == 'tf32')
        a = tf.cast(tf.random.normal((size, size)), dtype)

        @tf.function
        def multiply() -> Any:
            b = a
            for _ in range(repeats):
                b = tf.linalg.matmul(a, b)
            return b[0, 0]

        seconds = seconds_of(lambda: multiply().numpy(), at_least_s)
    return repeats * 2 * size**3 / seconds
