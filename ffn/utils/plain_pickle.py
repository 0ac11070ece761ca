"""Object arrays of NumPy, read as plain data.

They are stored as pickles, which are programs: they look up names, call what they find, and set attributes. Here only
the operations exist that build numbers, texts, containers and arrays. A name stands for one of the few things
below, never for what is called so in Python, and what is built last is checked once more: results hold
dicts by id, lists, named tuples, numbers, texts, and arrays whose size is that of their bytes.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, cast

import numpy as np

from ffn.utils.pickled_arrays import NotPlainError, PickledArray, PickledType

# Everything but: names from elsewhere, calls other than those below, sets, byte arrays and buffers, whose size is
# believed before their bytes are there.
_OPERATIONS = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT
    GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL
"""
# How deep lists may be nested: an array of objects of histories of positions.
_DEPTH = 4
_PLAIN = (int, float, str, bytes, np.generic, type(None))
_NUMBER = (int, float, np.number)
_KEY = (int, np.integer, str)


class _Name:
    """What a pickle may name, as a mere sign."""

    def __init__(self, *fields: str, cls: Any = None):
        self.fields, self.cls = fields, cls


_ARRAY, _ARRAY_TYPE, _TYPE, _SCALAR = _Name(), _Name(), _Name(), _Name()
_ENCODE, _BYTES, _DICT = _Name(), _Name(), _Name()
_NUMPY = {
    ('multiarray', '_reconstruct'): _ARRAY,
    ('multiarray', 'scalar'): _SCALAR,
    ('numpy', 'ndarray'): _ARRAY_TYPE,
    ('numpy', 'dtype'): _TYPE,
}
# How Python 3 writes bytes, and Python 2 the order of fields, for the other.
_PYTHON = {
    ('_codecs', 'encode'): _ENCODE,
    ('__builtin__', 'bytes'): _BYTES,
    ('builtins', 'bytes'): _BYTES,
    ('collections', 'OrderedDict'): _DICT,
}


class _Reader(pickle._Unpickler):
    """Builds signs, `PickledArray` and plain data; keeps no name of Python's own."""

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code[0]: pickle._Unpickler.dispatch[code[0]]
        for code in (getattr(pickle, name) for name in _OPERATIONS.split())
    }

    def __init__(self, data: bytes, classes: Iterable[type]):
        # Python 2 wrote byte strings where Python 3 expects text; latin1 keeps both apart losslessly.
        super().__init__(io.BytesIO(data), encoding='latin1')
        self._classes = {c.__name__: _Name(*cast(Any, c)._fields, cls=c) for c in classes}

    def find_class(self, module: str, name: str) -> Any:
        """The sign for a name: of NumPy, in any of its versions, or of a named tuple, in any module."""
        if name in self._classes:
            return self._classes[name]
        part = module
        if module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
            part = 'multiarray'
        found = _NUMPY.get((part, name)) or _PYTHON.get((module, name))
        if found is None:
            raise NotPlainError(f'it names {module}.{name}'[:200])
        return found

    def _call(self) -> None:
        """REDUCE and NEWOBJ."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise NotPlainError('it calls something')
        self.append(_make(name, arguments))

    def _add_items(self, items: list[Any]) -> None:
        made = self.stack[-1]
        # Other keys could be such that they take for ever to compare.
        if type(made) is not dict or any(not isinstance(k, _KEY) for k in items[::2]):
            raise NotPlainError('it has a dict that is not by id')
        made.update(zip(items[::2], items[1::2], strict=True))

    def _add_item(self) -> None:
        """SETITEM."""
        value, key = self.stack.pop(), self.stack.pop()
        self._add_items([key, value])

    def _add_marked(self) -> None:
        """SETITEMS."""
        self._add_items(self.pop_mark())

    def _make_dict(self) -> None:
        """DICT."""
        items = self.pop_mark()
        self.append({})
        self._add_items(items)

    def _set(self) -> None:
        """BUILD: arrays and their types only; early named tuples of Python 2 repeat their fields."""
        state, made = self.stack.pop(), self.stack[-1]
        repeated = any(made.__class__ is name.cls for name in self._classes.values())
        if isinstance(made, PickledArray | PickledType):
            made.set(state)
        elif not repeated or not isinstance(state, dict):
            raise NotPlainError('it sets attributes of something')

    dispatch[pickle.REDUCE[0]] = _call
    dispatch[pickle.NEWOBJ[0]] = _call
    dispatch[pickle.BUILD[0]] = _set
    dispatch[pickle.SETITEM[0]] = _add_item
    dispatch[pickle.SETITEMS[0]] = _add_marked
    dispatch[pickle.DICT[0]] = _make_dict


def _make(name: _Name, arguments: tuple[Any, ...]) -> Any:
    if name.cls is not None and len(arguments) == len(name.fields):
        return name.cls(*arguments)
    if name is _ARRAY and arguments[:1] == (_ARRAY_TYPE,):
        return PickledArray()
    if name is _TYPE and arguments:
        return PickledType(arguments[0])
    if name is _SCALAR and len(arguments) == 2 and isinstance(arguments[0], PickledType):
        array = PickledArray()
        array.set((1, (), arguments[0], False, arguments[1]))
        return array.made()[()]
    if name is _ENCODE and len(arguments) == 2 and arguments[1] == 'latin1':
        return arguments[0].encode('latin1') if isinstance(arguments[0], str) else _Name()
    if name is _BYTES and not arguments:
        return b''
    if name is _DICT and not arguments:
        return {}
    if name is _DICT and all(isinstance(key, _KEY) for key, _ in arguments[0]):
        return dict(arguments[0])
    raise NotPlainError('it calls something with other arguments than results do')


class _Checker:
    """Turns what was built into what results hold; what occurs twice is looked at once."""

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Returns plain data, with arrays of NumPy."""
        if isinstance(value, _PLAIN) or (hasattr(value, '_fields') and _is_origin(value)):
            return value
        if id(value) not in self._known:
            if depth > _DEPTH:
                raise NotPlainError('it is nested more deeply than results are')
            self._known[id(value)] = self._container(value, depth + 1)
        return self._known[id(value)]

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, PickledArray):
            return value.made()
        if isinstance(value, dict):
            if any(isinstance(key, str) for key in value):
                raise NotPlainError('it has a dict that is not by id')
            return {int(key): self.plain(item, depth) for key, item in value.items()}
        if isinstance(value, list | tuple):
            items = [self.plain(item, depth) for item in value]
            if hasattr(value, '_fields'):
                if not _is_origin(origin := type(value)(*items)):
                    raise NotPlainError(f'it has an {type(value).__name__} that is not of numbers')
                return origin
            return items if isinstance(value, list) else tuple(items)
        raise NotPlainError('it holds a name')


def _is_origin(value: Any) -> bool:
    """Whether a named tuple holds numbers, and a position first."""
    start, *numbers = value
    if not isinstance(start, tuple | list | np.ndarray):
        return False
    return all(isinstance(n, _NUMBER) for n in start) and all(
        isinstance(n, _NUMBER) for n in numbers
    )


def load_objects(data: bytes, shape: tuple[int, ...], classes: Iterable[type]) -> np.ndarray:
    """Reads a pickle that holds an array of objects.

    Args:
      data: the pickle.
      shape: what the array's shape must be.
      classes: named tuples that it may hold, recognized by their name alone: a position, then numbers.

    Returns:
      Array of objects; they are dicts by integers, lists, tuples, numbers, texts and arrays.

    Raises:
      NotPlainError: it holds anything else.
      ValueError: it is damaged.
    """
    try:
        array = _Reader(data, classes).load()
        if not isinstance(array, PickledArray) or array.shape != shape or not array.dtype.hasobject:
            raise ValueError('object member is no array')
        checker, made = _Checker(), np.empty(math.prod(shape), object)
        for i, item in enumerate(array.data):
            made[i] = checker.plain(item)
        return made.reshape(shape)
    except NotPlainError:
        raise
    except KeyError as error:
        raise NotPlainError(f'it has operation {error}, which results do not need') from error
    except Exception as error:  # whatever Python's own reader raises for what makes no sense
        raise ValueError(f'damaged pickle: {error}') from error
