"""Objects that were accepted one by one, on disk.

Each is a file of its own, `seg-X_Y_Z.objects/ID.npz` beside the result `seg-X_Y_Z.npz`, and is complete before
accepting it returns: a file of some kilobytes is written in milliseconds, where the result of a large box takes
seconds. These files are what counts; the result is written from time to time, and made again from them where a
session was killed before that. doc/formats.md lists their members.
"""

from __future__ import annotations

import json
import math
import operator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from scipy.special import expit

from ffn.inference import inference_pb2, storage
from ffn.inference.core.canvas import Extent
from ffn.inference.core.steering import SteeredCanvas
from ffn.inference.request_meaning import settings_of
from ffn.inference.storage import OriginInfo
from ffn.utils.errors import UserError, damage_told
from ffn.utils.geometry import Box, Zyx
from ffn.utils.locks import one_writer
from ffn.utils.npz import bytes_member, read_npz, stored_bytes

# Arrays are in z, y, x order.
_ADVICE = 'remove it to go on without this object'
_MEMBERS = (
    'box',  # 2 × 3: first voxel within the subvolume, and size, of the box in which the object is
    'mask',  # packed bits: which voxels of the box are the object
    'qprob',  # quantized probabilities of these voxels
    'origin',  # z, y, x, network steps
    'seconds',
    'overlaps',  # as in the result: the objects that it ran into
    'thresholds',  # move_threshold and segment_threshold in the end
    'request',  # of the session
)
# What must be the same in all sessions on one box.
_FIELDS = ('image', 'init_segmentation')


class AcceptedObjects:
    """The accepted objects of one subvolume on disk.

    Attributes:
      folder: holds a file for each.
      result: the result that is written from time to time.
    """

    def __init__(self, directory: Path, canvas: SteeredCanvas, request: bytes):
        """Names the files; nothing is read or written.

        Args:
          directory: the segmentation's folder.
          canvas: on which the objects grow, new.
          request: of the session, serialized as results store it.
        """
        self._directory, self._corner = directory, canvas.corner_zyx
        self._request = request
        self.result = storage.subvolume_path(directory, canvas.corner_zyx, 'npz')
        self.folder = self.result.with_suffix('.objects')

    def check_new(self) -> None:
        """Checks that there is no result, unless the folder of objects says that it is of such sessions.

        Raises:
          UserError: there is one of another command.
        """
        there = storage.existing_path(self._directory, self._corner, 'npz')
        if there is not None and not self.folder.exists():
            raise UserError(
                f'{there} is the result of another command and stays as it is; choose another folder, and name '
                'this one as init_segmentation to seed what it lacks'
            )

    def save(self, canvas: SteeredCanvas, segment: int) -> None:
        """Writes a segment of the canvas.

        Args:
          canvas: where it is.
          segment: its id.

        Raises:
          OSError: it cannot be written; nothing is.
        """
        extent, origin, options = canvas.extents[segment], canvas.origins[segment], canvas.options
        mask = canvas.segmentation[extent] == segment
        storage.save_npz(
            self._path(segment),
            box=np.array([[s.start, n] for s, n in zip(extent, mask.shape, strict=True)]).T,
            mask=np.packbits(mask),
            qprob=canvas.seg_prob[extent][mask],
            origin=np.array([*origin.start_zyx, origin.iters]),
            seconds=np.float64(origin.walltime_sec),
            overlaps=canvas.overlaps[segment],
            thresholds=expit([options.move_threshold, options.segment_threshold]),
            request=bytes_member(self._request),
        )

    def remove(self, segment: int) -> None:
        """Removes the file of a segment."""
        self._path(segment).unlink()

    def restore(self, canvas: SteeredCanvas) -> bool:
        """Puts the objects of earlier sessions on a new canvas.

        Returns:
          Whether the result is of this box, and has them all, and no others.

        Raises:
          UserError: a file that is damaged, of another volume, or of an object that this box is too small for.
        """
        paths = {int(path.stem): path for path in self.folder.glob('*.npz') if path.stem.isdigit()}
        for segment, path in sorted(paths.items()):
            self._restore(canvas, segment, path)
        return not paths if not self.result.exists() else self._compare(canvas)

    def _compare(self, canvas: SteeredCanvas) -> bool:
        """Compares the result with the objects, and goes on with its counters."""
        try:
            data = read_npz(self.result, ['counters', 'origins'], [OriginInfo], canvas.shape)
            with damage_told(self.result, 'it is made again'):
                counters = {str(k): int(v) for k, v in json.loads(data['counters'].item()).items()}
                same = bool(data['origins'] == canvas.origins)
                same &= storage.segmentation_shape(self.result) == canvas.shape
        except UserError as error:
            logging.warning('%s; it is made again from %s', error, self.folder)
            return False
        canvas.counters.merge(counters)
        return same

    def _restore(self, canvas: SteeredCanvas, segment: int, path: Path) -> None:
        with damage_told(path, _ADVICE):
            _, end = _bounds(read_npz(path, ['box'], [], (), _ADVICE)['box'])
        if any(last > n for last, n in zip(end, canvas.shape, strict=True)):
            raise UserError(
                f'object {segment}, {path}, was accepted in a larger box than one of size {canvas.shape.xyz}; '
                'give that box, or another folder'
            )
        data = read_npz(path, _MEMBERS, [], canvas.shape, _ADVICE)
        with damage_told(path, _ADVICE):
            self._check_request(stored_bytes(data['request'], path), path)
            extent = _extent(data['box'], canvas)
            shape = canvas.segmentation[extent].shape
            mask = np.unpackbits(data['mask'], count=math.prod(shape)).astype(bool).reshape(shape)
            *start, iters = map(operator.index, data['origin'])
            origin = OriginInfo(Zyx.of(start)[:3], iters, float(data['seconds']))
            if any(not 0 <= p < n for p, n in zip(start, canvas.shape, strict=True)) or iters < 0:
                raise ValueError(f'origin is {data["origin"]}')
            qprob, overlaps = data['qprob'], data['overlaps']
            size = np.count_nonzero(mask)
            if not size or qprob.shape != (size,) or qprob.dtype != np.uint8:
                raise ValueError(f'qprob is {qprob.dtype} of shape {qprob.shape} for {size} voxels')
            if overlaps.dtype != np.int64 or overlaps.ndim != 2 or len(overlaps) != 2:
                raise ValueError(f'overlaps is {overlaps.dtype} of shape {overlaps.shape}')
        if segment <= canvas.prefilled or np.any(canvas.segmentation[extent][mask]):
            raise UserError(
                f'object {segment}, {path}, lies where another one is: init_segmentation has changed since it was '
                'accepted; choose another folder'
            )
        canvas.segmentation[extent][mask] = segment
        canvas.seg_prob[extent][mask] = qprob
        canvas.origins[segment] = origin
        canvas.overlaps[segment] = overlaps
        canvas.extents[segment] = extent

    def _check_request(self, stored: bytes, path: Path) -> None:
        theirs, ours = (
            settings_of(inference_pb2.InferenceRequest.FromString(request))
            for request in (stored, self._request)
        )
        for name in _FIELDS:
            if theirs.get(name) != ours.get(name):
                raise UserError(
                    f'{path} was accepted with {name} {theirs.get(name)}, now it is {ours.get(name)}; '
                    'choose another folder'
                )

    def write_result(self, **members: Any) -> None:
        """Writes the result; see `ffn.inference.storage.save_result` for the other arguments."""
        with one_writer(self.result):
            storage.save_result(self._directory, self._corner, request=self._request, **members)

    def _path(self, segment: int) -> Path:
        return self.folder / f'{segment:06d}.npz'


def _bounds(box: np.ndarray) -> np.ndarray:
    """First voxel and end of a stored box, int [2, 3], z, y, x."""
    start, size = np.asarray(box).astype(int, casting='safe')
    return np.array([start, start + size])


def _extent(box: np.ndarray, canvas: SteeredCanvas) -> Extent:
    start, end = _bounds(box)
    inside = Box.from_zyx(start.tolist(), (end - start).tolist())
    if inside.empty or not Box.of_shape(canvas.shape).contains(inside):
        raise ValueError(f'box {inside} is not in {tuple(canvas.shape)}')
    return inside.slices_zyx
