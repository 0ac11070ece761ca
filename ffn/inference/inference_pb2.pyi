from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper

from ffn.utils import bounding_box_pb2 as _bounding_box_pb2
from ffn.utils import vector_pb2 as _vector_pb2

DESCRIPTOR: _descriptor.FileDescriptor

class DecoratedVolume(_message.Message):
    __slots__ = ('decorator_specs', 'downsample', 'hdf5', 'tensorstore', 'upsample', 'volinfo')
    VOLINFO_FIELD_NUMBER: _ClassVar[int]
    HDF5_FIELD_NUMBER: _ClassVar[int]
    TENSORSTORE_FIELD_NUMBER: _ClassVar[int]
    DECORATOR_SPECS_FIELD_NUMBER: _ClassVar[int]
    DOWNSAMPLE_FIELD_NUMBER: _ClassVar[int]
    UPSAMPLE_FIELD_NUMBER: _ClassVar[int]
    volinfo: str
    hdf5: str
    tensorstore: str
    decorator_specs: str
    downsample: _vector_pb2.Vector3j
    upsample: _vector_pb2.Vector3j
    def __init__(
        self,
        volinfo: str | None = ...,
        hdf5: str | None = ...,
        tensorstore: str | None = ...,
        decorator_specs: str | None = ...,
        downsample: _vector_pb2.Vector3j | _Mapping | None = ...,
        upsample: _vector_pb2.Vector3j | _Mapping | None = ...,
    ) -> None: ...

class MaskChannelConfig(_message.Message):
    __slots__ = ('channel', 'invert', 'max_value', 'min_value', 'values')
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    MIN_VALUE_FIELD_NUMBER: _ClassVar[int]
    MAX_VALUE_FIELD_NUMBER: _ClassVar[int]
    INVERT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    channel: int
    min_value: float
    max_value: float
    invert: bool
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(
        self,
        channel: int | None = ...,
        min_value: float | None = ...,
        max_value: float | None = ...,
        invert: bool | None = ...,
        values: _Iterable[int] | None = ...,
    ) -> None: ...

class ImageMaskOptions(_message.Message):
    __slots__ = ('channels',)
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[MaskChannelConfig]
    def __init__(self, channels: _Iterable[MaskChannelConfig | _Mapping] | None = ...) -> None: ...

class VolumeMaskOptions(_message.Message):
    __slots__ = ('channels', 'mask')
    MASK_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    mask: DecoratedVolume
    channels: _containers.RepeatedCompositeFieldContainer[MaskChannelConfig]
    def __init__(
        self,
        mask: DecoratedVolume | _Mapping | None = ...,
        channels: _Iterable[MaskChannelConfig | _Mapping] | None = ...,
    ) -> None: ...

class CoordinateExpressionOptions(_message.Message):
    __slots__ = ('expression',)
    EXPRESSION_FIELD_NUMBER: _ClassVar[int]
    expression: str
    def __init__(self, expression: str | None = ...) -> None: ...

class MaskConfig(_message.Message):
    __slots__ = ('coordinate_expression', 'image', 'invert', 'volume')
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    COORDINATE_EXPRESSION_FIELD_NUMBER: _ClassVar[int]
    INVERT_FIELD_NUMBER: _ClassVar[int]
    volume: VolumeMaskOptions
    image: ImageMaskOptions
    coordinate_expression: CoordinateExpressionOptions
    invert: bool
    def __init__(
        self,
        volume: VolumeMaskOptions | _Mapping | None = ...,
        image: ImageMaskOptions | _Mapping | None = ...,
        coordinate_expression: CoordinateExpressionOptions | _Mapping | None = ...,
        invert: bool | None = ...,
    ) -> None: ...

class MaskConfigs(_message.Message):
    __slots__ = ('masks',)
    MASKS_FIELD_NUMBER: _ClassVar[int]
    masks: _containers.RepeatedCompositeFieldContainer[MaskConfig]
    def __init__(self, masks: _Iterable[MaskConfig | _Mapping] | None = ...) -> None: ...

class SegmentationSource(_message.Message):
    __slots__ = ('directory', 'mask', 'min_size', 'split_cc', 'threshold')
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    SPLIT_CC_FIELD_NUMBER: _ClassVar[int]
    MIN_SIZE_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    directory: str
    threshold: float
    split_cc: bool
    min_size: int
    mask: MaskConfigs
    def __init__(
        self,
        directory: str | None = ...,
        threshold: float | None = ...,
        split_cc: bool | None = ...,
        min_size: int | None = ...,
        mask: MaskConfigs | _Mapping | None = ...,
    ) -> None: ...

class InferenceOptions(_message.Message):
    __slots__ = (
        'disco_seed_threshold',
        'init_activation',
        'max_object_steps',
        'max_object_voxels',
        'min_boundary_dist',
        'min_segment_size',
        'move_threshold',
        'pad_value',
        'prefilled_gap',
        'prefilled_join_fraction',
        'segment_threshold',
    )
    INIT_ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    PAD_VALUE_FIELD_NUMBER: _ClassVar[int]
    MOVE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    DISCO_SEED_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MIN_BOUNDARY_DIST_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MIN_SEGMENT_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_OBJECT_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_OBJECT_VOXELS_FIELD_NUMBER: _ClassVar[int]
    PREFILLED_JOIN_FRACTION_FIELD_NUMBER: _ClassVar[int]
    PREFILLED_GAP_FIELD_NUMBER: _ClassVar[int]
    init_activation: float
    pad_value: float
    move_threshold: float
    disco_seed_threshold: float
    min_boundary_dist: _vector_pb2.Vector3j
    segment_threshold: float
    min_segment_size: int
    max_object_steps: int
    max_object_voxels: int
    prefilled_join_fraction: float
    prefilled_gap: int
    def __init__(
        self,
        init_activation: float | None = ...,
        pad_value: float | None = ...,
        move_threshold: float | None = ...,
        disco_seed_threshold: float | None = ...,
        min_boundary_dist: _vector_pb2.Vector3j | _Mapping | None = ...,
        segment_threshold: float | None = ...,
        min_segment_size: int | None = ...,
        max_object_steps: int | None = ...,
        max_object_voxels: int | None = ...,
        prefilled_join_fraction: float | None = ...,
        prefilled_gap: int | None = ...,
    ) -> None: ...

class AlignmentOptions(_message.Message):
    __slots__ = ('save_raw', 'type')
    class AlignType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN_ALIGNMENT: _ClassVar[AlignmentOptions.AlignType]
        NO_ALIGNMENT: _ClassVar[AlignmentOptions.AlignType]

    UNKNOWN_ALIGNMENT: AlignmentOptions.AlignType
    NO_ALIGNMENT: AlignmentOptions.AlignType
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SAVE_RAW_FIELD_NUMBER: _ClassVar[int]
    type: AlignmentOptions.AlignType
    save_raw: bool
    def __init__(
        self, type: AlignmentOptions.AlignType | str | None = ..., save_raw: bool | None = ...
    ) -> None: ...

class InferenceRequest(_message.Message):
    __slots__ = (
        'alignment_options',
        'batch_size',
        'checkpoint_interval',
        'concurrent_requests',
        'histogram_masks',
        'histogram_per_subvolume',
        'image',
        'image_mean',
        'image_stddev',
        'inference_options',
        'init_segmentation',
        'int8_ranges',
        'masks',
        'model_args',
        'model_checkpoint_path',
        'model_name',
        'movement_policy_args',
        'movement_policy_name',
        'precision',
        'reference_histogram',
        'seed_masks',
        'seed_policy',
        'seed_policy_args',
        'segmentation_output_dir',
        'shift_mask',
        'shift_mask_fov',
        'shift_mask_scale',
        'shift_mask_threshold',
        'use_ema',
        'voxel_size',
    )
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_MEAN_FIELD_NUMBER: _ClassVar[int]
    IMAGE_STDDEV_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
    MASKS_FIELD_NUMBER: _ClassVar[int]
    SHIFT_MASK_FIELD_NUMBER: _ClassVar[int]
    SHIFT_MASK_SCALE_FIELD_NUMBER: _ClassVar[int]
    SHIFT_MASK_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MOVEMENT_POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    MOVEMENT_POLICY_ARGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_ARGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_CHECKPOINT_PATH_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION_OUTPUT_DIR_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    SEED_POLICY_FIELD_NUMBER: _ClassVar[int]
    SEED_POLICY_ARGS_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SHIFT_MASK_FOV_FIELD_NUMBER: _ClassVar[int]
    INIT_SEGMENTATION_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAM_MASKS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SEED_MASKS_FIELD_NUMBER: _ClassVar[int]
    VOXEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    USE_EMA_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAM_PER_SUBVOLUME_FIELD_NUMBER: _ClassVar[int]
    INT8_RANGES_FIELD_NUMBER: _ClassVar[int]
    image: DecoratedVolume
    image_mean: float
    image_stddev: float
    reference_histogram: str
    masks: _containers.RepeatedCompositeFieldContainer[MaskConfig]
    shift_mask: DecoratedVolume
    shift_mask_scale: int
    shift_mask_threshold: int
    movement_policy_name: str
    movement_policy_args: str
    model_name: str
    model_args: str
    model_checkpoint_path: str
    inference_options: InferenceOptions
    segmentation_output_dir: str
    checkpoint_interval: int
    seed_policy: str
    seed_policy_args: str
    alignment_options: AlignmentOptions
    shift_mask_fov: _bounding_box_pb2.BoundingBox
    init_segmentation: DecoratedVolume
    histogram_masks: _containers.RepeatedCompositeFieldContainer[MaskConfig]
    batch_size: int
    concurrent_requests: int
    seed_masks: _containers.RepeatedCompositeFieldContainer[MaskConfig]
    voxel_size: _vector_pb2.Vector3f
    precision: str
    use_ema: bool
    histogram_per_subvolume: bool
    int8_ranges: _containers.RepeatedScalarFieldContainer[float]
    def __init__(
        self,
        image: DecoratedVolume | _Mapping | None = ...,
        image_mean: float | None = ...,
        image_stddev: float | None = ...,
        reference_histogram: str | None = ...,
        masks: _Iterable[MaskConfig | _Mapping] | None = ...,
        shift_mask: DecoratedVolume | _Mapping | None = ...,
        shift_mask_scale: int | None = ...,
        shift_mask_threshold: int | None = ...,
        movement_policy_name: str | None = ...,
        movement_policy_args: str | None = ...,
        model_name: str | None = ...,
        model_args: str | None = ...,
        model_checkpoint_path: str | None = ...,
        inference_options: InferenceOptions | _Mapping | None = ...,
        segmentation_output_dir: str | None = ...,
        checkpoint_interval: int | None = ...,
        seed_policy: str | None = ...,
        seed_policy_args: str | None = ...,
        alignment_options: AlignmentOptions | _Mapping | None = ...,
        shift_mask_fov: _bounding_box_pb2.BoundingBox | _Mapping | None = ...,
        init_segmentation: DecoratedVolume | _Mapping | None = ...,
        histogram_masks: _Iterable[MaskConfig | _Mapping] | None = ...,
        batch_size: int | None = ...,
        concurrent_requests: int | None = ...,
        seed_masks: _Iterable[MaskConfig | _Mapping] | None = ...,
        voxel_size: _vector_pb2.Vector3f | _Mapping | None = ...,
        precision: str | None = ...,
        use_ema: bool | None = ...,
        histogram_per_subvolume: bool | None = ...,
        int8_ranges: _Iterable[float] | None = ...,
    ) -> None: ...

class ResegmentationPoint(_message.Message):
    __slots__ = ('id_a', 'id_b', 'point')
    ID_A_FIELD_NUMBER: _ClassVar[int]
    ID_B_FIELD_NUMBER: _ClassVar[int]
    POINT_FIELD_NUMBER: _ClassVar[int]
    id_a: int
    id_b: int
    point: _vector_pb2.Vector3j
    def __init__(
        self,
        id_a: int | None = ...,
        id_b: int | None = ...,
        point: _vector_pb2.Vector3j | _Mapping | None = ...,
    ) -> None: ...

class ResegmentationRequest(_message.Message):
    __slots__ = (
        'analysis_radius',
        'exclusion_radius',
        'inference',
        'init_exclusion_radius',
        'max_retry_iters',
        'output_directory',
        'points',
        'radius',
        'segment_recovery_fraction',
        'subdir_digits',
        'terminate_early',
    )
    INFERENCE_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    SUBDIR_DIGITS_FIELD_NUMBER: _ClassVar[int]
    MAX_RETRY_ITERS_FIELD_NUMBER: _ClassVar[int]
    EXCLUSION_RADIUS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_RECOVERY_FRACTION_FIELD_NUMBER: _ClassVar[int]
    INIT_EXCLUSION_RADIUS_FIELD_NUMBER: _ClassVar[int]
    TERMINATE_EARLY_FIELD_NUMBER: _ClassVar[int]
    ANALYSIS_RADIUS_FIELD_NUMBER: _ClassVar[int]
    inference: InferenceRequest
    points: _containers.RepeatedCompositeFieldContainer[ResegmentationPoint]
    radius: _vector_pb2.Vector3j
    output_directory: str
    subdir_digits: int
    max_retry_iters: int
    exclusion_radius: _vector_pb2.Vector3j
    segment_recovery_fraction: float
    init_exclusion_radius: _vector_pb2.Vector3j
    terminate_early: bool
    analysis_radius: _vector_pb2.Vector3j
    def __init__(
        self,
        inference: InferenceRequest | _Mapping | None = ...,
        points: _Iterable[ResegmentationPoint | _Mapping] | None = ...,
        radius: _vector_pb2.Vector3j | _Mapping | None = ...,
        output_directory: str | None = ...,
        subdir_digits: int | None = ...,
        max_retry_iters: int | None = ...,
        exclusion_radius: _vector_pb2.Vector3j | _Mapping | None = ...,
        segment_recovery_fraction: float | None = ...,
        init_exclusion_radius: _vector_pb2.Vector3j | _Mapping | None = ...,
        terminate_early: bool | None = ...,
        analysis_radius: _vector_pb2.Vector3j | _Mapping | None = ...,
    ) -> None: ...

class CounterValue(_message.Message):
    __slots__ = ('name', 'value')
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: int
    def __init__(self, name: str | None = ..., value: int | None = ...) -> None: ...

class TaskCounters(_message.Message):
    __slots__ = ('counters', 'filename', 'point')
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    POINT_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    counters: _containers.RepeatedCompositeFieldContainer[CounterValue]
    point: _vector_pb2.Vector3j
    filename: str
    def __init__(
        self,
        counters: _Iterable[CounterValue | _Mapping] | None = ...,
        point: _vector_pb2.Vector3j | _Mapping | None = ...,
        filename: str | None = ...,
    ) -> None: ...
