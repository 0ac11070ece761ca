"""From a configuration and a box to a segmentation on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from absl import logging

from ffn.inference import inference_pb2, request_identity, storage
from ffn.inference.config import InferenceConfig
from ffn.inference.core import checkpoint, movement
from ffn.inference.core.canvas import Canvas, Interrupted
from ffn.inference.core.counters import Counters
from ffn.inference.core.device_canvas import DeviceCanvas
from ffn.inference.core.view import Alignment, CanvasView
from ffn.inference.device_executor import DeviceExecutor
from ffn.inference.executor import Executor
from ffn.inference.from_training import warn_of_contradictions
from ffn.inference.input_identity import earlier_seeds, identify
from ffn.inference.input_volumes import InputVolumes
from ffn.inference.int8_ranges import with_ranges
from ffn.inference.network import load_network, make_executor, weights_digest
from ffn.inference.request import make_config
from ffn.inference.request_identity import CheckpointIdentity, compare_settings
from ffn.inference.restrictions import find_nothing
from ffn.inference.seeds import registry
from ffn.inference.seeds.policy import SeedPolicy
from ffn.inference.serialization import serialize_request
from ffn.utils import event_log
from ffn.utils.atomic import make_folder, set_aside
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Zyx
from ffn.utils.locks import exclusive_file, one_writer

if TYPE_CHECKING:
    from ffn.models.info import ModelInfo
    from ffn.models.model import FFNModel

C = TypeVar('C', bound=Canvas)
# What `Canvas.idle` says, in words; with dashes, the name of a counter.
_IDLE = {'masked': 'everything masked', 'constant': 'image constant'}


class Runner:
    """Segments subvolumes with one network; a context manager.

    `Runner(config)` is ready to run. `Runner()` is what notebooks have; it becomes so by `start`.

    Attributes:
      config: what to do, with the checkpoint and the precision that are used.
      info: sizes of the network.
      precision: what the network computes in.
      executor: runs the network for all canvases.
      counters: sums over all subvolumes.
      stop: set it to end a run after saving a checkpoint.
      on_canvas: called with each canvas; the context that it returns holds while the canvas is segmented.
    """

    config: InferenceConfig
    info: ModelInfo
    precision: str
    executor: Executor

    def __init__(
        self,
        config: InferenceConfig | None = None,
        model: FFNModel | None = None,
        *,
        on_canvas: Callable[[Canvas], contextlib.AbstractContextManager[object]] | None = None,
    ):
        """Opens the volumes and loads the network.

        Args:
          config: what to do; None leaves it to `start`.
          model: a network to use instead of the one that the configuration names; its weights are used
            as they are at each step.
          on_canvas: see the attribute.

        Raises:
          UserError: something in the configuration does not fit.
        """
        self.counters, self._told = Counters(), set[str]()
        self.stop = threading.Event()
        self.on_canvas = on_canvas or (lambda canvas: contextlib.nullcontext())
        self._resources = contextlib.ExitStack()
        if config is not None:
            try:
                self._load(config, model)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the volumes."""
        self._resources.close()

    def start(
        self,
        request: inference_pb2.InferenceRequest | InferenceConfig,
        model: FFNModel | None = None,
    ) -> None:
        """Opens the volumes and loads the network, as notebooks do after `Runner()`.

        Args:
          request: what to do, complete.
          model: see `__init__`.

        Raises:
          UserError: something in the request does not fit.
        """
        if isinstance(request, inference_pb2.InferenceRequest):
            request = make_config(request, has_model=model is not None)
            if model is None:
                warn_of_contradictions(request)
        self._load(request, model)

    def _load(self, config: InferenceConfig, model: FFNModel | None) -> None:
        from ffn.models.precision import choose_precision

        movement.policy_class(config.movement_policy_name)  # before anything that takes time
        if config.seed_policy:
            registry.policy_class(config.seed_policy)
        self._volumes = self._resources.enter_context(InputVolumes(config))
        self.config = config = config.resolve()
        self._inputs = identify(config, weights_digest(config, model))
        self._model = load_network(config, model)
        self.info = self._model.info
        reach = [n // 2 for n in self.info.pred_mask_size.zyx]
        if read_as := movement.describe_deltas(config.movement_policy_args, reach):
            logging.info('%s', read_as)
        self.precision = choose_precision(config.precision)
        self._compile()

    def _compile(self) -> None:
        """Makes the executor, after the ranges that int8 needs have been found."""
        self.config = with_ranges(self.config, self._volumes, self._model)
        self.executor = make_executor(self.config, self._model)

    def use_checkpoint(self, path: str) -> None:
        """Replaces the weights of the network; the compiled network is kept. For int8, it and the ranges are made anew.

        Args:
          path: see `model_checkpoint_path` of a request.

        Raises:
          UserError: no such weights, or they do not fit; the runner must not be used afterwards.
        """
        from ffn.models.weights import load_weights

        self.config = dataclasses.replace(
            self.config, model_checkpoint_path=path, int8_ranges=()
        ).resolve()
        self._inputs = identify(self.config, weights_digest(self.config))
        load_weights(self._model, self.config.model_checkpoint_path, self.config.use_ema)
        if self.precision == 'int8':
            self._compile()

    @property
    def volume_box(self) -> Box:
        """The voxels of the image volume."""
        return self._volumes.box

    @property
    def known_box(self) -> Box:
        """The voxels of the image volume that init_segmentation, if there is one, covers as well.

        Raises:
          UserError: the two do not overlap.
        """
        return self._volumes.known_box

    def clip(self, box: Box) -> Box:
        """Clips a box to the volume, with a warning.

        Raises:
          UserError: outside, or smaller than the field of view.
        """
        clipped = self._clip(box)
        if clipped != box:
            boxes = box, self.volume_box, clipped
            logging.warning('box %s leaves the volume, which covers %s; clipped to %s', *boxes)
        return clipped

    def _clip(self, box: Box) -> Box:
        return self._volumes.clip(box, self.info.input_image_size)

    def make_canvas(
        self, corner_zyx: Sequence[int], size_zyx: Sequence[int], keep_history: bool = False
    ) -> tuple[Canvas, Alignment]:
        """Makes an empty canvas, as notebooks do; see `open_canvas`.

        Args:
          corner_zyx: first voxel of the subvolume.
          size_zyx: its shape; what leaves the volume is clipped.
          keep_history: record every step.

        Returns:
          The canvas, and where it lies.

        Raises:
          UserError: see `clip`; also masks that do not fit.
        """
        canvas = self.open_canvas(Box.from_zyx(corner_zyx, size_zyx), keep_history)
        return canvas, Alignment(canvas.corner_zyx, canvas.shape)

    def open_canvas(self, box: Box, keep_history: bool = False) -> Canvas:
        """Makes an empty canvas, filled with init_segmentation if there is one.

        Args:
          box: the subvolume; what leaves the volume is clipped, with a warning.
          keep_history: record every step.

        Raises:
          UserError: see `clip`; also masks that do not fit.
        """
        return self.open_canvas_as(Canvas, box, keep_history)

    def open_canvas_as(
        self, kind: type[C], box: Box, keep_history: bool = False, may_idle: bool = False
    ) -> C:
        """See `open_canvas`; `may_idle`: a canvas on which no object can be need not be ready for one."""
        box, config, counters = self.clip(box), self.config, Counters()
        image, restrictor = self._volumes.load(box, self.info.input_image_size, counters)
        labels = self._volumes.load_labels(box, restrictor)
        on_device = kind is Canvas and isinstance(self.executor, DeviceExecutor)
        make: Callable[..., Any] = DeviceCanvas if on_device else kind
        canvas: C = make(
            self.info,
            self.executor.client(counters),
            image,
            config.options,
            restrictor=restrictor,
            movement_policy=(config.movement_policy_name, config.movement_policy_args),
            corner_zyx=box.start.zyx,
            voxel_size_zyx=config.voxel_size_zyx,
            counters=counters,
            keep_history=keep_history,
            idle=find_nothing(image, restrictor, self.info.input_image_size) if may_idle else '',
        )
        if labels is not None:
            canvas.prefill(labels)
        return canvas

    def run(
        self, corner_zyx: Sequence[int], size_zyx: Sequence[int], *, wait: bool = True
    ) -> Canvas | None:
        """Segments a subvolume and writes the result; continues from its checkpoint if there is one.

        Args:
          corner_zyx: first voxel of the subvolume.
          size_zyx: its shape; what leaves the volume is clipped.
          wait: while another process is at this subvolume, wait; then most likely the result is there.

        Returns:
          The canvas, or None where the result exists already.

        Raises:
          UserError: see `open_canvas`; also a folder that cannot be written to, or a result of another size.
          Interrupted: `stop` was set; a checkpoint has been saved.
          InUseError: another process is at this subvolume, and `wait` is False.
        """
        directory, box = self._output_dir(), Box.from_zyx(corner_zyx, size_zyx)
        clipped = self._clip(box)
        corner = clipped.start.zyx
        with event_log.fields(subvolume='_'.join(map(str, corner.xyz))):
            if storage.is_finished(directory, corner) and self._exists(directory, clipped):
                return None
            path = storage.subvolume_path(directory, corner, 'npz')
            with one_writer(path, self._pause) if wait else exclusive_file(path):
                there = self._exists(directory, clipped)
                return None if there else self._run(directory, box, corner)

    def _exists(self, directory: Path, box: Box) -> bool:
        if (there := storage.existing_path(directory, box.start.zyx, 'npz')) is None:
            return False
        request_identity.check_result(self.config, self._inputs, there, box, self._told)
        logging.info('%s exists; the subvolume is skipped', there)
        # Of a run that was killed between writing the one and removing the other.
        storage.subvolume_path(directory, box.start.zyx, 'cpoint').unlink(missing_ok=True)
        return True

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Interrupted('stopped while another process was at the subvolume')

    def _run(self, directory: Path, box: Box, corner: Zyx) -> Canvas:
        """See `run`; there is no result yet."""
        saved = storage.subvolume_path(directory, corner, 'cpoint')
        inputs = {**self._inputs, **earlier_seeds(self.config, corner)}
        canvas = self.open_canvas_as(Canvas, box, may_idle=True)
        if canvas.idle:
            reason = _IDLE[canvas.idle]
            logging.info('%s: %s; nothing to segment', box, reason)
            canvas.counters.add(reason.replace(' ', '-'))
        else:
            identity = request_identity.checkpoint_identity(self.config, self.precision, inputs)
            canvas = self._restored(canvas, saved, identity)
            interval = self.config.checkpoint_interval
            checkpointer = checkpoint.Checkpointer(saved, interval, self.stop, *identity)
            self._segment(canvas, checkpointer)
        if (there := storage.existing_path(directory, corner, 'npz')) is not None:
            logging.warning('%s has been written by another process meanwhile; it stays', there)
        else:
            self._save(canvas, directory, inputs)
        saved.unlink(missing_ok=True)
        self.counters.merge(canvas.counters.as_dict())
        return canvas

    def run_in_memory(
        self,
        corner_zyx: Sequence[int],
        size_zyx: Sequence[int],
        observer: Callable[[Canvas], None] = lambda canvas: None,
    ) -> Canvas:
        """Segments a subvolume and writes nothing.

        Args:
          corner_zyx: first voxel of the subvolume.
          size_zyx: its shape; what leaves the volume is clipped.
          observer: called with the canvas after every step and every seed; to end the run, it
            raises Interrupted.

        Returns:
          The canvas; of a run that was ended, with the objects that were finished.

        Raises:
          UserError: see `open_canvas`.
        """
        canvas = self.open_canvas_as(Canvas, Box.from_zyx(corner_zyx, size_zyx), may_idle=True)
        if not canvas.idle:
            canvas.seed_policy = self._make_seed_policy(canvas.view)
            with contextlib.suppress(Interrupted):
                self._segment(canvas, observer)
        np.maximum(canvas.segmentation, 0, out=canvas.segmentation)
        return canvas

    def _segment(self, canvas: Canvas, observer: Callable[[Canvas], None]) -> None:
        # Progress is shown before the observer, which may end the run.
        with (
            event_log.fields(step=lambda: canvas.counters['predict-calls']),
            self.on_canvas(canvas),
            canvas.observed_by(observer),
            self.executor.active(),
        ):
            canvas.segment_all(self._make_seed_policy)

    def _make_seed_policy(self, view: CanvasView) -> SeedPolicy:
        return registry.make_policy(view, self.config.seed_policy, self.config.seed_policy_args)

    def _output_dir(self) -> Path:
        directory = self.config.results_folder
        make_folder(directory)
        if not os.access(directory, os.W_OK):
            raise UserError(f'segmentation_output_dir {directory} may not be written to')
        return directory

    def _restored(self, canvas: Canvas, path: Path, identity: CheckpointIdentity) -> Canvas:
        """Gives a canvas its seed policy and the state of its checkpoint, if there is one."""
        canvas.seed_policy = self._make_seed_policy(canvas.view)
        if not path.exists():
            return canvas
        try:
            checkpoint.restore_checkpoint(canvas, path, *identity, compare_settings)
            logging.info('going on from %s: %d objects', path, len(canvas.origins))
            canvas.resumed_steps = canvas.counters['predict-calls']
            return canvas
        except UserError as error:
            set_aside(path, f'{error}; the subvolume starts afresh')
            afresh = self.open_canvas(Box.from_zyx(canvas.corner_zyx, canvas.shape))
            return self._restored(afresh, path, identity)

    def _save(self, canvas: Canvas, directory: Path, inputs: dict[str, str]) -> None:
        took = canvas.counters
        around_network_ms = took['segment_at-loop-time-ms'] - took['predict-time-ms']
        canvas.counters.add('inference-not-predict-ms', max(around_network_ms, 0))
        storage.save_result(
            directory,
            canvas.corner_zyx,
            canvas.segmentation,
            canvas.origins,
            serialize_request(self.config),
            canvas.counters.as_dict(),
            canvas.overlaps,
            canvas.seg_prob,
            inputs=inputs,
            **canvas.about_prefilled(),
        )
