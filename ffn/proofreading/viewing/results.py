"""Folders that commands leave, as layers: results of inference, assemblies, agglomerations."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging
from google.protobuf import json_format

from ffn.agglomeration.joined_volume import RECORD
from ffn.evaluation.joined_results import SUBVOLUME_IDS
from ffn.inference import inference_pb2, storage
from ffn.inference.request_identity import read_request
from ffn.proofreading.viewing.annotations import Annotations, Property, read_table
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.npz import read_npz
from ffn.volumes.provenance import MANIFEST, read_claim, recorded_outputs
from ffn.volumes.volume import Volume, VolumeSource

MERGES, CANDIDATES = 'merges.csv', 'candidates.csv'
# Results whose seeds are read at first: each is a file.
_SEEDED = 2000
_KEPT_IN_MEMORY = 4


@dataclass(frozen=True)
class Inputs:
    """What a run was made from.

    Attributes:
      image: the image; None if it is not known, or may not be opened.
      labels: labels that it began with, likewise.
    """

    image: VolumeSource | None = None
    labels: VolumeSource | None = None

    @classmethod
    def of(cls, request: inference_pb2.InferenceRequest | None) -> Inputs:
        """Reads a request."""
        if request is None:
            return cls()
        return cls(*(_source(request, name) for name in ('image', 'init_segmentation')))


def _source(request: inference_pb2.InferenceRequest, field: str) -> VolumeSource | None:
    if not request.HasField(field):
        return None
    try:
        return VolumeSource.from_proto(getattr(request, field), field)
    except UserError as error:
        logging.warning('not shown: %s', error)
        return None


def inputs_of_results(results: list[Path]) -> Inputs:
    """What results of inference were made from, as the request in the first one says."""
    return Inputs.of(read_request(results[0]))


def is_agglomeration(folder: Path) -> bool:
    """Whether `ffn agglomerate` wrote to a folder."""
    return (folder / MERGES).is_file() or (folder / CANDIDATES).is_file()


def inputs_of_agglomeration(folder: Path) -> Inputs:
    """What an agglomeration was made from.

    Raises:
      UserError: its record is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        return Inputs()
    fields = read_claim(path).get('inference', {})
    try:
        request = json_format.ParseDict(fields, inference_pb2.InferenceRequest())
    except (json_format.ParseError, AttributeError, TypeError) as error:
        raise UserError(f'{path} is damaged: it holds no request') from error
    return Inputs.of(request)


def joined_volumes(folder: Path) -> list[str]:
    """The volumes of joined objects that `ffn agglomerate` wrote.

    Raises:
      UserError: their record is damaged.
    """
    return recorded_outputs(folder / RECORD)


def read_decisions(folder: Path) -> tuple[str, Annotations]:
    """The merges of an agglomeration, or, before there are any, its decision points; with what they are."""
    for name in (MERGES, CANDIDATES):
        if (folder / name).is_file():
            return Path(name).stem, read_table(folder / name)
    raise UserError(f'{folder} holds neither {MERGES} nor {CANDIDATES}')


def assembled_volume(folder: Path) -> str | None:
    """The volume that `ffn assemble` or `ffn segment` wrote; None if a folder holds no assembly.

    Args:
      folder: of the assembly, or that of the subvolumes.

    Raises:
      UserError: the record of the assembly is damaged.
    """
    for place in (folder / 'assembly', folder):
        if (place / 'statistics.json').is_file() and (place / MANIFEST).is_file():
            output = read_claim(place / MANIFEST).get('output')
            if isinstance(output, str):
                return output
    return None


def read_seeds(results: list[Path]) -> Annotations | None:
    """Where the objects of results were seeded; None if there are too many results.

    Raises:
      UserError: a result that is damaged.
    """
    if len(results) > _SEEDED:
        logging.info(
            'the seeds of %d results are not shown, only those of up to %d', len(results), _SEEDED
        )
        return None
    points, ids, steps = [], [], []
    for number, path in enumerate(results):
        corner = storage.corner_of(path) or Zyx(0, 0, 0)
        origins = storage.read_origins(path)
        points += [np.add(one.start_zyx, corner)[::-1] + 0.5 for one in origins.values()]
        ids += [[int(id_) + number * SUBVOLUME_IDS] for id_ in origins]
        steps += [one.iters for one in origins.values()]
    return Annotations(
        np.array(points, np.float64).reshape(-1, 3),
        {'segments': ids},
        (Property('steps', np.array(steps, np.float32)),),
    )


def open_probabilities(name: str, results: list[Path]) -> Volume | None:
    """Opens the probabilities beside results as one volume, uint8; None if there are none.

    Args:
      name: what messages call it.
      results: see `ffn.evaluation.sources.find_results`.
    """
    found = [p for p in (r.with_suffix('.prob') for r in results) if p.is_file()]
    if not found:
        return None
    boxes = [
        Box.from_zyx(
            storage.corner_of(path.with_suffix('.npz')) or (0, 0, 0),
            storage.segmentation_shape(path.with_suffix('.npz')),
        )
        for path in found
    ]
    array = _Probabilities(found, boxes)
    return Volume(name, array, {}, array.box.start.zyx, origin_from='their names')


class _Probabilities:
    """Files of probabilities as one array; where they overlap, the first one counts."""

    dtype = np.dtype(np.uint8)

    def __init__(self, paths: list[Path], boxes: list[Box]):
        start = Xyz(*(min(b.start[i] for b in boxes) for i in range(3)))
        end = (max(b.end[i] for b in boxes) for i in range(3))
        self.box = Box(start, Xyz(*(b - a for a, b in zip(start, end, strict=True))))
        self.shape = tuple(self.box.size.zyx)
        self._paths, self._boxes = paths, [b.relative_to(start) for b in boxes]
        self._read = functools.lru_cache(_KEPT_IN_MEMORY)(self._load)

    def _load(self, number: int) -> np.ndarray:
        shape = self._boxes[number].size.zyx
        values = read_npz(
            self._paths[number], ['qprob'], [], shape, 'remove it to see the rest'
        ).get('qprob')
        if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype != np.uint8:
            raise UserError(f'{self._paths[number]} holds no probabilities of shape {shape}')
        return values

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        wanted = Box.from_zyx([s.start for s in index], [s.stop - s.start for s in index])
        joined = np.zeros(wanted.size.zyx, np.uint8)
        for number in reversed(range(len(self._boxes))):
            part = wanted.intersection(self._boxes[number])
            if part is not None:
                piece = self._read(number)[part.relative_to(self._boxes[number].start).slices_zyx]
                joined[part.relative_to(wanted.start).slices_zyx] = piece
        return joined
