"""What the result of a trial depends on besides its request, as digests: contents behind names that stay the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffn.evaluation.swc import read_swc
from ffn.inference import inference_pb2
from ffn.inference.core.restrictor import coarse_box
from ffn.inference.input_identity import earlier_runs, named_volumes
from ffn.inference.storage import corner_of, subvolume_files
from ffn.models.checkpoints import resolve_checkpoint
from ffn.models.saved_settings import read_settings
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.plugins import json_args
from ffn.volumes.provenance import model_digest, open_complete
from ffn.volumes.volume import Volume, VolumeSource

# Where a position avoids shifts if the request leaves that to the field of view, which is smaller.
_AROUND = Box(Xyz(-128, -128, -128), Xyz(257, 257, 257))


def truth_digest(labels: str, box: Box, skeletons: Sequence[str]) -> str:
    """SHA-256 of the ground truth in a box and of skeletons, which are read here so that what is wrong is told at once.

    Args:
      labels: the volume, 'path:dataset'.
      box: clipped to it.
      skeletons: SWC files.

    Raises:
      UserError: one cannot be read, or is not complete.
    """
    hashed = hashlib.sha256()
    with open_complete(labels) as volume:
        part = box.intersection(volume.box)
        if part is not None:
            hashed.update(np.ascontiguousarray(volume.read(part)).data)
    for path in skeletons:
        read_swc(Path(path))
        hashed.update(Path(path).read_bytes())
    return hashed.hexdigest()


def weights_digest(checkpoint: str) -> str:
    """SHA-256 of weights and of the settings of their training, which complete a request; '' where there are none.

    Args:
      checkpoint: as in `model_checkpoint_path` of a request.
    """
    try:
        path = resolve_checkpoint(checkpoint)
        settings = json.dumps(read_settings(path), sort_keys=True)
        return hashlib.sha256((model_digest(path) + settings).encode()).hexdigest()
    except UserError:  # told by the trial
        return ''


def input_digests(requests: Iterable[inference_pb2.InferenceRequest], box: Box) -> list[str]:
    """SHA-256 of what each request reads in a box: image, masks, init_segmentation, seeds of an earlier run.

    What several share is read once.

    Args:
      requests: need not be complete.
      box: clipped to each volume.

    Returns:
      One digest each; '' for volumes that cannot be read, which the trial tells.
    """
    known: dict[tuple[Any, ...], str] = {}
    digests = []
    for request in requests:
        try:
            inputs = tuple(_inputs(request, box)), tuple(_files(request, box))
            if inputs not in known:
                known[inputs] = _digest(*inputs)
            digests.append(known[inputs])
        except (UserError, OSError):
            digests.append('')
    return digests


def _inputs(
    request: inference_pb2.InferenceRequest, box: Box
) -> Iterator[tuple[VolumeSource, Box]]:
    """Volumes, and what of each is read."""
    for name, source in named_volumes(request):
        yield source, _shifts_box(request, box) if name == 'shift_mask' else box


def _shifts_box(request: inference_pb2.InferenceRequest, box: Box) -> Box:
    """What is read of a shift mask, in its voxels."""
    around = (
        Box.from_proto(request.shift_mask_fov) if request.HasField('shift_mask_fov') else _AROUND
    )
    start = Xyz(*map(sum, zip(box.start, around.start, strict=True)))
    reach = Box(start, Xyz(*map(sum, zip(box.size, around.size, strict=True))))
    return coarse_box(reach, request.shift_mask_scale)


def _files(request: inference_pb2.InferenceRequest, box: Box) -> Iterator[Path]:
    """Files that are read as a whole: the histogram, and results of an earlier run that begin in the box."""
    if request.reference_histogram:
        yield Path(request.reference_histogram)
    for folder in earlier_runs(json_args(request.seed_policy_args, 'seed_policy_args')):
        for path in sorted(subvolume_files(folder)):
            corner = corner_of(path)
            if corner is not None and box.contains(Box(corner.xyz, Xyz(1, 1, 1))):
                yield path


def _digest(inputs: Iterable[tuple[VolumeSource, Box]], files: Iterable[Path]) -> str:
    hashed = hashlib.sha256()
    for source, box in inputs:
        with source.open() as volume:
            hashed.update(_content(volume, box))
    for path in files:
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def _content(volume: Volume, box: Box) -> bytes:
    part = box.intersection(volume.box)
    if part is None:
        return b''
    data = np.ascontiguousarray(volume.read(part))
    return f'{part} {data.dtype.str} {data.shape}'.encode() + hashlib.sha256(data.data).digest()
