"""Numbers of 32 bits beside those that were typed."""

import edt
import numpy as np
import pytest

from ffn.inference import inference_pb2
from ffn.utils.rounding import reach, typed


@pytest.mark.parametrize(
    'value', [0.0, 0.05, 0.1, 0.6, 1 / 3, 1e-7, 2.5, -0.3, 16777218, 123456792]
)
def test_what_was_typed_into_a_field(value):
    field = inference_pb2.InferenceOptions(move_threshold=value).move_threshold
    assert typed(field) == (value if value != 1 / 3 else 0.33333334)


def test_numbers_without_digits():
    assert typed(float('inf')) == float('inf')
    assert np.isnan(typed(float('nan')))


@pytest.mark.parametrize('edge', [0.008, 0.033, 4.4, 30 / 7])
def test_distances_are_within_reach(edge):
    empty = np.ones((2, 3, 701), bool)
    empty[..., 0] = False
    distances = edt.edt(empty, anisotropy=(999.0, 999.0, edge))[0, 0]
    exact = edge * np.arange(701)
    assert (distances <= reach(exact)).all()
    assert (exact <= reach(distances.astype(float))).all()
