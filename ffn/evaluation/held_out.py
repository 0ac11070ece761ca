"""Scores checkpoints on a box that training has not seen.

    python -m ffn.evaluation.held_out --inference_request REQUEST.pbtxt \
      --bounding_box 'start { x:0 y:0 z:150 } size { x:250 y:250 z:100 }' --labels train.h5:labels \
      --checkpoint model/model.ckpt-*.index

segments the box with each of them, compares with the labels, and writes no segmentation. The loss
and the scores of training patches say how well single steps do; this says how well objects are
traced from a seed to their ends, which is what a checkpoint should be chosen by.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import fastremap
import numpy as np
from absl import logging

from ffn import __version__
from ffn.evaluation.held_out_score import HEADER, HeldOutScore, Segmented
from ffn.inference import inference_pb2
from ffn.inference.core.canvas import Canvas, Interrupted
from ffn.inference.request import check_request, clip_box, parse_request, read_box
from ffn.inference.run_progress import RunProgress
from ffn.inference.runner import Runner
from ffn.models.trained_settings import fill_from_training
from ffn.utils.atomic import write_json
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Box, Xyz
from ffn.utils.startup import startup_messages_hidden
from ffn.volumes.volume import open_decorated, open_volume

if TYPE_CHECKING:
    import keras

# Limit of network steps, as a multiple of what covers the box once: a trained network needs about
# one, an untrained one knows no end.
TIMES_COVERED = 4


class HeldOutBox:
    """A box with known labels, on which any number of checkpoints is scored; a context manager.

    The network is made and compiled once; further checkpoints of it only change its weights. A
    training can therefore call `evaluate` as often as it likes.

    Attributes:
      box: what is segmented; inside the image.
      truth: unsigned [z, y, x], its labels under small ids.
    """

    def __init__(
        self, request: inference_pb2.InferenceRequest, labels: str, box: Box, *,
        max_steps: int | None = None, max_seconds: float = 0, stop: threading.Event | None = None,
        quiet: bool = True,
    ):  # fmt: skip
        """Reads the labels.

        Args:
          request: image, inference options, seed policy. What it leaves out is taken from the
            training of the checkpoint.
          labels: the volume, 'path:dataset'.
          box: is clipped to the image, with a warning.
          max_steps: network steps at which a run ends; 0: no limit; default: TIMES_COVERED times as
            many as cover the box.
          max_seconds: time after which a run ends; 0: no limit.
          stop: set it to end a run as a limit does.
          quiet: no progress bar.

        Raises:
          UserError: something does not fit.
        """
        for name, value in (('max_steps', max_steps or 0), ('max_seconds', max_seconds)):
            if not value >= 0:
                raise UserError(f'{name} is {value}; expected a limit, or 0 for none')
        if not request.seed_policy:
            raise UserError('seed_policy is not set; PolicyPeaks is the usual choice')
        self._template = _copy(request)
        self._max_steps, self._max_seconds = max_steps, max_seconds
        self._stop = stop or threading.Event()
        self._quiet = quiet
        self._runner: Runner | None = None
        self._model: keras.Model | None = None
        with open_decorated(request.image, 'image') as image:
            self.box, clipped = clip_box(box, image.box, Xyz(1, 1, 1), image.name)
        if clipped:
            logging.warning('box %s leaves the image; clipped to %s', box, self.box)
        with open_volume(labels) as volume:
            truth = volume.require_labels().read(self.box)
        if not (truth > 0).any():
            raise UserError(f'{labels} has no object in box {self.box}')
        self.truth = fastremap.renumber(np.where(truth > 0, truth, 0), preserve_zero=True)[0]

    def __enter__(self) -> HeldOutBox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the network and the image; it may be used again even so."""
        if self._runner is not None:
            self._runner.close()
        self._runner = self._model = None

    def evaluate(self, weights: str | Path | keras.Model) -> HeldOutScore:
        """Segments the box and compares with the truth.

        Args:
          weights: a checkpoint, as `model_checkpoint_path` of a request, or a network.

        Raises:
          UserError: no such weights, they do not fit, or the request is incomplete.
        """
        return HeldOutScore.of(self.truth, self.segment(weights))

    def segment(self, weights: str | Path | keras.Model) -> Segmented:
        """The first half of `evaluate`."""
        from ffn.models.predictor import using_tf32

        try:
            with using_tf32(False), RunProgress(1, self._quiet) as bar:
                runner = self._started(weights)
                runner.on_canvas = bar.canvas
                limits = _Limits(self._step_limit(runner), self._max_seconds, self._stop)
                begin = time.monotonic()
                canvas = runner.run_in_memory(self.box.start.zyx, self.box.size.zyx, limits)
        except BaseException:
            self.close()  # the network may be half of one checkpoint and half of another
            raise
        return Segmented(
            canvas.segmentation, canvas.counters['predict-calls'], time.monotonic() - begin,
            complete=not limits.reached,
        )  # fmt: skip

    def _step_limit(self, runner: Runner) -> int:
        if self._max_steps is not None:
            return self._max_steps
        deltas = runner.info.deltas
        return TIMES_COVERED * math.prod(
            math.ceil(n / max(d, 1)) for n, d in zip(self.box.size, deltas, strict=True)
        )

    def _started(self, weights: str | Path | keras.Model) -> Runner:
        """A runner with these weights: the one that is there, if nothing else changes."""
        request = _copy(self._template)
        model = None if isinstance(weights, str | Path) else weights
        if model is None:
            request.model_checkpoint_path = str(weights)
            fill_from_training(request, quiet=self._runner is not None)
        check_request(request, has_model=model is not None)
        if self._runner is not None and model is self._model and self._same_but_weights(request):
            if model is None:
                self._runner.use_checkpoint(request.model_checkpoint_path)
            return self._runner
        self.close()
        self._runner, self._model = Runner(), model
        self._runner.start(request, model)
        return self._runner

    def _same_but_weights(self, request: inference_pb2.InferenceRequest) -> bool:
        """Whether a request is that of the runner but for its weights."""
        running = _copy(self._runner.request)
        running.model_checkpoint_path = request.model_checkpoint_path
        return running == request


def _copy(request: inference_pb2.InferenceRequest) -> inference_pb2.InferenceRequest:
    copied = inference_pb2.InferenceRequest()
    copied.CopyFrom(request)
    return copied


class _Limits:
    """Ends a run, between two steps; `reached` says whether it did."""

    def __init__(self, max_steps: int, max_seconds: float, stop: threading.Event):
        self._max_steps, self._stop = max_steps, stop
        self._end = time.monotonic() + max_seconds if max_seconds else math.inf
        self.reached = False

    def __call__(self, canvas: Canvas) -> None:
        steps = canvas.counters['predict-calls']
        if 0 < self._max_steps <= steps or time.monotonic() >= self._end or self._stop.is_set():
            self.reached = True
            raise Interrupted('a limit was reached', canvas)


def checkpoint_names(given: Sequence[str], request: inference_pb2.InferenceRequest) -> list[str]:
    """Checkpoints of a command line: names without endings, each once.

    Args:
      given: names; `model.ckpt-*` finds all files of a checkpoint.
      request: whose own checkpoint is taken where none is given.

    Raises:
      UserError: there is none.
    """
    names = given or [request.model_checkpoint_path]
    if not all(names):
        raise UserError('no checkpoint: give --checkpoint, or model_checkpoint_path in the request')
    return list(dict.fromkeys(re.sub(r'\.(index|(data|input)-\d+-of-\d+)$', '', n) for n in names))


def _write_json(path: Path, args: argparse.Namespace, box: Box, scores: dict) -> None:
    report = {
        'version': __version__,
        'labels': args.labels,
        'box': {'start_xyz': list(box.start), 'size_xyz': list(box.size)},
        'scores': [{'checkpoint': n, **dataclasses.asdict(s)} for n, s in scores.items()],
    }
    write_json(path, report)


def main(argv: Sequence[str] | None = None) -> dict[str, HeldOutScore]:
    """Scores checkpoints as the command line says.

    Returns:
      Checkpoint → score.

    Raises:
      UserError: see `HeldOutBox`.
    """
    parser = argparse.ArgumentParser(
        prog='python -m ffn.evaluation.held_out', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--inference_request', required=True, metavar='REQUEST',
                        help='InferenceRequest, text format or a file; what it leaves out is taken '
                        'from the training of each checkpoint')  # fmt: skip
    parser.add_argument('--inference_options', default='', metavar='OPTIONS',
                        help='InferenceOptions that override its own')  # fmt: skip
    parser.add_argument('--bounding_box', required=True, metavar='BOX',
                        help='BoundingBox, text format or a file')  # fmt: skip
    parser.add_argument('--labels', required=True, metavar='PATH:DATASET', help='the truth')
    parser.add_argument('--checkpoint', nargs='+', default=[], metavar='PATH',
                        help="what to score (the request's own)")  # fmt: skip
    parser.add_argument('--max_steps', type=int, metavar='N',
                        help='network steps for each, 0: no limit '
                        f'({TIMES_COVERED} times as many as cover the box)')  # fmt: skip
    parser.add_argument('--max_seconds', type=float, default=0, metavar='S',
                        help='time for each, 0: no limit (0)')  # fmt: skip
    parser.add_argument('--json', type=Path, metavar='FILE', help='writes the scores there as well')
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    args = parser.parse_args(argv)
    request = parse_request(args.inference_request, args.inference_options)
    names, box = checkpoint_names(args.checkpoint, request), read_box(args.bounding_box)
    with startup_messages_hidden():
        from ffn.models import precision

        precision.gpu_capability()
    scores: dict[str, HeldOutScore] = {}
    with HeldOutBox(
        request, args.labels, box, max_steps=args.max_steps, max_seconds=args.max_seconds,
        quiet=args.quiet,
    ) as held_out:  # fmt: skip
        print(f'{HEADER}  checkpoint', flush=True)
        for name in names:
            scores[name] = held_out.evaluate(name)
            print(f'{scores[name].row()}  {name}', flush=True)
            if args.json:
                _write_json(args.json, args, held_out.box, scores)
    if len(scores) > 1:
        print(f'least Rand error: {min(scores, key=lambda name: scores[name].rand_error)}')
    return scores


if __name__ == '__main__':
    run_tool(main)
