"""Scores checkpoints on a box that training has not seen.

The loss and the scores of training patches say how well single steps do; this says how well objects
are traced from seed to end, which is what a checkpoint should be chosen by.
"""

from __future__ import annotations

import dataclasses
import math
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from ffn.evaluation.held_out_score import HeldOutScore, Segmented
from ffn.inference import inference_pb2
from ffn.inference.config import InferenceConfig
from ffn.inference.core import movement
from ffn.inference.core.canvas import Canvas, Interrupted
from ffn.inference.core.counters import Counters
from ffn.inference.core.view import CanvasView
from ffn.inference.from_training import fill_unset, take_voxel_size_of_image
from ffn.inference.input_volumes import InputVolumes, clip_box
from ffn.inference.request import complete_request, make_config
from ffn.inference.run_progress import RunProgress
from ffn.inference.runner import Runner
from ffn.inference.seeds import registry
from ffn.models.checkpoints import KERAS_ENDING, without_ending
from ffn.models.precision import choose_precision
from ffn.models.saved_settings import is_keras_file
from ffn.models.trained_settings import TrainedSettings
from ffn.utils import trust
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.labels import renumber
from ffn.utils.plugins import json_args
from ffn.volumes.provenance import open_complete
from ffn.volumes.units import KnownVoxelSize, agreed_voxel_size
from ffn.volumes.unlabelled import counted
from ffn.volumes.volume import VolumeSource

if TYPE_CHECKING:
    import keras

    from ffn.inference.core.restrictor import Restrictor
    from ffn.models.model import FFNModel

# Limit of network steps, as a multiple of those that cover the box once: a trained network needs about
# one, an untrained one floods without end.
TIMES_COVERED = 4


class HeldOutBox:
    """A box with known labels on which any number of checkpoints can be scored; a context manager.

    The network is created and compiled once; further checkpoints only replace its weights, so a
    training can call `evaluate` as often as it likes.

    Attributes:
      box: the box that is segmented, within the image.
      truth: unsigned [z, y, x], its labels, renumbered from 1.
    """

    def __init__(
        self,
        request: inference_pb2.InferenceRequest,
        labels: str,
        box: Box,
        *,
        max_steps: int | None = None,
        max_seconds: float = 0,
        stop: threading.Event | None = None,
        quiet: bool = True,
        unlabelled: int | None = None,
    ):
        """Reads the labels.

        Args:
          request: image, inference options, seed policy; fields that it omits are taken from the training
            of the checkpoint.
          labels: the volume, 'path:dataset'.
          box: clipped to the image, with a warning.
          max_steps: maximum number of network steps of a run; 0: no limit; default: TIMES_COVERED times
            as many as cover the box.
          max_seconds: maximum duration of a run; 0: no limit.
          stop: setting it ends a run as a limit would.
          quiet: no progress bar.
          unlabelled: a label that means 'not labelled', see `ffn.volumes.unlabelled`.

        Raises:
          UserError: something does not fit.
        """
        for name, value in (('max_steps', max_steps or 0), ('max_seconds', max_seconds)):
            if not value >= 0:
                raise UserError(f'{name} is {value}; expected a limit, or 0 for none')
        if not request.seed_policy:
            raise UserError('seed_policy is not set; PolicyPeaks is the usual choice')
        registry.policy_class(request.seed_policy)
        movement.policy_class(request.movement_policy_name)
        self._template = _copy(request)
        self._max_steps, self._max_seconds = max_steps, max_seconds
        self._stop = stop or threading.Event()
        self._quiet = quiet
        self._runner: Runner | None = None
        self._model: keras.Model | None = None
        self._config: InferenceConfig | None = None
        self._trainings_told: set[Path] = set()
        with open_complete(VolumeSource.from_proto(request.image, 'image')) as image:
            self.box, clipped = clip_box(box, image.box, Xyz(1, 1, 1), image.name)
        if clipped:
            logging.warning('box %s extends beyond the image; clipped to %s', box, self.box)
        with open_complete(labels) as opened:
            self._of_labels = None if opened.voxel_size is None else opened.voxel_size.of(labels)
            volume = opened.require_labels(unlabelled)
            with counted(volume.unlabelled):
                truth = volume.read(self.box)
        if not truth.any():
            raise UserError(f'{labels} has no object in box {self.box}')
        self.truth = renumber(np.where(truth > 0, truth, 0))[0]

    def __enter__(self) -> HeldOutBox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the network and the image; the object remains usable."""
        if self._runner is not None:
            self._runner.close()
        self._runner = self._model = self._config = None

    def check(self, trained: TrainedSettings) -> None:
        """Checks, while there are no weights yet, what else a segmentation needs: options, policies, volumes, masks.

        What sizes of the network decide is checked by `check_network`; so is everything about policies where modules of
        one's own are allowed.

        Args:
          trained: what the training of the checkpoints says of fields that the request omits.

        Raises:
          UserError: something does not fit.
        """
        config = make_config(self._completed(trained), has_model=True)
        if config.precision != 'auto':  # which is found out by loading Keras
            choose_precision(config.precision)
        with InputVolumes(config) as volumes:
            image, restrictor = volumes.load(self.box, Xyz(1, 1, 1), Counters())
            volumes.load_labels(self.box, restrictor)
        # Policies of one's own may look at sizes of the network, which are not known here.
        if not trust.current().modules:
            half = Zyx(*(n // 2 for n in image.shape))
            self._check_policies(config, image, restrictor, half, half, (1, 1, 1))

    def check_network(self, trained: TrainedSettings, model: FFNModel) -> None:
        """Checks what depends on the network, before it has learned anything.

        Args:
          trained: see `check`.
          model: the network that is trained; where the request describes one, that must be like it.

        Raises:
          UserError: something does not fit.
        """
        from ffn.models.model import create_model

        request, info = self._completed(trained), model.info
        config = make_config(request, has_model=True)
        if self._template.model_name or self._template.model_args:
            asked = create_model(request.model_name, json_args(request.model_args, 'model_args'))
            if _shapes(asked) != _shapes(model):
                raise UserError(
                    f'the request describes another network than the one that is trained: model_name {request.model_name}, '
                    f'model_args {request.model_args}; leave both out'
                )
            info = asked.info
        clip_box(self.box, self.box, info.input_image_size, 'the held-out box')
        with InputVolumes(config) as volumes:
            image, restrictor = volumes.load(self.box, info.input_image_size, Counters())
        margin, reach = (
            Zyx(*(n // 2 for n in size.zyx))
            for size in (info.input_image_size, info.pred_mask_size)
        )
        self._check_policies(config, image, restrictor, margin, reach, info.deltas.zyx)

    def _completed(self, trained: TrainedSettings) -> inference_pb2.InferenceRequest:
        request = _copy(self._template)
        take_voxel_size_of_image(request, quiet=True)
        fill_unset(request, trained)
        return request

    def _check_policies(
        self,
        config: InferenceConfig,
        image: np.ndarray,
        restrictor: Restrictor,
        margin: Zyx,
        reach: Zyx,
        deltas: Sequence[int],
    ) -> None:
        threshold = config.options.move_threshold
        view = CanvasView(
            image,
            image,
            np.zeros(image.shape, np.int32),
            restrictor.mask,
            restrictor.seed_mask,
            margin_zyx=margin,
            reach_zyx=reach,
            move_threshold=threshold,
            counters=Counters(),
            corner_zyx=self.box.start.zyx,
            voxel_size_zyx=config.voxel_size_zyx,
        )
        registry.make_policy(view, config.seed_policy, config.seed_policy_args)
        name, args = config.movement_policy_name, config.movement_policy_args
        movement.make_policy(view, name, args, deltas, threshold, reach)

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Voxel size x, y, z that the last segmentation was made with: of the request, the image, or the training."""
        return None if self._config is None else self._config.voxel_size

    def start(self, weights: str | Path | keras.Model) -> None:
        """Opens the image and loads a network without segmenting; what is wrong with a request is told here.

        Raises:
          UserError: see `evaluate`.
        """
        try:
            self._started(weights)
        except BaseException:
            self.close()
            raise

    def evaluate(self, weights: str | Path | keras.Model) -> HeldOutScore:
        """Segments the box and scores the result.

        Args:
          weights: a checkpoint, as in `model_checkpoint_path` of a request, or a network.

        Raises:
          UserError: no such weights, they do not fit, or the request is incomplete.
        """
        return HeldOutScore.of(self.truth, self.segment(weights))

    def segment(self, weights: str | Path | keras.Model) -> Segmented:
        """Segments the box without scoring it; see `evaluate`."""
        from ffn.models.predictor import using_tf32

        try:
            with using_tf32(False), RunProgress(1, self._quiet) as bar:
                runner = self._started(weights)
                runner.on_canvas = bar.canvas
                limits = _Limits(self._step_limit(runner), self._max_seconds, self._stop)
                begin = time.monotonic()
                canvas = runner.run_in_memory(self.box.start.zyx, self.box.size.zyx, limits)
        except BaseException:
            self.close()  # the network may be left with a mixture of two checkpoints
            raise
        return Segmented(
            canvas.segmentation,
            canvas.counters['predict-calls'],
            time.monotonic() - begin,
            complete=not limits.reached,
        )

    def _step_limit(self, runner: Runner) -> int:
        if self._max_steps is not None:
            return self._max_steps
        deltas = runner.info.deltas
        return TIMES_COVERED * math.prod(
            math.ceil(n / max(d, 1)) for n, d in zip(self.box.size, deltas, strict=True)
        )

    def _started(self, weights: str | Path | keras.Model) -> Runner:
        """Returns a runner with these weights, reusing the present one if nothing else changes."""
        request = _copy(self._template)
        model = None if isinstance(weights, str | Path) else weights
        if model is None:
            request.model_checkpoint_path = str(weights)
            # The checkpoints of a training have the same settings; they are told once.
            training = Path(weights).parent
            config = complete_request(request, quiet=training in self._trainings_told)
            self._trainings_told.add(training)
        else:
            config = make_config(request, has_model=True)
        if self._runner is not None and model is self._model and self._same_but_weights(config):
            if model is None:
                self._runner.use_checkpoint(config.model_checkpoint_path)
            return self._runner
        self.close()
        self._runner = Runner(config, model)
        self._model, self._config = model, config
        self._warn_of_voxel_size(config)
        return self._runner

    def _warn_of_voxel_size(self, config: InferenceConfig) -> None:
        if self._of_labels is not None and config.voxel_size is not None:
            of_request = KnownVoxelSize(config.voxel_size, 'the request or its training')
            agreed_voxel_size([of_request, self._of_labels])

    def _same_but_weights(self, config: InferenceConfig) -> bool:
        """Whether a configuration differs from the runner's in its weights only."""
        if self._config is None:
            return False
        path = config.model_checkpoint_path
        return dataclasses.replace(self._config, model_checkpoint_path=path) == config


# What int8 leaves beside weights of either format.
_RANGES = re.compile(r'\.int8-[0-9a-f]{8}\.json$')


def _shapes(model: FFNModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.named_variables().items()}


def _copy(request: inference_pb2.InferenceRequest) -> inference_pb2.InferenceRequest:
    copied = inference_pb2.InferenceRequest()
    copied.CopyFrom(request)
    return copied


class _Limits:
    """Ends a run between two steps; `reached` says whether it has done so."""

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
    """Returns the checkpoints of a command line: names without endings, each once.

    Args:
      given: names; all files of a checkpoint may be listed, as `model.ckpt-*` and `NAME.*` do.
      request: its own checkpoint is used if none is given.

    Raises:
      UserError: there is none.
    """
    names = given or [request.model_checkpoint_path]
    if not all(names):
        raise UserError('no checkpoint: give --checkpoint, or model_checkpoint_path in the request')
    # What lies beside a Keras file belongs to it without having its name.
    beside = {name.removesuffix(KERAS_ENDING) for name in names if is_keras_file(name)}
    settings = {f'{name}.json' for name in beside}
    own = [
        n
        for n in names
        if n not in settings and not (_RANGES.search(n) and without_ending(n) in beside)
    ]
    return list(dict.fromkeys(map(without_ending, own)))
