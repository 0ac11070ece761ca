"""One inference run from start to end: what run_inference.py does."""

from __future__ import annotations

import signal
import sys
import time
from functools import partial
from pathlib import Path

from absl import logging

from ffn.inference import report
from ffn.inference.canvas import Interrupted
from ffn.inference.request import read_box, read_request
from ffn.inference.runner import Runner
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.signals import stop_on_signal


def segment_box(
    request_text: str, box_text: str, options_text: str = '', quiet: bool = False
) -> None:
    """Segments a box and says how it went.

    Args:
      request_text: InferenceRequest, text format or a file.
      box_text: BoundingBox, text format or a file.
      options_text: InferenceOptions that override the request's.
      quiet: no progress bar.

    Raises:
      UserError: what was given does not fit.
      SystemExit: the run was stopped by a signal, after a checkpoint.
    """
    request = read_request(request_text, options_text)
    box = read_box(box_text)
    if not request.segmentation_output_dir:
        raise UserError('segmentation_output_dir is not set; it says where the result goes')
    if not request.seed_policy:
        raise UserError('seed_policy is not set; PolicyPeaks is the usual choice')
    begin = time.monotonic()
    with Runner(partial(report.progress_bar, quiet=quiet)) as runner:
        runner.start(request)
        from ffn.inference.predictor import describe_device

        logging.info('the network runs on %s', describe_device())
        with stop_on_signal(runner.stop):
            try:
                canvas = runner.run(box.start.zyx, box.size.zyx)
            except Interrupted as interrupted:
                print(interrupted, file=sys.stderr)
                raise SystemExit(128 + signal.SIGTERM) from interrupted
        if canvas is None:
            print('the result exists; nothing to do')
            return
        print(report.summary(canvas, time.monotonic() - begin))
        with atomic_path(Path(request.segmentation_output_dir, 'counters.txt')) as path:
            lines = sorted(runner.counters.as_dict().items())
            path.write_text(''.join(f'{name}: {value}\n' for name, value in lines))
