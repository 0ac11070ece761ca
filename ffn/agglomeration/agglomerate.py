"""Joins the pieces of a segmentation: candidates → resegmentation → evidence → merge decisions.

Januszewski et al. 2018, Methods, "Agglomeration". Segments that are close to each other become candidate
pairs (`candidates`), both segments of each pair are grown once more around the point where they are closest
(`pairs`, `resegmentation`), the results are scored (`evidence`), and pairs that grow into each other are
joined (`merges`, `joined_volume`). Each step leaves files in the request's output_directory, so that a run
can be resumed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from absl import logging
from google.protobuf import json_format

from ffn.agglomeration import candidates, merges
from ffn.agglomeration.candidates import Candidate, CandidateSearch
from ffn.agglomeration.config import ResegmentationConfig, to_message
from ffn.agglomeration.decisions import (
    Summary,
    decide_by_model,
    decide_by_thresholds,
    warn_of_differences,
)
from ffn.agglomeration.evidence import Thresholds
from ffn.agglomeration.evidence_table import EvidenceTable
from ffn.agglomeration.examples import Pair, read_examples, resolve_examples
from ffn.agglomeration.features import VERSION
from ffn.agglomeration.fitting import fit
from ffn.agglomeration.joins import JoinRules, Segments, measure_segments
from ffn.agglomeration.merge_model import MergeModel, read_model, write_model
from ffn.agglomeration.overlaps import check_covers, count_overlaps
from ffn.agglomeration.pairs import resegment
from ffn.agglomeration.truth import FitConfig, find_owners, known_pairs
from ffn.distributed.pool import Pool
from ffn.inference import request_identity
from ffn.inference.input_identity import claim, identify
from ffn.inference.worker_network import resolve
from ffn.utils.atomic import make_folder
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.settings import first_given, section, setting
from ffn.volumes import provenance
from ffn.volumes.provenance import read_input_stamp

# Name of the fit in the output_directory.
FIT = 'fit.json'
# Fields of the request of inference that evidence depends on, in any volume.
_OF_EVIDENCE = (
    'inference_options', 'image_mean', 'image_stddev', 'movement_policy_name', 'movement_policy_args', 'precision',
    'use_ema',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class AgglomerationConfig:
    """How candidates are found and when they are joined.

    Attributes:
      box: part of the volume whose segments are joined.
      thresholds: when two segments are joined.
      max_distance: how far segments are dilated, in units of the voxel size.
      block_size: voxels that are searched at a time.
      fit: what a classifier is fitted to, if anything.
      model: path of a fit by which is decided; '': thresholds decide.
      rules: what may be joined with a fit.
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
    fit: FitConfig = section('Fitting', default_factory=FitConfig)
    model: str = setting(
        'decide by this fit, which --fit has written, instead of thresholds',
        default='',
        metavar='FIT.json',
    )
    rules: JoinRules = section('What is joined with a fit', default_factory=JoinRules)

    def __post_init__(self) -> None:
        if not 0 < self.max_distance < math.inf:
            raise UserError(f'max_distance is {self.max_distance:g}; expected a positive number')
        if min(self.block_size) < 1:
            raise UserError(f'block_size is {self.block_size}; expected 1 or more')
        if self.model and (given := first_given(self.thresholds)):
            raise UserError(
                f'--{given} does nothing with --model, by which is decided: leave it out'
            )
        if not self.model and (given := first_given(self.rules)):
            raise UserError(
                f'--{given} does nothing without --model, as thresholds decide, also in a run with --fit: leave it out'
            )


class Agglomeration(NamedTuple):
    """What came of it; the decisions are in merges.csv.

    Attributes:
      pairs: number of candidates.
      accepted: of these, joined.
      impossible: of these, not resegmented.
      equivalences: every id that is joined with another → the lowest id of its object.
      fit: what was fitted, if anything.
    """

    pairs: int
    accepted: int
    impossible: int
    equivalences: dict[int, int]
    fit: MergeModel | None


def agglomerate(
    resegmentation: ResegmentationConfig,
    config: AgglomerationConfig,
    pool: Pool,
    quiet: bool = False,
) -> Agglomeration:
    """Finds candidate pairs, resegments them, decides which to join, and writes the tables.

    Args:
      resegmentation: how pairs are resegmented, and where results go.
      config: how candidates are found and when they are joined.
      pool: runs the tasks.
      quiet: no progress bars.

    Raises:
      UserError: an invalid request, a volume that does not cover the box, or a folder with results of other settings.
      SystemExit: stopped by a signal; finished results are kept.
    """
    model = read_model(config.model) if config.model else None
    made_from = read_input_stamp(resegmentation.segmentation)
    examples = [one for path in config.fit.examples for one in read_examples(path, made_from)]
    for volume in (config.fit.truth, config.rules.somata):
        if volume is not None:
            check_covers(volume, config.box)
    inference = resolve(resegmentation.inference, pool)
    resegmentation = dataclasses.replace(resegmentation, inference=inference)
    directory = resegmentation.output_directory
    make_folder(directory)
    run = _describe_run(resegmentation, config)
    inputs = identify(inference, run['model_sha256'])
    claim(directory, run, inputs, 'give another folder, or the same settings')
    table = directory / 'candidates.csv'
    if not table.exists():
        candidates.write_candidates(table, _find_candidates(resegmentation, config, pool, quiet))
    pairs = functools.partial(candidates.iterate_candidates, table)
    evidence = EvidenceTable(resegmentation, pairs, directory / 'evidence')
    evidence.forget_unfinished()
    notes = resegment(resegmentation, pairs, pool, quiet)
    evidence.measure(pool, quiet)
    if model is None:
        decisions = decide_by_thresholds(evidence, config.thresholds, notes)
    else:
        warn_of_differences(model, _describe_evidence(resegmentation, config))
        segments = _segments(resegmentation, config, pool, quiet)
        decisions = decide_by_model(evidence, model, config.rules, segments, notes)
    summary = Summary()
    found = summary.counted(decisions)
    merges.write_decisions(directory / 'merges.csv', found, fitted=model is not None)
    equivalences = merges.join_ids(summary.joined)
    merges.write_equivalences(directory / 'equivalences.csv', equivalences)
    fitted = None
    if config.fit.is_asked:  # last, as it may fail
        try:
            fitted = _fit(resegmentation, config, evidence, examples, pool, quiet)
        except UserError as error:
            raise UserError(
                f'{error}; all results are kept, and merges.csv in {directory} has the decisions: the same command '
                'without the flags of fitting goes on from there'
            ) from error
        write_model(directory / FIT, fitted)
    return Agglomeration(
        summary.pairs, len(summary.joined), summary.impossible, equivalences, fitted
    )


def _find_candidates(
    resegmentation: ResegmentationConfig, config: AgglomerationConfig, pool: Pool, quiet: bool
) -> Iterator[Candidate]:
    inference = resegmentation.inference
    if inference.voxel_size is None:
        logging.warning(
            'the voxel size is not known: max_distance %g counts voxels, and these are taken as cubes; '
            'set inference.voxel_size in the request',
            config.max_distance,
        )
    z, y, x = inference.voxel_size_zyx
    search = CandidateSearch(
        resegmentation.segmentation, config.box, (x, y, z), config.max_distance, config.block_size
    )
    folder = resegmentation.output_directory / 'candidates' / f'v{candidates.VERSION}'
    return candidates.find_candidates(search, folder, pool, quiet)


def _fit(
    resegmentation: ResegmentationConfig,
    config: AgglomerationConfig,
    evidence: EvidenceTable,
    examples: Sequence[tuple[Pair, bool]],
    pool: Pool,
    quiet: bool,
) -> MergeModel:
    """Fits to the pairs whose objects are known."""
    segmentation, asked = resegmentation.segmentation, config.fit
    owners = None
    if asked.truth is not None:
        overlaps = count_overlaps(
            segmentation, asked.truth, config.box, config.block_size, pool, 'ground truth', quiet
        )
        owners = find_owners(overlaps, asked.min_majority)
    judged = resolve_examples(examples, owners.as_dict() if owners else {})
    known, left_out = known_pairs(evidence.read(), owners, judged.objects)
    if judged.contradictory:
        logging.warning(
            '%d examples are left out, as they contradict others or the ground truth, such as %d and %d',
            len(judged.contradictory),
            *judged.contradictory[0],
        )
    left_out['contradictory'] = len(judged.contradictory)
    about = {
        'truth': asked.truth.name if asked.truth else '',
        'examples': list(asked.examples),
        'segmentation': segmentation.name,
        'segmentation_made_from': read_input_stamp(segmentation),
        'box': str(config.box),
        'min_majority': asked.min_majority,
        'pairs_left_out': left_out,
        **_describe_evidence(resegmentation, config),
    }
    return fit(known, about)


def _segments(
    resegmentation: ResegmentationConfig, config: AgglomerationConfig, pool: Pool, quiet: bool
) -> Segments | None:
    """Sizes and somata of the segments, where they count."""
    rules = config.rules
    if not rules.need_segments:
        return None
    size = config.block_size
    return measure_segments(
        count_overlaps(
            resegmentation.segmentation, rules.somata, config.box, size, pool, 'segments', quiet
        ),
        rules,
    )


def _describe_evidence(
    resegmentation: ResegmentationConfig, config: AgglomerationConfig
) -> dict[str, Any]:
    """Returns what a fit depends on, wherever it is used: what is measured, network, its settings, and resegmentation."""
    run = _describe_run(resegmentation, config)
    without = {n: value for n, value in run['resegmentation'].items() if n != 'subdir_digits'}
    return {
        'features': VERSION,
        'network_sha256': run['model_sha256'],
        'inference': {n: run['inference'][n] for n in _OF_EVIDENCE if n in run['inference']},
        'resegmentation': without,
        'voxel_size': None if (size := resegmentation.inference.voxel_size) is None else list(size),
        'max_distance': config.max_distance,
    }


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
