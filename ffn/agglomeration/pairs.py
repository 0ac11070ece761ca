"""Candidates segmented again and scored, in this process or by the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent import futures

from absl import logging

from ffn.agglomeration import resegmentation
from ffn.agglomeration.candidates import Candidate
from ffn.agglomeration.evidence import evaluate_pair
from ffn.distributed.pool import Pool, run_stage
from ffn.inference import inference_pb2, resegmentation_pb2
from ffn.inference.runner import Runner
from ffn.utils.errors import UnreadableError, UserError
from ffn.utils.progress import progress
from ffn.utils.signals import stop_on_signal
from ffn.utils.startup import startup_messages_hidden
from ffn.volumes.volume import VolumeSource

# Pairs that are scored in one task.
_PAIRS = 32


def point_of(pair: Candidate) -> inference_pb2.ResegmentationPoint:
    """A candidate as a point of a request."""
    return inference_pb2.ResegmentationPoint(
        id_a=pair.id_a, id_b=pair.id_b, point=pair.point.to_proto()
    )


def resegment(
    request: inference_pb2.ResegmentationRequest,
    pairs: Sequence[Candidate],
    pool: Pool,
    quiet: bool = False,
) -> dict[Candidate, str]:
    """Segments pairs again; what exists stays.

    Args:
      request: with inference complete.
      pairs: the candidates.
      pool: whose workers load the network, where they can; else as many pairs at a time as
        concurrent_requests says are segmented in this process.
      quiet: no progress bar.

    Returns:
      Pairs for which it was not possible → why.

    Raises:
      SystemExit: stopped by a signal.
      Exception: what the network raised.
    """
    todo = [p for p in pairs if not resegmentation.result_path(request, point_of(p)).exists()]
    if not todo:
        return {}
    logging.info('%d of %d pairs are to be segmented again', len(todo), len(pairs))
    where = _distributed if pool.distributed else _here
    notes = where(request, todo, pool, quiet)
    if notes:
        logging.warning(
            '%d of %d pairs could not be segmented again, among them %s',
            len(notes),
            len(todo),
            next(iter(notes.items())),
        )
    return notes


def _distributed(
    request: inference_pb2.ResegmentationRequest, todo: Sequence[Candidate], pool: Pool, quiet: bool
) -> dict[Candidate, str]:
    from ffn.inference.worker_network import networks

    text = request.SerializeToString()
    with networks(pool, request.inference) as known:
        tasks = ((known.name, text, pair) for pair in todo)
        done = run_stage(
            known.pool, segment_pair_again, tasks, len(todo), 'resegmentation', quiet, unit='pair'
        )
        return {pair: note for pair, note in done if note}


def segment_pair_again(network: str, request: bytes, pair: Candidate) -> tuple[Candidate, str]:
    """Segments a pair again with the network of the worker that this is called in.

    Args:
      network: its name.
      request: ResegmentationRequest, serialised.
      pair: the candidate.

    Returns:
      The pair, and why it was not possible, '' if all is well.
    """
    from ffn.inference.worker_network import worker_runner

    asked = inference_pb2.ResegmentationRequest.FromString(request)
    with worker_runner(network) as runner:
        return pair, _one(asked, runner, pair)


def _here(
    request: inference_pb2.ResegmentationRequest, todo: Sequence[Candidate], _: Pool, quiet: bool
) -> dict[Candidate, str]:
    with startup_messages_hidden():
        from ffn.models import precision

        logging.info('the network runs on %s', precision.describe_device())
    notes: dict[Candidate, str] = {}
    with (
        Runner() as runner,
        stop_on_signal(runner.stop),
        progress(total=len(todo), desc='resegmentation', unit='pair', quiet=quiet) as bar,
    ):
        runner.start(request.inference)

        def unless_stopped(pair: Candidate) -> str:
            return 'stopped' if runner.stop.is_set() else _one(request, runner, pair)

        with futures.ThreadPoolExecutor(
            min(request.inference.concurrent_requests, len(todo)), 'pair'
        ) as threads:
            pending = {threads.submit(unless_stopped, pair): pair for pair in todo}
            try:
                for future in futures.as_completed(pending):
                    if note := future.result():
                        notes[pending[future]] = note
                    bar.update()
            except BaseException:
                runner.stop.set()
                threads.shutdown(cancel_futures=True)
                raise
        if runner.stop.is_set():
            print(f'stopped; run again to go on from the results in {request.output_directory}')
            raise SystemExit(128 + 15)
    return notes


def _one(request: inference_pb2.ResegmentationRequest, runner: Runner, pair: Candidate) -> str:
    """Segments one pair again; returns why not, '' if all is well."""
    try:
        resegmentation.process_point(request, runner, point_of(pair))
    except UnreadableError:  # says nothing of the pair
        raise
    except UserError as error:
        return ' '.join(str(error).split())
    return ''


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
    tasks = ((text, pairs[i : i + _PAIRS]) for i in range(0, len(pairs), _PAIRS))
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
    asked = inference_pb2.ResegmentationRequest.FromString(request)
    with VolumeSource.from_proto(
        asked.inference.init_segmentation, 'init_segmentation'
    ).open() as volume:
        labels = volume.require_labels()
        paths = [resegmentation.result_path(asked, point_of(pair)) for pair in pairs]
        return [
            (pair, evaluate_pair(path, labels).eval.SerializeToString())
            for pair, path in zip(pairs, paths, strict=True)
        ]
