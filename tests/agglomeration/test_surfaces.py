"""Distances from one object, with others in between."""

import numpy as np
import pytest
from scipy import ndimage

from ffn.agglomeration.surfaces import Surfaces

EDGES = (5.0, 1.0, 1.5)


@pytest.mark.parametrize('limit', [np.inf, 4.0])
def test_as_a_distance_transform_of_each_object(limit: float) -> None:
    rng = np.random.default_rng(0)
    objects = np.where(rng.random((7, 12, 15)) < 0.4, 0, rng.integers(1, 6, (7, 12, 15)))
    surfaces = Surfaces(objects, EDGES)
    for one in range(1, 6):
        at = np.nonzero(objects != one)
        expected = ndimage.distance_transform_edt(objects != one, sampling=EDGES)[at]
        expected[expected >= limit] = np.inf
        found = surfaces.distances(at, np.full(len(at[0]), one), limit)
        np.testing.assert_allclose(found, expected)
