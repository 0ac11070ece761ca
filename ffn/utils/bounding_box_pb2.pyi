from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers

from ffn.utils import vector_pb2 as _vector_pb2

DESCRIPTOR: _descriptor.FileDescriptor

class BoundingBox(_message.Message):
    __slots__ = ('description', 'object_label', 'size', 'start')
    START_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    OBJECT_LABEL_FIELD_NUMBER: _ClassVar[int]
    start: _vector_pb2.Vector3j
    size: _vector_pb2.Vector3j
    description: str
    object_label: int
    def __init__(
        self,
        start: _vector_pb2.Vector3j | _Mapping | None = ...,
        size: _vector_pb2.Vector3j | _Mapping | None = ...,
        description: str | None = ...,
        object_label: int | None = ...,
    ) -> None: ...

class BoundingBoxes(_message.Message):
    __slots__ = ('box',)
    BOX_FIELD_NUMBER: _ClassVar[int]
    box: _containers.RepeatedCompositeFieldContainer[BoundingBox]
    def __init__(self, box: _Iterable[BoundingBox | _Mapping] | None = ...) -> None: ...
