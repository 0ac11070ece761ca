"""Reading the segmented subvolumes of a tiling."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffn.assembly.tiling import Tiling
from ffn.inference import storage
from ffn.inference.given_segments import read_given_ids
from ffn.inference.request_identity import read_stored
from ffn.utils.arrays import native
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.labels import clear_unlabelled
from ffn.utils.npz import DAMAGES, read_npy_header, read_npz
from ffn.utils.texts import parse_object
from ffn.volumes import provenance

# Where fewer of the sections are read, each is checked by itself.
_MANY_SECTIONS = 0.75
_CRCS, _REST = 'section_crcs', 1 << 20


class MadeWith(NamedTuple):
    """What a subvolume was made with, as far as it says.

    Attributes:
      request: serialized; empty where it is not stored.
      inputs: what image, network and so on were known by.
    """

    request: bytes
    inputs: dict[str, Any]


class Subvolumes:
    """Reads subvolumes; keeps the one that was read last in memory.

    Attributes:
      directory: the segmentation's folder.
      tiling: where they are.
      unlabelled: places of those in which voxels with a label that means 'not labelled' were read.
    """

    def __init__(self, directory: str | Path, tiling: Tiling):
        self.directory, self.tiling = Path(directory), tiling
        self.unlabelled: set[Xyz] = set()
        self._last: tuple[Xyz, np.ndarray] | None = None

    def path(self, place: Xyz) -> Path:
        """File of a subvolume.

        Raises:
          UserError: there is none.
        """
        corner = self.tiling.corner_zyx(place)
        path = storage.existing_path(self.directory, corner, 'npz')
        if path is None:
            expected = storage.subvolume_path(self.directory, corner, 'npz')
            raise UserError(f'the subvolume at {corner.xyz} is missing: no {expected}')
        return path

    def crcs(self, place: Xyz) -> dict[str, int]:
        """Checksums of the members of a subvolume, such as segmentation and request; see `ffn.volumes.provenance`."""
        return provenance.member_crcs(self.path(place))

    def read(self, place: Xyz) -> np.ndarray:
        """Labels of a subvolume, [z, y, x] of any integer type, background is 0 or less.

        Raises:
          UserError: missing, damaged, or of another shape.
        """
        if self._last is None or self._last[0] != place:
            self._last = None  # one at a time
            self._last = place, self._read(place, self.tiling.subvolume(place).size.z)
        return self._last[1]

    def read_box(self, place: Xyz, box: Box) -> np.ndarray:
        """Labels of a box within a subvolume; see `read`. The subvolume is not kept in memory."""
        whole = self.tiling.subvolume(place)
        index = box.relative_to(whole.start).slices_zyx
        if self._last is not None and self._last[0] == place:
            return self._last[1][index]
        return self._read(place, index[0].stop)[index]

    def _read(self, place: Xyz, sections: int) -> np.ndarray:
        """Reads the first sections of a subvolume; few others are decompressed, for the checksum."""
        path, shape = self.path(place), self.tiling.subvolume(place).size.zyx
        try:
            with zipfile.ZipFile(path) as archive, archive.open('segmentation.npy') as file:
                stored, fortran, dtype = read_npy_header(file)
                if len(stored) != 3 or dtype.kind not in 'iu':
                    raise UserError(f'{path} holds {dtype} of shape {stored}; expected 3-d labels')
                if stored != shape:
                    raise UserError(
                        f'{path} has shape {Zyx.of(stored)}; the subvolume there has {shape}: it was '
                        'made with another bounding box, subvolume size or overlap'
                    )
                count = math.prod(shape if fortran else (sections, *shape[1:]))
                labels = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
                labels = (
                    labels.reshape(shape[::-1]).T if fortran else labels.reshape(-1, *shape[1:])
                )
                crcs = None
                if len(labels) < _MANY_SECTIONS * shape[0]:
                    crcs = read_npz(path, [_CRCS], [], shape, provenance.SEGMENT_AGAIN).get(_CRCS)
                if crcs is None:
                    while file.read(_REST):  # the archive's checksum is that of the whole member
                        pass
                elif (storage.section_crcs(labels) != crcs[: len(labels)]).any():
                    raise ValueError('the checksum of a section does not fit')
                labels = native(labels)
                known = clear_unlabelled(labels)
                if known is not labels:
                    self.unlabelled.add(place)
                return known
        except DAMAGES as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f'{path} is damaged ({error}); {provenance.SEGMENT_AGAIN}') from error

    def given_ids(self, place: Xyz) -> np.ndarray:
        """What the first ids of a subvolume, from 0, are called in init_segmentation: uint64 [n]; empty without one."""
        return read_given_ids(self.path(place))

    def made_with(self, place: Xyz) -> MadeWith:
        """What a subvolume says that it was made with."""
        path = self.path(place)
        stored = read_stored(path)
        return MadeWith(stored.request, parse_object(stored.inputs, f'inputs of {path}'))
