"""Inference requests: reading, checking, and the options of a canvas made from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ffn.inference import inference_pb2
from ffn.utils import bounding_box_pb2, protos
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx, both_orders
from ffn.utils.logits import logit

_NEEDED = ('image', 'image_mean', 'image_stddev', 'model_name', 'model_checkpoint_path',
           'inference_options')  # fmt: skip
_NEEDED_OPTIONS = ('init_activation', 'pad_value', 'move_threshold', 'segment_threshold')


ZERO = Xyz(0, 0, 0)


@dataclass(frozen=True)
class CanvasOptions:
    """How objects grow; thresholds are logits.

    Attributes:
      init_activation: value of the starting voxel.
      pad_value: what the network sees where no field of view has been.
      move_threshold: least value of a voxel to move to.
      segment_threshold: least value of a voxel of the object.
      disco_seed_threshold: fraction of the field of view, see the request; negative is off.
      min_boundary_dist: least distance of a seed from a segment.
      min_segment_size: voxels.
    """

    init_activation: float
    pad_value: float
    move_threshold: float
    segment_threshold: float
    disco_seed_threshold: float = -1.0
    min_boundary_dist: Xyz = ZERO
    min_segment_size: int = 0

    @classmethod
    def from_proto(cls, options: inference_pb2.InferenceOptions) -> CanvasOptions:
        """Converts the probabilities of a request.

        Raises:
          UserError: a field that is missing, or no probability.
        """
        return cls(
            *(_logit_field(options, name) for name in _NEEDED_OPTIONS),
            disco_seed_threshold=options.disco_seed_threshold,
            min_boundary_dist=Xyz.from_proto(options.min_boundary_dist),
            min_segment_size=options.min_segment_size,
        )


def _logit_field(options: inference_pb2.InferenceOptions, name: str) -> float:
    if not options.HasField(name):
        raise UserError(f'inference_options.{name} is not set; it is needed, as a probability')
    value = getattr(options, name)
    if not 0 < value < 1:
        raise UserError(
            f'inference_options.{name} is {value:g}; expected a probability between 0 and 1'
        )
    return logit(value)


def read_request(text_or_path: str, options: str = '') -> inference_pb2.InferenceRequest:
    """Reads an InferenceRequest in text format.

    Args:
      text_or_path: the text, or the path of a file with it.
      options: InferenceOptions in text format (or a path) whose fields override the request's.

    Raises:
      UserError: it cannot be parsed, or is incomplete.
    """
    request = _read(text_or_path, inference_pb2.InferenceRequest(), '--inference_request')
    if options:
        _read(options, request.inference_options, '--inference_options')
    check_request(request)
    return request


def read_box(text_or_path: str) -> Box:
    """Reads a BoundingBox in text format.

    Raises:
      UserError: it cannot be parsed, or has no positive size.
    """
    proto = _read(text_or_path, bounding_box_pb2.BoundingBox(), '--bounding_box')
    if not proto.HasField('start') or not proto.HasField('size'):
        raise UserError(
            f'--bounding_box {text_or_path!r} must have start and size, such as '
            "'start { x:0 y:0 z:0 } size { x:100 y:100 z:100 }'"
        )
    box = Box.from_proto(proto)
    if box.empty:
        raise UserError(f'--bounding_box has size {both_orders(box.size)}; expected positive sizes')
    return box


def _read(text_or_path: str, into, what: str):
    # Text format always has a ':' or a '{' in it; a path rarely has, and then it exists.
    if _is_file(text_or_path) or not set(':{<') & set(text_or_path):
        return protos.read_text(text_or_path, into)
    return protos.parse_text(text_or_path, into, what)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than a path can be
        return False


def check_request(request: inference_pb2.InferenceRequest) -> None:
    """Checks that a request has all that inference needs and nothing that it cannot do.

    Raises:
      UserError: names the field.
    """
    for name in _NEEDED:
        if not request.HasField(name):
            raise UserError(f'the inference request does not set {name}, which is needed')
    CanvasOptions.from_proto(request.inference_options)
    if not request.image_stddev > 0:
        raise UserError(f'image_stddev is {request.image_stddev:g}; expected a positive number')
    alignment = request.alignment_options
    if alignment.type != inference_pb2.AlignmentOptions.NO_ALIGNMENT or alignment.save_raw:
        raise UserError(
            'alignment_options asks for an alignment, which is not supported; use NO_ALIGNMENT '
            'without save_raw and align the volume beforehand'
        )
    for name in ('batch_size', 'concurrent_requests'):
        if getattr(request, name) < 1:
            raise UserError(f'{name} is {getattr(request, name)}; expected 1 or more')
    if request.HasField('shift_mask'):
        for name in ('shift_mask_scale', 'shift_mask_threshold'):
            if getattr(request, name) < 1:
                raise UserError(
                    f'{name} is {getattr(request, name)}; a shift_mask needs it, 1 or more'
                )


def clip_box(box: Box, volume: Box, fov: Xyz, name: str) -> tuple[Box, bool]:
    """Clips a subvolume to its volume.

    Args:
      box: what is asked for.
      volume: what there is.
      fov: field of view of the model.
      name: the volume, for errors.

    Returns:
      The part of the box inside the volume, and whether that is less than the box.

    Raises:
      UserError: the box is outside, or what is left is smaller than the field of view.
    """
    clipped = box.intersection(volume)
    if clipped is None:
        raise UserError(f'box {box} lies outside {name}, which covers {volume}')
    if any(n < f for n, f in zip(clipped.size, fov, strict=True)):
        raise UserError(
            f'subvolume size {both_orders(clipped.size)} is smaller than the field of view '
            f'{both_orders(fov)}; choose a larger box'
        )
    return clipped, clipped != box


def margin_of(fov: Xyz) -> Zyx:
    """Half the field of view: how near to the border of a subvolume it may be centred."""
    return Zyx(*(n // 2 for n in fov.zyx))
