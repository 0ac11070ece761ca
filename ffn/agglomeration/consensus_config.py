"""Configuration of a consensus: a ConsensusRequest, checked and frozen.

`make_config` is the edge; nothing behind it sees the message, but for the copy that results store.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import fastremap
import numpy as np

from ffn.inference import consensus_pb2, inference_pb2, storage
from ffn.inference.given_segments import look_up, read_given_ids
from ffn.inference.serialization import absolute_paths
from ffn.inference.storage import OriginInfo
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from ffn.utils.protos import read_text_or_file
from ffn.utils.texts import check_folder
from ffn.volumes.masks import Mask


@dataclass(frozen=True)
class SegmentationSource:
    """The subvolumes of a segmentation, and how they are loaded.

    Attributes:
      directory: the segmentation's folder.
      threshold: voxels whose stored probability is lower become background; None: none do.
      split_cc: whether every 6-connected component gets an id of its own.
      min_size: segments with fewer voxels become background.
      masks: their voxels become background.
    """

    directory: str
    threshold: float | None
    split_cc: bool
    min_size: int
    masks: tuple[Mask, ...]

    @classmethod
    def from_proto(cls, source: inference_pb2.SegmentationSource) -> SegmentationSource:
        """Reads a SegmentationSource message."""
        return cls(
            source.directory,
            source.threshold if source.HasField('threshold') else None,
            source.split_cc,
            source.min_size,
            tuple(map(Mask.from_proto, source.mask.masks)),
        )

    def load(self, corner_zyx: Sequence[int]) -> tuple[np.ndarray, dict[int, OriginInfo]]:
        """Loads a subvolume; see `ffn.inference.storage.load_segmentation`.

        Returns:
          uint64 [z, y, x] labels and {id: OriginInfo}.
        """
        return storage.load_segmentation(
            self.directory,
            corner_zyx,
            threshold=self.threshold,
            split_cc=self.split_cc,
            min_size=self.min_size,
            mask_config=self.masks,
        )

    def load_given_ids(self, corner_zyx: Sequence[int], labels: np.ndarray) -> np.ndarray:
        """What the first ids of a subvolume, from 0, are called in init_segmentation.

        Args:
          corner_zyx: first voxel of the subvolume.
          labels: uint64 [z, y, x] of `load`; every component of an object is called what the object is.

        Returns:
          uint64 [n], 0 for ids that were not there; empty without init_segmentation.
        """
        path = self.path(corner_zyx)
        given = read_given_ids(path)
        if not (self.split_cc and len(given)):
            return given
        whole = storage.read_labels(path).astype(np.uint64)
        object_of = fastremap.component_map(labels, whole)
        parts = np.array([part for part in object_of if part], np.int64)
        found = np.zeros(int(parts.max(initial=0)) + 1, np.uint64)
        ids = np.array([object_of[part] for part in parts.tolist()], np.uint64)
        found[parts] = look_up(given, ids)
        return found

    def path(self, corner_zyx: Sequence[int]) -> Path:
        """File of a subvolume.

        Raises:
          UserError: there is none.
        """
        path = storage.existing_path(self.directory, corner_zyx, 'npz')
        if path is None:
            raise UserError(f'{self.directory} lacks {Zyx.of(corner_zyx).xyz}')
        return path


@dataclass(frozen=True)
class ConsensusConfig:
    """Two segmentations that are split wherever one of them is.

    Attributes:
      segmentation1: its ids are kept where objects are not split.
      segmentation2: the other one, usually the first repeated in reverse order.
      segmentation_output_dir: folder of the result.
      split_min_size: parts with fewer voxels become background.
      request: the message, serialized, which results store.
    """

    segmentation1: SegmentationSource
    segmentation2: SegmentationSource
    segmentation_output_dir: str
    split_min_size: int
    request: bytes = field(repr=False)

    @property
    def sources(self) -> dict[str, SegmentationSource]:
        """Both segmentations, by the name of their field."""
        return {'segmentation1': self.segmentation1, 'segmentation2': self.segmentation2}


def read_config(text_or_path: str) -> ConsensusConfig:
    """Reads a ConsensusRequest in text format; its paths become absolute.

    Raises:
      UserError: it cannot be parsed, or is incomplete.
    """
    request = read_text_or_file(
        text_or_path, consensus_pb2.ConsensusRequest(), '--consensus_request'
    )
    return make_config(request)


def make_config(request: consensus_pb2.ConsensusRequest) -> ConsensusConfig:
    """Checks a request and freezes it, with absolute paths.

    Args:
      request: left unchanged.

    Raises:
      UserError: names the field.
    """
    stored = consensus_pb2.ConsensusRequest.FromString(request.SerializeToString())
    absolute_paths(stored)
    config = ConsensusConfig(
        SegmentationSource.from_proto(stored.segmentation1),
        SegmentationSource.from_proto(stored.segmentation2),
        stored.segmentation_output_dir,
        stored.split_min_size,
        stored.SerializeToString(),
    )
    for name, source in config.sources.items():
        if not source.directory:
            raise UserError(f'the consensus request does not set {name}.directory')
        if source.threshold is not None and not 0 <= source.threshold <= 1:
            raise UserError(
                f'{name}.threshold is {source.threshold:g}; expected a probability from 0 to 1'
            )
        if source.min_size < 0:
            raise UserError(f'{name}.min_size is {source.min_size}; expected 0 or more voxels')
    first, second = (source.directory for source in config.sources.values())
    if os.path.realpath(first) == os.path.realpath(second):
        raise UserError(f'segmentation1 and segmentation2 are both {first}; expected two')
    if not config.segmentation_output_dir:
        raise UserError('the consensus request does not set segmentation_output_dir')
    check_folder(config.segmentation_output_dir, 'segmentation_output_dir')
    if config.split_min_size < 0:
        raise UserError(f'split_min_size is {config.split_min_size}; expected 0 or more')
    return config
