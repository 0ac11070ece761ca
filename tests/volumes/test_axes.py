import itertools

import numpy as np
import pytest

from ffn.utils.errors import UserError
from ffn.volumes.axes import Arrangement, arrange, normalize_names
from ffn.volumes.opened_array import ArrangedArray

CZYX = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)


@pytest.mark.parametrize('names', [''.join(p) for p in itertools.permutations('czyx')])
def test_every_order_of_named_axes(names):
    stored = CZYX.transpose(['czyx'.index(name) for name in names])
    array = ArrangedArray(stored, arrange(names, stored.shape, 'v'))
    assert array.shape == CZYX.shape
    part = np.s_[:1, 1:3, 0:2, 2:5]
    np.testing.assert_array_equal(array[part], CZYX[part])
    # As contiguous as an array that needs no rearranging.
    assert array[part].flags.c_contiguous


def test_other_axes_of_length_1_are_dropped():
    stored = CZYX[0].transpose(2, 1, 0)[None, :, :, None, :]
    arrangement = arrange(('t', 'x', 'y', 'c', 'z'), stored.shape, 'v')
    assert arrangement == Arrangement((4, 2, 1), (0, 3))
    part = np.s_[1:3, 0:2, 2:5]
    np.testing.assert_array_equal(ArrangedArray(stored, arrangement)[part], CZYX[0][part])


def test_without_names_the_order_is_kept():
    assert arrange((), (3, 4, 5), 'v').as_stored
    assert arrange((), (2, 3, 4, 5), 'v').as_stored
    assert arrange((), (1, 2, 3, 4, 5), 'v') == Arrangement((1, 2, 3, 4), (0,))


def test_numbers_by_axis():
    arrangement = arrange('xcyz', (5, 2, 4, 3), 'v')
    assert arrangement.pick_space((8, 9, 33)) == (33, 9, 8)  # x, y, z as stored
    assert arrangement.pick_space((8, 1, 9, 33)) == (33, 9, 8)
    with pytest.raises(ValueError, match='2 numbers'):
        arrangement.pick_space((8, 9))


def test_names_that_mean_the_same():
    assert normalize_names(['Channel', 'Z', ' y', 'x']) == ('c', 'z', 'y', 'x')
    assert normalize_names(['c^', 'z', 'y', 'x']) == ('c', 'z', 'y', 'x')
    assert normalize_names(['', None]) == ()


@pytest.mark.parametrize(
    ('names', 'shape', 'message'),
    [
        ('zyq', (3, 4, 5), 'v has axes named z,y,q; expected x, y and z, each once'),
        ('zzyx', (1, 3, 4, 5), 'v has axes named z,z,y,x; expected'),
        ('yxc', (3, 4, 5), 'v has axes named y,x,c; expected'),
        ('tzyx', (2, 3, 4, 5), 'v has 2 entries along its axis t; expected one'),
        ('zyx', (2, 3, 4, 5), 'v has 4 axes, but names 3: z, y, x'),
    ],
)
def test_axes_that_make_no_volume(names, shape, message):
    with pytest.raises(UserError, match=message):
        arrange(names, shape, 'v')
