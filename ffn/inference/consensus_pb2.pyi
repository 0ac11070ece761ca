from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper

from ffn.inference import inference_pb2 as _inference_pb2

DESCRIPTOR: _descriptor.FileDescriptor

class ConsensusRequest(_message.Message):
    __slots__ = (
        'segmentation1',
        'segmentation2',
        'segmentation_output_dir',
        'split_min_size',
        'type',
    )
    class ConsensusType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CONSENSUS_SPLIT: _ClassVar[ConsensusRequest.ConsensusType]

    CONSENSUS_SPLIT: ConsensusRequest.ConsensusType
    SEGMENTATION1_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION2_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION_OUTPUT_DIR_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_MIN_SIZE_FIELD_NUMBER: _ClassVar[int]
    segmentation1: _inference_pb2.SegmentationSource
    segmentation2: _inference_pb2.SegmentationSource
    segmentation_output_dir: str
    type: ConsensusRequest.ConsensusType
    split_min_size: int
    def __init__(
        self,
        segmentation1: _inference_pb2.SegmentationSource | _Mapping | None = ...,
        segmentation2: _inference_pb2.SegmentationSource | _Mapping | None = ...,
        segmentation_output_dir: str | None = ...,
        type: ConsensusRequest.ConsensusType | str | None = ...,
        split_min_size: int | None = ...,
    ) -> None: ...
