"""The ranges of activations that precision int8 needs, found by a short flood on the image itself.

They decide the result. They are therefore written into the request that results store, and kept beside the
checkpoint, in NAME.int8-XXXXXXXX.json, so that every process that segments this image uses the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from ffn.inference.config import InferenceConfig
from ffn.inference.core.canvas import Canvas, Interrupted
from ffn.inference.core.counters import Counters
from ffn.inference.core.protocols import Network
from ffn.inference.input_volumes import InputVolumes
from ffn.inference.network import load_network
from ffn.inference.restrictions import find_nothing
from ffn.inference.seeds import registry
from ffn.inference.serialization import absolute_paths, to_message
from ffn.models.checkpoints import KERAS_ENDING
from ffn.utils import checksums
from ffn.utils.atomic import write_json
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.locks import one_writer

if TYPE_CHECKING:
    from ffn.models.model import FFNModel

# Fields of view that are looked at, every so many steps of the flood.
_PATCHES, _EVERY = 16, 4
_FEWEST = 4
# Edge of a box that is flooded, in fields of view.
_BOX = 4


def settle(config: InferenceConfig) -> InferenceConfig:
    """Fills in the ranges of a configuration; see `with_ranges`.

    Raises:
      UserError: also volumes or a network that do not fit.
    """
    if config.precision != 'int8' or config.int8_ranges:
        return config
    with InputVolumes(config) as volumes:
        return with_ranges(config, volumes, load_network(config))


def with_ranges(config: InferenceConfig, volumes: InputVolumes, model: FFNModel) -> InferenceConfig:
    """Fills in the ranges of a configuration, if it needs them and has none.

    Args:
      config: resolved.
      volumes: its volumes.
      model: its network, in float32 if it needs ranges.

    Raises:
      UserError: nothing grows where it was tried, or the file of ranges is damaged.
    """
    if config.precision != 'int8' or config.int8_ranges:
        return config
    return dataclasses.replace(config, int8_ranges=_find_ranges(config, volumes, model))


def _find_ranges(
    config: InferenceConfig, volumes: InputVolumes, model: FFNModel
) -> tuple[float, ...]:
    """Reads the ranges that lie beside the checkpoint, or finds them and writes them there."""
    found_for = _found_for(config, model)
    name = config.model_checkpoint_path.removesuffix(KERAS_ENDING)
    path = Path(f'{name}.int8-{checksums.digest(found_for)[:8]}.json')
    with _locked(path) as writable:
        if path.exists():
            return read_ranges(path)
        ranges = _measure(config, volumes, model)
        if writable:
            write_json(path, checksums.sealed({**found_for, 'ranges': ranges}))
            logging.info('precision int8: ranges of this image are in %s', path)
    return ranges


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Lets one process find ranges, while others wait; yields whether the file can be written."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(one_writer(path))
            writable = True
        except OSError as error:
            logging.warning(
                '%s: %s; ranges for int8 are not kept, and every run finds them anew',
                path,
                error.strerror,
            )
            writable = False
        yield writable


def _found_for(config: InferenceConfig, model: FFNModel) -> dict[str, Any]:
    """What the ranges depend on, as JSON."""
    weights = hashlib.sha256()
    for values in model.get_weights():
        weights.update(np.ascontiguousarray(values).tobytes())
    request = to_message(config)
    absolute_paths(request)
    factors = config.image.downsample
    resolution = {} if factors is None else {'image_downsample': list(factors)}
    return resolution | {
        'weights_sha256': weights.hexdigest(),
        'model_name': config.model_name,
        'model_args': dict(config.model_args),
        'image': request.image.hdf5 or request.image.tensorstore,
        'image_mean': config.image_mean,
        'image_stddev': config.image_stddev,
        'reference_histogram': config.reference_histogram,
        'histogram_per_subvolume': config.histogram_per_subvolume,
    }


def read_ranges(path: Path) -> tuple[float, ...]:
    """Reads a file of ranges.

    Raises:
      UserError: it is damaged.
    """
    advice = 'remove it, and it is made anew'
    found = checksums.unsealed(path.read_bytes(), path, advice).get('ranges')
    if not isinstance(found, list) or not all(type(n) is float and 0 < n < np.inf for n in found):
        raise UserError(f'{path} is damaged: ranges is {found!r:.80}; {advice}')
    return tuple(found)


def _measure(config: InferenceConfig, volumes: InputVolumes, model: FFNModel) -> tuple[float, ...]:
    """Floods boxes of the image until there are enough fields of view."""
    from ffn.models.int8 import measure_ranges
    from ffn.models.predictor import make_predictor

    volumes.clip(volumes.box, model.info.input_image_size)  # refuses an image smaller than that
    logging.info('precision int8: a short flood finds the ranges of activations')
    network = _Recorder(make_predictor(model))
    for box in _boxes(volumes.box, model.info.input_image_size):
        _flood(config, volumes, model, network, box)
        if len(network.seen) >= _PATCHES:
            break
    if len(network.seen) < _FEWEST:
        raise UserError(
            f'precision int8 finds its ranges by a short flood, and nothing grew in the middle of {volumes.box} and '
            "around; use precision 'bfloat16', or give int8_ranges"
        )
    images, seeds = zip(*network.seen, strict=True)
    return measure_ranges(model, images, seeds)


def _boxes(whole: Box, fov: Xyz) -> Iterator[Box]:
    """Boxes in the middle of a volume, and in the middle of each of its octants."""
    size = Xyz(*(min(n, _BOX * f) for n, f in zip(whole.size, fov, strict=True)))
    for parts in [(2, 2, 2), *itertools.product((1, 3), repeat=3)]:
        start = (
            low + min(max(n * part // 4 - s // 2, 0), n - s)
            for low, n, s, part in zip(whole.start, whole.size, size, parts, strict=True)
        )
        yield Box(Xyz(*start), size)


class _Recorder(Network):
    """A network that keeps what it is shown now and then."""

    def __init__(self, predict: Any):
        self._predict, self._calls = predict, 0
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """See `ffn.inference.executor.Executor.predict`."""
        self._calls += 1
        if self._calls % _EVERY == 0:
            self.seen.append((image.copy(), seed.copy()))
        image, seed = (np.ascontiguousarray(a)[np.newaxis, ..., np.newaxis] for a in (image, seed))
        logits: np.ndarray = self._predict(image, seed)[0, ..., 0]
        return logits


def _flood(
    config: InferenceConfig, volumes: InputVolumes, model: FFNModel, network: _Recorder, box: Box
) -> None:
    image, restrictor = volumes.load(box, model.info.input_image_size, Counters())
    if find_nothing(image, restrictor, model.info.input_image_size):
        return
    canvas = Canvas(
        model.info,
        network,
        image,
        config.options,
        restrictor=restrictor,
        movement_policy=(config.movement_policy_name, config.movement_policy_args),
        corner_zyx=box.start.zyx,
        voxel_size_zyx=config.voxel_size_zyx,
    )

    def enough(canvas: Canvas) -> None:
        if len(network.seen) >= _PATCHES:
            raise Interrupted('enough fields of view')

    with contextlib.suppress(Interrupted), canvas.observed_by(enough):
        canvas.segment_all(lambda view: registry.make_policy(view, 'PolicyPeaks', {}))
