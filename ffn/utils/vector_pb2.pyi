from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers

DESCRIPTOR: _descriptor.FileDescriptor

class Vector2d(_message.Message):
    __slots__ = ('x', 'y')
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    def __init__(self, x: float | None = ..., y: float | None = ...) -> None: ...

class Vector2i(_message.Message):
    __slots__ = ('x', 'y')
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: int
    y: int
    def __init__(self, x: int | None = ..., y: int | None = ...) -> None: ...

class Vector3d(_message.Message):
    __slots__ = ('x', 'y', 'z')
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    Z_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    z: float
    def __init__(
        self, x: float | None = ..., y: float | None = ..., z: float | None = ...
    ) -> None: ...

class Vector3f(_message.Message):
    __slots__ = ('x', 'y', 'z')
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    Z_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    z: float
    def __init__(
        self, x: float | None = ..., y: float | None = ..., z: float | None = ...
    ) -> None: ...

class Vector3j(_message.Message):
    __slots__ = ('x', 'y', 'z')
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    Z_FIELD_NUMBER: _ClassVar[int]
    x: int
    y: int
    z: int
    def __init__(self, x: int | None = ..., y: int | None = ..., z: int | None = ...) -> None: ...

class Vector2dList(_message.Message):
    __slots__ = ('vectors',)
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    vectors: _containers.RepeatedCompositeFieldContainer[Vector2d]
    def __init__(self, vectors: _Iterable[Vector2d | _Mapping] | None = ...) -> None: ...

class Vector2iList(_message.Message):
    __slots__ = ('vectors',)
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    vectors: _containers.RepeatedCompositeFieldContainer[Vector2i]
    def __init__(self, vectors: _Iterable[Vector2i | _Mapping] | None = ...) -> None: ...

class Vector3dList(_message.Message):
    __slots__ = ('vectors',)
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    vectors: _containers.RepeatedCompositeFieldContainer[Vector3d]
    def __init__(self, vectors: _Iterable[Vector3d | _Mapping] | None = ...) -> None: ...

class Vector3fList(_message.Message):
    __slots__ = ('vectors',)
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    vectors: _containers.RepeatedCompositeFieldContainer[Vector3f]
    def __init__(self, vectors: _Iterable[Vector3f | _Mapping] | None = ...) -> None: ...

class Vector3jList(_message.Message):
    __slots__ = ('vectors',)
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    vectors: _containers.RepeatedCompositeFieldContainer[Vector3j]
    def __init__(self, vectors: _Iterable[Vector3j | _Mapping] | None = ...) -> None: ...
