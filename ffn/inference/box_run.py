"""One inference run from start to end: what run_inference.py does."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from absl import logging

from ffn import __version__
from ffn.inference import report
from ffn.inference.box_queue import BoxQueue
from ffn.inference.config import InferenceConfig
from ffn.inference.core.canvas import Interrupted
from ffn.inference.report import BoxReport
from ffn.inference.request import read_box, read_boxes, read_config
from ffn.inference.run_progress import RunProgress
from ffn.inference.runner import Runner
from ffn.utils import event_log
from ffn.utils.atomic import check_writable
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.utils.locks import InUseError
from ffn.utils.signals import WAKE_UP_S, stop_on_signal
from ffn.utils.startup import startup_messages_hidden
from ffn.volumes.missing import OnMissing


def segment(
    request_text: str,
    box_text: str = '',
    boxes_text: str = '',
    options_text: str = '',
    precision: str = '',
    report_path: str = '',
    quiet: bool = False,
    missing: OnMissing = 'tell',
) -> None:
    """Segments one box or several and prints a summary.

    Args:
      request_text: InferenceRequest, text format or a file.
      box_text: BoundingBox, text format or a file.
      boxes_text: BoundingBoxes instead, text format or a file.
      options_text: InferenceOptions that override the request's.
      precision: overrides the request's.
      report_path: where a report goes as JSON; '' for none.
      quiet: no progress bar.
      missing: what is done about chunks of a volume that is read that do not exist.

    Raises:
      UserError: an argument does not fit, or a box failed; the others have been segmented.
      SystemExit: the run was stopped by a signal, after checkpoints.
    """
    config = read_config(request_text, options_text)
    if precision:
        config = dataclasses.replace(config, precision=precision)
    if missing == 'error':
        config = config.refusing_missing()
    if bool(box_text) == bool(boxes_text):
        raise UserError('give --bounding_box for one box, or --bounding_boxes for several')
    asked = [read_box(box_text)] if box_text else read_boxes(boxes_text)
    run(config, asked, report_path, quiet)


def run(
    config: InferenceConfig, asked: Sequence[Box], report_path: str = '', quiet: bool = False
) -> None:
    """Segments boxes as a configuration says; see `segment`.

    Args:
      config: what to do.
      asked: the boxes.
      report_path: where a report goes as JSON; '' for none.
      quiet: no progress bar.
    """
    folder = config.results_folder
    if not config.seed_policy:
        raise UserError('seed_policy is not set; PolicyPeaks is the usual choice')
    with startup_messages_hidden():
        from ffn.models.precision import backend, describe_device

        device = describe_device()
    with Runner(config) as runner:
        logging.info('the network runs on %s', device)
        boxes = _distinct([runner.clip(box) for box in asked])
        if report_path:
            check_writable(report_path, '--report')
        begin = time.monotonic()
        reports = segment_boxes(runner, boxes, quiet)
        seconds = time.monotonic() - begin
        settings = {
            'version': __version__,
            'device': device,
            'backend': backend(),
            'precision': runner.precision,
            'batch_size': config.batch_size,
            'concurrent_requests': config.concurrent_requests,
        }
        try:
            if any(entry.status != 'failed' for entry in reports):
                print(report.summary(reports, seconds))
        finally:  # also where nobody reads that
            if any(entry.status in ('segmented', 'masked', 'constant') for entry in reports):
                report.write_counters(folder / 'counters.txt', runner.counters.as_dict())
            if report_path:
                report.write_json(report_path, reports, seconds, settings)
    _raise_failures(reports, folder)


def _distinct(boxes: Sequence[Box]) -> Sequence[Box]:
    seen: dict[Any, int] = {}
    for i, box in enumerate(boxes):
        if box.start in seen:
            raise UserError(
                f'boxes {seen[box.start]} and {i} (from 0) both begin at {box.start}; results are '
                'named after the corner, so there can be one only'
            )
        seen[box.start] = i
    return boxes


def segment_boxes(runner: Runner, boxes: Sequence[Box], quiet: bool = False) -> list[BoxReport]:
    """Segments boxes, as many at a time as the request's concurrent_requests says.

    A box that fails does not affect the others. SIGTERM and SIGINT stop all of them after checkpoints. A box that
    another process is at is put off until the others are done, so that several processes share a list.

    Args:
      runner: ready to run.
      boxes: inside the volume, with different corners.
      quiet: no progress bar.

    Returns:
      Their reports, in the same order.

    Raises:
      Exception: whatever the network raised; every box has stopped by then.
    """
    at_a_time, before = min(runner.config.concurrent_requests, len(boxes)), runner.on_canvas
    if runner.config.batch_size > at_a_time:
        logging.info(
            'batches hold at most %d of batch_size %d fields of view, one for each box at work',
            at_a_time,
            runner.config.batch_size,
        )
    with (
        RunProgress(len(boxes), quiet) as bar,
        stop_on_signal(runner.stop),
        futures.ThreadPoolExecutor(at_a_time, 'box') as pool,
    ):
        runner.on_canvas = bar.canvas
        queue, entries = BoxQueue(boxes, runner.stop), dict[Box, BoxReport]()

        def segment_one_after_the_other() -> None:
            while (box := queue.take()) is not None:
                try:
                    entries[box] = _segment_box(runner, box, log_errors=len(boxes) > 1)
                except InUseError as error:
                    queue.put_off(box, error)
                    continue
                queue.ended()
                bar.box_ended(box.start.zyx)

        try:
            pending = [pool.submit(segment_one_after_the_other) for _ in range(at_a_time)]
            while not _is_over(pending):
                futures.wait(pending, WAKE_UP_S, futures.FIRST_EXCEPTION)
            # The first failure is raised, not its consequences.
            for future in pending:
                if future.done() and future.exception() is not None:
                    future.result()
            for future in pending:
                future.result()
        except BaseException:
            runner.stop.set()
            raise
        finally:
            runner.on_canvas = before
    return [entries[box] for box in boxes]


def _is_over(pending: Sequence[futures.Future[None]]) -> bool:
    """Whether all have ended, or one has failed."""
    done = [one for one in pending if one.done()]
    return len(done) == len(pending) or any(one.exception() is not None for one in done)


def _segment_box(runner: Runner, box: Box, log_errors: bool) -> BoxReport:
    if runner.stop.is_set():
        return BoxReport.without_canvas(box, 'interrupted')
    try:
        canvas = runner.run(box.start.zyx, box.size.zyx, wait=False)
    except InUseError:
        raise
    except Interrupted as interrupted:
        if interrupted.canvas is None:
            return BoxReport.without_canvas(box, 'interrupted')
        return BoxReport.of_canvas(interrupted.canvas, 'interrupted')
    except (UserError, OSError) as error:
        if log_errors:
            logging.error('box %s: %s', box, error)
        return BoxReport.without_canvas(box, 'failed', ' '.join(str(error).split()))
    if canvas is None:
        return BoxReport.without_canvas(box, 'exists')
    return BoxReport.of_canvas(canvas)


def _raise_failures(reports: Sequence[BoxReport], directory: Path) -> None:
    failed = [entry for entry in reports if entry.status == 'failed']
    if failed:
        where = f'{len(failed)} of {len(reports)} boxes: ' if len(reports) > 1 else ''
        raise UserError(f'{where}{failed[0].error}')
    if any(entry.status == 'interrupted' for entry in reports):
        event_log.say(f'stopped; run again to resume from the checkpoints (.cpoint) in {directory}')
        raise SystemExit(128 + signal.SIGTERM)
