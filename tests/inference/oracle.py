"""A network that knows the answer, small enough to follow by hand: for tests of what is around it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from scipy import ndimage

from ffn.inference.core.canvas import Canvas
from ffn.inference.core.options import CanvasOptions
from ffn.inference.executor import Predict
from ffn.models.info import ModelInfo
from ffn.utils.geometry import Xyz
from ffn.utils.logits import logit

OPTIONS = {
    'init_activation': logit(0.95),
    'pad_value': logit(0.05),
    'move_threshold': logit(0.9),
    'segment_threshold': logit(0.6),
}

# For volume.h5 of a folder and `stand_in`.
REQUEST = """
image {{ hdf5: "{folder}/volume.h5:raw" }}
image_mean: 0
image_stddev: 1
checkpoint_interval: 1
seed_policy: "SequentialPolicies"
seed_policy_args: '{{"policies": [["PolicyGrid3d", {{"step": 9}}], ["PolicyFillEmptySpace", {{}}]]}}'
model_checkpoint_path: "none"
model_name: "none"
segmentation_output_dir: "{folder}/results"
inference_options {{
  init_activation: 0.95
  pad_value: 0.05
  move_threshold: 0.9
  segment_threshold: 0.6
  disco_seed_threshold: -1
  min_segment_size: 30
}}
"""


def model_info() -> ModelInfo:
    """Sizes of a model, different along each axis."""
    fov, deltas = Xyz(9, 7, 5), Xyz(3, 2, 1)
    return ModelInfo(deltas, fov, fov, fov)


class OracleNetwork:
    """Takes the image for the labels; grows the object in the centre of the field of view."""

    def __init__(self, high: float = 4.0, low: float = -4.0):
        self.steps = 0
        self.high, self.low = high, low

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """See `ffn.inference.core.protocols.Network`."""
        self.steps += 1
        center = tuple(n // 2 for n in image.shape)
        inside = (image == image[center]) & (image > 0)
        # A little less away from the centre, so that the middles of the faces are the maxima.
        away = sum(abs(i - c) for i, c in zip(np.ogrid[tuple(map(slice, image.shape))], center))
        return np.where(inside, self.high - 0.001 * away, self.low).astype(np.float32)


class SeedNetwork:
    """Grows what is as bright as the centre, by a few voxels a step: what was there before decides."""

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """See `ffn.inference.core.protocols.Network`."""
        center = tuple(n // 2 for n in image.shape)
        near = ndimage.maximum_filter(seed, (3, 5, 7)) > 0
        inside = near & (image == image[center]) & (image > 0)
        step = np.where(inside, 8 + image / 16, -2)
        return np.clip(seed + step, -5, 6 + image / 8).astype(np.float32)


def batched(network) -> Predict:
    """A network of single fields of view as the executor takes it."""

    def predict(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        pairs = zip(images[..., 0], seeds[..., 0], strict=True)
        return np.stack([network.predict(*pair) for pair in pairs])[..., np.newaxis]

    return predict


def stand_in(predict: Predict) -> SimpleNamespace:
    """Stands in for ffn.models.predictor, so that a runner needs no framework."""
    model = SimpleNamespace(info=model_info())
    return SimpleNamespace(load_model=lambda *_, **__: model, make_predictor=lambda model: predict)


def oracle_canvas(labels: np.ndarray, network=None, **kwargs) -> Canvas:
    """A canvas whose image is a label volume.

    Args:
      labels: [z, y, x].
      network: default: OracleNetwork.
      **kwargs: fields of CanvasOptions, or arguments of Canvas.
    """
    options = {
        name: kwargs.pop(name)
        for name in list(kwargs)
        if name in CanvasOptions.__dataclass_fields__
    }
    return Canvas(
        kwargs.pop('info', model_info()),
        network or OracleNetwork(),
        labels.astype(np.float32),
        CanvasOptions(**{**OPTIONS, **options}),
        **kwargs,
    )


def two_blocks(shape_zyx=(20, 24, 30)) -> np.ndarray:
    """Label 1 in the half of small x, label 2 in the other; background at the border."""
    labels = np.zeros(shape_zyx, dtype=np.int32)
    labels[3:-3, 3:-3, 3:-3] = 1
    labels[:, :, shape_zyx[2] // 2 :] *= 2
    return labels


def object_mask(canvas: Canvas) -> np.ndarray:
    """The voxels that a segment would be made of: bool [z, y, x]."""
    likely = np.nan_to_num(canvas.seed, nan=-np.inf) >= canvas.options.segment_threshold
    return likely & (canvas.segmentation <= 0)
