"""The flags of `ffn infer` and `ffn seed` that change a request."""

from __future__ import annotations

from dataclasses import dataclass

from ffn.utils.settings import setting


@dataclass(frozen=True)
class Changes:
    """What is taken in place of what the request says."""

    inference_options: str = setting(
        'InferenceOptions in text format; its fields override those of the request',
        default='',
        metavar='OPTIONS',
    )
    precision: str = setting(
        'what the network computes in: float32, bfloat16, float16, int8 (processors with VNNI), or auto for the '
        'fastest of the first three that suits the device',
        default='',
        choices=('', 'float32', 'bfloat16', 'float16', 'int8', 'auto'),
        metavar='NAME',
    )
