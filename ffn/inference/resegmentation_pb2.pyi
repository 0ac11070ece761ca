from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers

from ffn.utils import vector_pb2 as _vector_pb2

DESCRIPTOR: _descriptor.FileDescriptor

class OverlapInfo(_message.Message):
    __slots__ = ('num_original', 'num_overlapping')
    NUM_OVERLAPPING_FIELD_NUMBER: _ClassVar[int]
    NUM_ORIGINAL_FIELD_NUMBER: _ClassVar[int]
    num_overlapping: int
    num_original: int
    def __init__(
        self, num_overlapping: int | None = ..., num_original: int | None = ...
    ) -> None: ...

class EndpointResegmentationResult(_message.Message):
    __slots__ = ('id', 'num_voxels', 'overlaps', 'segmentation_radius', 'source', 'start', 'tag')
    class OverlapsEntry(_message.Message):
        __slots__ = ('key', 'value')
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: OverlapInfo
        def __init__(
            self, key: int | None = ..., value: OverlapInfo | _Mapping | None = ...
        ) -> None: ...

    ID_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    NUM_VOXELS_FIELD_NUMBER: _ClassVar[int]
    OVERLAPS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION_RADIUS_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    id: int
    start: _vector_pb2.Vector3j
    num_voxels: int
    overlaps: _containers.MessageMap[int, OverlapInfo]
    source: OverlapInfo
    segmentation_radius: _vector_pb2.Vector3j
    tag: str
    def __init__(
        self,
        id: int | None = ...,
        start: _vector_pb2.Vector3j | _Mapping | None = ...,
        num_voxels: int | None = ...,
        overlaps: _Mapping[int, OverlapInfo] | None = ...,
        source: OverlapInfo | _Mapping | None = ...,
        segmentation_radius: _vector_pb2.Vector3j | _Mapping | None = ...,
        tag: str | None = ...,
    ) -> None: ...

class SegmentResult(_message.Message):
    __slots__ = (
        'deleted_voxels',
        'max_edt',
        'num_voxels',
        'origin',
        'segment_a_consistency',
        'segment_b_consistency',
    )
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    NUM_VOXELS_FIELD_NUMBER: _ClassVar[int]
    DELETED_VOXELS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_A_CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_B_CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    MAX_EDT_FIELD_NUMBER: _ClassVar[int]
    origin: _vector_pb2.Vector3j
    num_voxels: int
    deleted_voxels: int
    segment_a_consistency: float
    segment_b_consistency: float
    max_edt: float
    def __init__(
        self,
        origin: _vector_pb2.Vector3j | _Mapping | None = ...,
        num_voxels: int | None = ...,
        deleted_voxels: int | None = ...,
        segment_a_consistency: float | None = ...,
        segment_b_consistency: float | None = ...,
        max_edt: float | None = ...,
    ) -> None: ...

class EvalResult(_message.Message):
    __slots__ = (
        'from_a',
        'from_b',
        'iou',
        'max_edt_a',
        'max_edt_b',
        'num_voxels_a',
        'num_voxels_b',
        'radius',
    )
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    IOU_FIELD_NUMBER: _ClassVar[int]
    FROM_A_FIELD_NUMBER: _ClassVar[int]
    FROM_B_FIELD_NUMBER: _ClassVar[int]
    MAX_EDT_A_FIELD_NUMBER: _ClassVar[int]
    MAX_EDT_B_FIELD_NUMBER: _ClassVar[int]
    NUM_VOXELS_A_FIELD_NUMBER: _ClassVar[int]
    NUM_VOXELS_B_FIELD_NUMBER: _ClassVar[int]
    radius: _vector_pb2.Vector3j
    iou: float
    from_a: SegmentResult
    from_b: SegmentResult
    max_edt_a: float
    max_edt_b: float
    num_voxels_a: int
    num_voxels_b: int
    def __init__(
        self,
        radius: _vector_pb2.Vector3j | _Mapping | None = ...,
        iou: float | None = ...,
        from_a: SegmentResult | _Mapping | None = ...,
        from_b: SegmentResult | _Mapping | None = ...,
        max_edt_a: float | None = ...,
        max_edt_b: float | None = ...,
        num_voxels_a: int | None = ...,
        num_voxels_b: int | None = ...,
    ) -> None: ...

class PairResegmentationResult(_message.Message):
    __slots__ = ('eval', 'id_a', 'id_b', 'point', 'segmentation_radius', 'tag')
    POINT_FIELD_NUMBER: _ClassVar[int]
    ID_A_FIELD_NUMBER: _ClassVar[int]
    ID_B_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION_RADIUS_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    EVAL_FIELD_NUMBER: _ClassVar[int]
    point: _vector_pb2.Vector3j
    id_a: int
    id_b: int
    segmentation_radius: _vector_pb2.Vector3j
    tag: str
    eval: EvalResult
    def __init__(
        self,
        point: _vector_pb2.Vector3j | _Mapping | None = ...,
        id_a: int | None = ...,
        id_b: int | None = ...,
        segmentation_radius: _vector_pb2.Vector3j | _Mapping | None = ...,
        tag: str | None = ...,
        eval: EvalResult | _Mapping | None = ...,
    ) -> None: ...
