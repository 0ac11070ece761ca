"""Candidates segmented again and scored, wherever the pool carries out its tasks."""

from __future__ import annotations

from collections.abc import Sequence

from absl import logging

from ffn.agglomeration import resegmentation
from ffn.agglomeration.candidates import Candidate
from ffn.agglomeration.evidence import evaluate_pair
from ffn.distributed.pool import Pool, run_stage
from ffn.inference import inference_pb2, resegmentation_pb2
from ffn.inference.request import make_config
from ffn.inference.runner import Runner
from ffn.inference.worker_network import NetworkFactory
from ffn.utils.errors import UnreadableError, UserError
from ffn.volumes.volume import VolumeSource

# Pairs that are scored in one task.
_PAIRS_PER_TASK = 32


def make_point(pair: Candidate) -> inference_pb2.ResegmentationPoint:
    """Turns a candidate into a point of a request."""
    return inference_pb2.ResegmentationPoint(
        id_a=pair.id_a, id_b=pair.id_b, point=pair.point.to_proto()
    )


def resegment(
    request: inference_pb2.ResegmentationRequest,
    pairs: Sequence[Candidate],
    pool: Pool,
    quiet: bool = False,
) -> dict[Candidate, str]:
    """Segments pairs again; existing results stay.

    Args:
      request: with inference complete.
      pairs: the candidates.
      pool: carries out the tasks, which share a network.
      quiet: no progress bar.

    Returns:
      Pairs that could not be segmented again → why.

    Raises:
      UserError: an image or segmentation that cannot be read.
      SystemExit: stopped by a signal.
    """
    todo = [p for p in pairs if not resegmentation.result_path(request, make_point(p)).exists()]
    if not todo:
        return {}
    logging.info('%d of %d pairs are to be segmented again', len(todo), len(pairs))
    text = request.SerializeToString()
    with pool.share(NetworkFactory(make_config(request.inference))) as workers:
        tasks = ((text, pair) for pair in todo)
        done = run_stage(
            workers, resegment_pair, tasks, len(todo), 'resegmentation', quiet, unit='pair'
        )
        notes = {pair: note for pair, note in done if note}
    if notes:
        logging.warning(
            '%d of %d pairs could not be segmented again, among them %s',
            len(notes),
            len(todo),
            next(iter(notes.items())),
        )
    return notes


def resegment_pair(runner: Runner, request: bytes, pair: Candidate) -> tuple[Candidate, str]:
    """Segments a pair again.

    Args:
      runner: started.
      request: ResegmentationRequest, serialized.
      pair: the candidate.

    Returns:
      The pair, and why it was not possible, '' if it was.

    Raises:
      UnreadableError: an image or segmentation that cannot be read, which says nothing of the pair.
    """
    parsed = inference_pb2.ResegmentationRequest.FromString(request)
    try:
        resegmentation.process_point(parsed, runner, make_point(pair))
    except UnreadableError:
        raise
    except UserError as error:
        return pair, ' '.join(str(error).split())
    return pair, ''


def score(
    request: inference_pb2.ResegmentationRequest,
    pairs: Sequence[Candidate],
    pool: Pool,
    quiet: bool = False,
) -> dict[Candidate, resegmentation_pb2.EvalResult]:
    """Scores pairs that have been segmented again.

    Args:
      request: see `resegment`.
      pairs: all have a result.
      pool: carries out the tasks.
      quiet: no progress bar.

    Raises:
      UserError: a result that is damaged.
    """
    text = request.SerializeToString()
    tasks = ((text, pairs[i : i + _PAIRS_PER_TASK]) for i in range(0, len(pairs), _PAIRS_PER_TASK))
    done = run_stage(
        pool, score_pairs, tasks, len(pairs), 'scores', quiet, lambda task: len(task[1]), 'pair'
    )
    return {
        pair: resegmentation_pb2.EvalResult.FromString(scores)
        for part in done
        for pair, scores in part
    }


def score_pairs(request: bytes, pairs: Sequence[Candidate]) -> list[tuple[Candidate, bytes]]:
    """Scores some pairs; see `score`."""
    parsed = inference_pb2.ResegmentationRequest.FromString(request)
    source = VolumeSource.from_proto(parsed.inference.init_segmentation, 'init_segmentation')
    with source.open() as volume:
        labels = volume.require_labels()
        paths = [resegmentation.result_path(parsed, make_point(pair)) for pair in pairs]
        return [
            (pair, evaluate_pair(path, labels).eval.SerializeToString())
            for pair, path in zip(pairs, paths, strict=True)
        ]
