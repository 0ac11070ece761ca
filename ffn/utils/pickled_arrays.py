"""Arrays in pickles, before they are arrays: their content is compared with what they declare first.

NumPy's own would change when a pickle sets their state.
"""

from __future__ import annotations

import math
import pickle
import re
from typing import Any, Literal

import numpy as np

_DTYPE = re.compile(r'\?|b1|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SU]\d{1,6}|O\d?')
_AXES = 32


class NotPlainError(pickle.UnpicklingError):
    """A pickle that is more than data. What it says is about the pickle, 'it …'."""


class PickledType:
    """A dtype, before it is known whether its byte order follows."""

    def __init__(self, name: Any):
        if not isinstance(name, str) or not _DTYPE.fullmatch(name):
            raise NotPlainError('it has an array of something else than numbers or texts')
        self.name = name
        self.order: Any = '='

    def set(self, state: Any) -> None:
        """Takes the byte order.

        Raises:
          NotPlainError: records, or no byte order.
        """
        if not (isinstance(state, tuple) and 5 <= len(state) <= 8 and state[2:5] == (None,) * 3):
            raise NotPlainError('it has an array of records')
        if state[1] not in ('<', '>', '|', '='):
            raise NotPlainError('it has an array of no byte order')
        self.order = state[1]

    def made(self) -> np.dtype:
        """Returns the dtype."""
        dtype = np.dtype(self.name)
        return dtype if dtype.hasobject or self.order == '|' else dtype.newbyteorder(self.order)


class PickledArray:
    """An array, whose content follows once."""

    shape: tuple[int, ...] | None = None
    data: Any = None

    def set(self, state: Any) -> None:
        """Takes the content: version, shape, type, whether the first axis varies fastest, and data.

        Raises:
          NotPlainError: the data is not of the size that shape and type say.
        """
        if self.shape is not None:
            raise NotPlainError('it changes an array')
        _, shape, kind, fortran, data = state
        if not isinstance(shape, tuple) or len(shape) > _AXES:
            raise NotPlainError('it has an array without a shape')
        if not all(type(n) is int and n >= 0 for n in shape):
            raise NotPlainError('it has an array without a shape')
        self.dtype, count = kind.made(), math.prod(shape)
        size = count if self.dtype.hasobject else count * self.dtype.itemsize
        if isinstance(data, str):  # of Python 2
            data = data.encode('latin1')
        if not isinstance(data, list if self.dtype.hasobject else bytes) or len(data) != size:
            raise NotPlainError('it has an array that is not of the size of its data')
        self.shape, self.data, self.fortran = shape, data, bool(fortran)

    def made(self) -> np.ndarray:
        """Returns an array of numbers or texts that can be written to.

        Raises:
          NotPlainError: it is one of objects, or has no content.
        """
        if self.shape is None or self.dtype.hasobject:
            raise NotPlainError('it has an array of objects where there is none in results')
        order: Literal['C', 'F'] = 'F' if self.fortran else 'C'
        flat = np.frombuffer(self.data, self.dtype) if self.data else np.zeros(0, self.dtype)
        return flat.reshape(self.shape, order=order).astype(self.dtype.newbyteorder('='))
