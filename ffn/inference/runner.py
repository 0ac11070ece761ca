"""From a request and a box to a segmentation on disk."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from ffn.inference import histogram, inference_pb2, storage
from ffn.inference.core import checkpoint
from ffn.inference.core.canvas import Canvas, Interrupted
from ffn.inference.core.counters import Counters
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.restrictor import make_restrictor
from ffn.inference.core.view import CanvasView
from ffn.inference.executor import Executor
from ffn.inference.request import absolute_paths, check_request, clip_box, voxel_size_zyx
from ffn.inference.seeds import registry
from ffn.inference.seeds.policy import SeedPolicy
from ffn.models.checkpoints import resolve_checkpoint
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Zyx
from ffn.volumes.masks import MaskBuilder
from ffn.volumes.volume import Volume, open_decorated

if TYPE_CHECKING:
    from ffn.models.model import FFNModel


# Standard deviations that no voxel of an image should be away from its mean, all on one side.
_FAR = 3


@dataclass(frozen=True)
class Alignment:
    """Where the canvas lies in the volume; sections are taken as they are.

    Attributes:
      corner_zyx: first voxel of the canvas.
      size_zyx: its shape.
    """

    corner_zyx: Zyx
    size_zyx: Zyx


class Runner:
    """Segments subvolumes with one model; a context manager.

    Attributes:
      request: the request, after `start`.
      counters: sums over all subvolumes.
      stop: set it to end a run after saving a checkpoint.
      on_canvas: see `__init__`.
      info: sizes of the model, after `start`.
      precision: what the network computes in, after `start`.
    """

    def __init__(
        self, on_canvas: Callable[[Canvas], contextlib.AbstractContextManager] | None = None
    ):
        """Makes a runner.

        Args:
          on_canvas: called with each canvas; the context that it returns holds while the canvas is
            segmented (progress bars).
        """
        self.counters = Counters()
        self.stop = threading.Event()
        self.on_canvas = on_canvas or (lambda canvas: contextlib.nullcontext())
        self._resources, self._told = contextlib.ExitStack(), False

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the volumes."""
        self._resources.close()

    def start(self, request: inference_pb2.InferenceRequest, model: FFNModel | None = None) -> None:
        """Opens the volumes and loads the model.

        Args:
          request: what to do.
          model: a network that is there already, instead of the request's; its weights are used as
            they are in each step.

        Raises:
          UserError: something in the request does not fit.
        """
        from ffn.models.precision import choose_precision
        from ffn.models.predictor import load_model, make_predictor

        check_request(request, has_model=model is not None)
        self.request = request
        self._options = CanvasOptions.from_proto(request.inference_options)
        self._image = self._open(request.image, 'image').single_channel()
        self._init_segmentation: Volume | None = None
        if request.HasField('init_segmentation'):
            labels = self._open(request.init_segmentation, 'init_segmentation').require_labels()
            self._init_segmentation = labels
        self._reference_cdf = None
        if request.reference_histogram:
            self._reference_cdf = histogram.load_reference(request.reference_histogram)
        self._masks = self._resources.enter_context(MaskBuilder())
        self._weights = resolve_checkpoint(request.model_checkpoint_path)
        self._model = model = model or load_model(self._with_weights())
        self.info = model.info
        self.precision = choose_precision(request.precision)
        self.executor = Executor(make_predictor(model), request.batch_size)

    def use_checkpoint(self, path: str) -> None:
        """Takes other weights for the network that is there; what has been compiled stays.

        Args:
          path: see `model_checkpoint_path` of a request.

        Raises:
          UserError: no such weights, or they do not fit; the runner is of no use then.
        """
        from ffn.models.predictor import load_weights

        request = inference_pb2.InferenceRequest()
        request.CopyFrom(self.request)
        request.model_checkpoint_path = path
        self.request, self._weights = request, resolve_checkpoint(path)
        load_weights(self._model, self._with_weights())

    def _with_weights(self) -> inference_pb2.InferenceRequest:
        """The request with the checkpoint that is used, where it names a folder."""
        request = inference_pb2.InferenceRequest()
        request.CopyFrom(self.request)
        request.model_checkpoint_path = self._weights
        return request

    def _made_with(self) -> bytes:
        """The request that is stored with a result: with the weights and precision that were used."""
        request = self._with_weights()
        absolute_paths(request)
        if request.precision == 'auto':
            request.precision = self.precision
        return request.SerializeToString()

    def _open(self, decorated: inference_pb2.DecoratedVolume, what: str) -> Volume:
        return self._resources.enter_context(open_decorated(decorated, what))

    @property
    def volume_box(self) -> Box:
        """The voxels of the image volume."""
        return self._image.box

    @property
    def known_box(self) -> Box:
        """The voxels of the image volume that init_segmentation, if there is one, covers as well.

        Raises:
          UserError: the two do not overlap.
        """
        if self._init_segmentation is None:
            return self.volume_box
        both = self.volume_box.intersection(self._init_segmentation.box)
        if both is None:
            raise UserError(
                f'init_segmentation, {self._init_segmentation.box}, lies outside the image, '
                f'{self.volume_box}'
            )
        return both

    def clip(self, box: Box) -> Box:
        """Clips a box to the volume, with a warning.

        Raises:
          UserError: outside, or smaller than the field of view.
        """
        clipped, less = self._clip(box)
        if less:
            logging.warning(
                'box %s leaves the volume, which covers %s; clipped to %s',
                box, self.volume_box, clipped,
            )  # fmt: skip
        return clipped

    def _clip(self, box: Box) -> tuple[Box, bool]:
        return clip_box(box, self.volume_box, self.info.input_image_size, self._image.name)

    def make_canvas(
        self, corner_zyx: Sequence[int], size_zyx: Sequence[int], keep_history: bool = False
    ) -> tuple[Canvas, Alignment]:
        """Makes an empty canvas.

        Args:
          corner_zyx: first voxel of the subvolume.
          size_zyx: its shape; what leaves the volume is clipped.
          keep_history: record every step.

        Returns:
          The canvas, and where it lies.

        Raises:
          UserError: see `clip`; also masks that do not fit.
        """
        box = self.clip(Box.from_zyx(corner_zyx, size_zyx))
        counters = Counters()
        with counters.timed('load-image'):
            image = self._image.read(box)
        if self._reference_cdf is not None:
            left_out = self._masks.build(self.request.histogram_masks, box, image)
            image = histogram.match_histogram(image, self._reference_cdf, left_out)
        restrictor = make_restrictor(
            self.request, box, image, self.info.input_image_size, self._masks
        )
        normalized = np.subtract(image, self.request.image_mean, dtype=np.float32)
        normalized /= np.float32(self.request.image_stddev)
        self._check_values(image, normalized, box)
        canvas = Canvas(
            self.info,
            self.executor.client(counters),
            normalized,
            self._options,
            restrictor=restrictor,
            movement_policy=(self.request.movement_policy_name, self.request.movement_policy_args),
            corner_zyx=box.start.zyx,
            voxel_size_zyx=voxel_size_zyx(self.request),
            counters=counters,
            keep_history=keep_history,
        )
        if self._init_segmentation is not None:
            canvas.prefill(self._init_segmentation.read(box))
        return canvas, Alignment(box.start.zyx, box.size.zyx)

    def _check_values(self, image: np.ndarray, normalized: np.ndarray, box: Box) -> None:
        low, high = normalized.min(), normalized.max()
        if not np.isfinite(low + high):
            raise UserError(f'the image holds voxels that are no finite numbers in {box}')
        if high > low and (high < -_FAR or low > _FAR) and not self._told:
            self._told = True  # once, not for every subvolume
            logging.warning(
                'the image has values from %g to %g in %s, far from image_mean %g and image_stddev %g; '
                'do these belong to this image?',
                image.min(), image.max(), box, self.request.image_mean, self.request.image_stddev,
            )  # fmt: skip

    def run(self, corner_zyx: Sequence[int], size_zyx: Sequence[int]) -> Canvas | None:
        """Segments a subvolume and writes the result; goes on from its checkpoint if there is one.

        Args:
          corner_zyx: first voxel of the subvolume.
          size_zyx: its shape; what leaves the volume is clipped.

        Returns:
          The canvas, or None where the result exists already.

        Raises:
          UserError: see `make_canvas`; also a folder that cannot be written to.
          Interrupted: `stop` was set; a checkpoint has been saved.
        """
        directory = self._output_dir()
        corner = self._clip(Box.from_zyx(corner_zyx, size_zyx))[0].start.zyx
        saved = storage.subvolume_path(directory, corner, 'cpoint')
        if (there := storage.existing_path(directory, corner, 'npz')) is not None:
            logging.info('%s exists; the subvolume is skipped', there)
            # Left behind by a run that was killed between writing the one and removing the other.
            saved.unlink(missing_ok=True)
            return None
        canvas, _ = self.make_canvas(corner_zyx, size_zyx)
        if canvas.restrictor.everything_masked:
            logging.info('every voxel of the subvolume is masked')
            canvas.counters.add('everything-masked')
        else:
            canvas = self._restored(canvas, saved)
            checkpointer = checkpoint.Checkpointer(
                saved, self.request.checkpoint_interval, self.stop, self._settings()
            )
            self._segment(canvas, checkpointer)
        if (there := storage.existing_path(directory, corner, 'npz')) is not None:
            logging.warning('%s has been written by another process meanwhile; it stays', there)
        else:
            self._save(canvas, directory)
        saved.unlink(missing_ok=True)
        self.counters.merge(canvas.counters.as_dict())
        return canvas

    def run_in_memory(
        self, corner_zyx: Sequence[int], size_zyx: Sequence[int],
        observer: Callable[[Canvas], None] = lambda canvas: None,
    ) -> Canvas:  # fmt: skip
        """Segments a subvolume and writes nothing.

        Args:
          corner_zyx: first voxel of the subvolume.
          size_zyx: its shape; what leaves the volume is clipped.
          observer: called with the canvas after every step and every seed; to end the run, it
            raises Interrupted.

        Returns:
          The canvas; of a run that was ended, with the objects that were finished.

        Raises:
          UserError: see `make_canvas`.
        """
        canvas, _ = self.make_canvas(corner_zyx, size_zyx)
        if not canvas.restrictor.everything_masked:
            self._give_seed_policy(canvas)
            with contextlib.suppress(Interrupted):
                self._segment(canvas, observer)
        np.maximum(canvas.segmentation, 0, out=canvas.segmentation)
        return canvas

    def _segment(self, canvas: Canvas, observer: Callable[[Canvas], None]) -> None:
        # Progress is shown before the observer, which may end the run.
        with self.on_canvas(canvas), canvas.observed_by(observer), self.executor.active():
            canvas.segment_all(self._make_seed_policy)

    def _make_seed_policy(self, view: CanvasView) -> SeedPolicy:
        return registry.make_policy(view, self.request.seed_policy, self.request.seed_policy_args)

    def _give_seed_policy(self, canvas: Canvas) -> None:
        canvas.seed_policy = self._make_seed_policy(canvas.view)

    def _output_dir(self) -> Path:
        if not self.request.segmentation_output_dir:
            raise UserError('segmentation_output_dir is not set; it says where the result goes')
        directory = Path(self.request.segmentation_output_dir)
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise UserError(f'segmentation_output_dir {directory} may not be written to')
        return directory

    def _settings(self) -> bytes:
        """The parts of the request that decide the result."""
        deciding = inference_pb2.InferenceRequest()
        deciding.CopyFrom(self.request)
        for name in ('checkpoint_interval', 'batch_size', 'concurrent_requests', 'precision'):
            deciding.ClearField(name)
        if self.precision != 'float32':
            deciding.precision = self.precision
        deciding.model_checkpoint_path = self._weights
        return deciding.SerializeToString(deterministic=True)

    def _restored(self, canvas: Canvas, path: Path) -> Canvas:
        """Gives a canvas its seed policy and the state of its checkpoint, if there is one."""
        self._give_seed_policy(canvas)
        if not path.exists():
            return canvas
        try:
            checkpoint.restore_checkpoint(canvas, path, self._settings())
            logging.info('going on from %s: %d objects', path, len(canvas.origins))
            canvas.resumed_steps = canvas.counters['predict-calls']
            return canvas
        except UserError as error:
            aside = _free_name(path.with_suffix('.cpoint.aside'))
            path.replace(aside)
            logging.warning('%s; it is moved to %s and the subvolume starts afresh', error, aside)
            afresh, _ = self.make_canvas(canvas.corner_zyx, canvas.shape)
            return self._restored(afresh, path)

    def _save(self, canvas: Canvas, directory: Path) -> None:
        around_network_ms = (
            canvas.counters['segment_at-loop-time-ms'] - canvas.counters['predict-time-ms']
        )
        canvas.counters.add('inference-not-predict-ms', max(around_network_ms, 0))
        storage.save_result(
            directory,
            canvas.corner_zyx,
            canvas.segmentation,
            canvas.origins,
            self._made_with(),
            canvas.counters.as_dict(),
            canvas.overlaps,
            canvas.seg_prob,
            canvas.given_ids(),
        )


def _free_name(path: Path) -> Path:
    """The path, or with a number behind it where there is such a file already."""
    number = 1
    while (free := path.with_name(f'{path.name}{number}' if number > 1 else path.name)).exists():
        number += 1
    return free
