"""Joins the pieces of a segmentation: candidates → resegmentation → evidence → merge decisions.

Januszewski et al. 2018, Methods, "Agglomeration". Segments that are close to each other become candidate
pairs (`candidates`), both segments of each pair are grown once more around the point where they are closest
(`pairs`, `resegmentation`), the results are scored (`evidence`), and pairs that grow into each other are
joined (`merges`, `joined_volume`). Each step leaves files in the request's output_directory, so that a run
can be resumed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from absl import logging
from google.protobuf import json_format

from ffn.agglomeration import candidates, merges
from ffn.agglomeration.candidates import CandidateSearch
from ffn.agglomeration.config import ResegmentationConfig, to_message
from ffn.agglomeration.evidence import Thresholds
from ffn.agglomeration.merges import MergeDecision
from ffn.agglomeration.pairs import resegment, score
from ffn.distributed.pool import Pool
from ffn.inference import request_identity
from ffn.utils.geometry import Box, Xyz
from ffn.utils.settings import setting
from ffn.volumes import provenance
from ffn.volumes.provenance import read_input_stamp


@dataclasses.dataclass(frozen=True)
class AgglomerationConfig:
    """How candidates are found and when they are joined.

    Attributes:
      box: part of the volume whose segments are joined.
      thresholds: when two segments are joined.
      max_distance: how far segments are dilated, in units of the voxel size.
      block_size: voxels that are searched at a time.
    """

    box: Box
    thresholds: Thresholds
    max_distance: float = setting(
        'how far segments are dilated to find neighbours, in units of voxel_size', metavar='D'
    )
    block_size: Xyz = setting(
        'voxels that are searched at a time',
        default=Xyz(256, 256, 256),
        parse=Xyz.parse,
        metavar='X,Y,Z',
    )


def agglomerate(
    resegmentation: ResegmentationConfig,
    config: AgglomerationConfig,
    pool: Pool,
    quiet: bool = False,
) -> list[MergeDecision]:
    """Finds candidate pairs, resegments them, decides which to join, and writes the tables.

    Args:
      resegmentation: how pairs are resegmented, and where results go.
      config: how candidates are found and when they are joined.
      pool: runs the tasks.
      quiet: no progress bars.

    Returns:
      The decision for every candidate.

    Raises:
      UserError: an invalid request, or a folder with results of other settings.
      SystemExit: stopped by a signal; finished results are kept.
    """
    inference = request_identity.resolve(resegmentation.inference, pool)
    resegmentation = dataclasses.replace(resegmentation, inference=inference)
    directory = resegmentation.output_directory
    directory.mkdir(parents=True, exist_ok=True)
    provenance.claim(directory, _describe_run(resegmentation, config))
    table = directory / 'candidates.csv'
    if not table.exists():
        if inference.voxel_size is None:
            logging.warning(
                'the voxel size is not known: max_distance %g counts voxels, and these are taken as cubes; '
                'set inference.voxel_size in the request',
                config.max_distance,
            )
        z, y, x = inference.voxel_size_zyx
        search = CandidateSearch(
            resegmentation.segmentation,
            config.box,
            (x, y, z),
            config.max_distance,
            config.block_size,
        )
        found = candidates.find_candidates(search, directory / 'candidates', pool, quiet)
        candidates.write_candidates(table, found)
    pairs = candidates.read_candidates(table)
    notes = resegment(resegmentation, pairs, pool, quiet)
    scores = score(resegmentation, [pair for pair in pairs if pair not in notes], pool, quiet)
    decisions = [
        MergeDecision(pair, None, accepted=False, note=notes[pair])
        if pair in notes
        else merges.decide_merge(pair, scores[pair], config.thresholds)
        for pair in pairs
    ]
    merges.write_decisions(directory / 'merges.csv', decisions)
    merges.write_equivalences(directory / 'equivalences.csv', find_equivalences(decisions))
    return decisions


def find_equivalences(decisions: Sequence[MergeDecision]) -> dict[int, int]:
    """Maps every id that is joined with another to the lowest id of its object."""
    accepted = [decision.candidate for decision in decisions if decision.accepted]
    return merges.join_ids([(pair.id_a, pair.id_b) for pair in accepted])


def _describe_run(
    resegmentation: ResegmentationConfig, config: AgglomerationConfig
) -> dict[str, Any]:
    """Returns everything that the results of resegmentation depend on, as plain JSON."""
    request = to_message(resegmentation)
    for name in ('inference', 'output_directory'):
        request.ClearField(name)
    inference = resegmentation.inference
    return {
        'model_sha256': provenance.model_digest(inference.model_checkpoint_path),
        'init_segmentation_made_from': read_input_stamp(resegmentation.segmentation),
        'resegmentation': json_format.MessageToDict(request, preserving_proto_field_name=True),
        'inference': request_identity.result_fields(inference),
        'box': str(config.box),
        'max_distance': config.max_distance,
        'block_size': list(config.block_size),
    }
