"""Resegments candidate pairs and scores the results, wherever the pool runs its tasks."""

from __future__ import annotations

from collections.abc import Sequence

from absl import logging

from ffn.agglomeration.candidates import Candidate
from ffn.agglomeration.config import Resegmentation, ResegmentationConfig
from ffn.agglomeration.evidence import evaluate_pair
from ffn.agglomeration.resegmentation import process_point, result_path
from ffn.distributed.pool import Pool, run_stage
from ffn.inference import resegmentation_pb2
from ffn.inference.runner import Runner
from ffn.inference.worker_network import NetworkFactory
from ffn.utils.errors import UnreadableError, UserError

# Number of pairs that are scored in one task.
_PAIRS_PER_TASK = 32


def resegment(
    config: ResegmentationConfig, pairs: Sequence[Candidate], pool: Pool, quiet: bool = False
) -> dict[Candidate, str]:
    """Resegments pairs; existing results are kept.

    Args:
      config: resolved.
      pairs: the candidates.
      pool: runs the tasks, which share a network.
      quiet: no progress bar.

    Returns:
      Pairs that could not be resegmented → why.

    Raises:
      UserError: an image or segmentation that cannot be read.
      SystemExit: stopped by a signal.
    """
    todo = [pair for pair in pairs if not result_path(config, _task_for(pair)).exists()]
    if not todo:
        return {}
    logging.info('%d of %d pairs are to be resegmented', len(todo), len(pairs))
    with pool.share(NetworkFactory(config.inference)) as workers:
        tasks = ((config, pair) for pair in todo)
        done = run_stage(
            workers, resegment_pair, tasks, len(todo), 'resegmentation', quiet, unit='pair'
        )
        notes = {pair: note for pair, note in done if note}
    if notes:
        logging.warning(
            '%d of %d pairs could not be resegmented, among them %s',
            len(notes),
            len(todo),
            next(iter(notes.items())),
        )
    return notes


def resegment_pair(
    runner: Runner, config: ResegmentationConfig, pair: Candidate
) -> tuple[Candidate, str]:
    """Resegments a pair.

    Args:
      runner: made with `config.inference`.
      config: see `resegment`.
      pair: the candidate.

    Returns:
      The pair, and why it could not be resegmented, or ''.

    Raises:
      UnreadableError: an image or segmentation that cannot be read, which says nothing about the pair.
    """
    try:
        process_point(config, runner, _task_for(pair))
    except UnreadableError:
        raise
    except UserError as error:
        return pair, ' '.join(str(error).split())
    return pair, ''


def score(
    config: ResegmentationConfig, pairs: Sequence[Candidate], pool: Pool, quiet: bool = False
) -> dict[Candidate, resegmentation_pb2.EvalResult]:
    """Scores pairs that have been resegmented.

    Args:
      config: see `resegment`.
      pairs: pairs with a result.
      pool: runs the tasks.
      quiet: no progress bar.

    Raises:
      UserError: a result is damaged.
    """
    tasks = (
        (config, pairs[i : i + _PAIRS_PER_TASK]) for i in range(0, len(pairs), _PAIRS_PER_TASK)
    )
    done = run_stage(
        pool, score_pairs, tasks, len(pairs), 'scores', quiet, lambda task: len(task[1]), 'pair'
    )
    return {
        pair: resegmentation_pb2.EvalResult.FromString(scores)
        for part in done
        for pair, scores in part
    }


def score_pairs(
    config: ResegmentationConfig, pairs: Sequence[Candidate]
) -> list[tuple[Candidate, bytes]]:
    """Scores some pairs; returns each with its EvalResult, serialized."""
    with config.segmentation.open() as volume:
        labels = volume.require_labels()
        paths = [result_path(config, _task_for(pair)) for pair in pairs]
        return [
            (pair, evaluate_pair(path, labels).eval.SerializeToString())
            for pair, path in zip(pairs, paths, strict=True)
        ]


def _task_for(pair: Candidate) -> Resegmentation:
    return Resegmentation(pair.id_a, pair.id_b, pair.point)
