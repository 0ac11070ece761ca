"""Resegments candidate pairs, wherever the pool runs its tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from absl import logging

from ffn.agglomeration.candidates import Candidate
from ffn.agglomeration.config import Resegmentation, ResegmentationConfig
from ffn.agglomeration.resegmentation import process_point, result_path
from ffn.distributed.pool import Pool, run_stage
from ffn.inference.runner import Runner
from ffn.inference.worker_network import NetworkFactory
from ffn.utils.errors import UnreadableError, UserError


def resegment(
    config: ResegmentationConfig,
    candidates: Callable[[], Iterable[Candidate]],
    pool: Pool,
    quiet: bool = False,
) -> dict[Candidate, str]:
    """Resegments pairs; existing results are kept.

    Args:
      config: resolved.
      candidates: returns the candidates; called twice, so that they need not be held in memory.
      pool: runs the tasks, which share a network.
      quiet: no progress bar.

    Returns:
      Pairs that could not be resegmented → why.

    Raises:
      UserError: an image or segmentation that cannot be read.
      SystemExit: stopped by a signal.
    """

    def left() -> Iterator[tuple[ResegmentationConfig, Candidate]]:
        for pair in candidates():
            if not result_path(config, task_for(pair)).exists():
                yield config, pair

    count = sum(1 for _ in left())
    if not count:
        return {}
    logging.info('%d pairs are to be resegmented', count)
    with pool.share(NetworkFactory(config.inference)) as workers:
        done = run_stage(
            workers, resegment_pair, left(), count, 'resegmentation', quiet, unit='pair'
        )
        notes = {pair: note for pair, note in done if note}
    if notes:
        logging.warning(
            '%d of %d pairs could not be resegmented, among them %s',
            len(notes),
            count,
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
        process_point(config, runner, task_for(pair))
    except UnreadableError:
        raise
    except UserError as error:
        return pair, ' '.join(str(error).split())
    return pair, ''


def task_for(pair: Candidate) -> Resegmentation:
    """Returns what is resegmented for a pair."""
    return Resegmentation(pair.id_a, pair.id_b, pair.point)
