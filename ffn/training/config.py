"""What the training loop is told, checked; no flags here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ffn.training.augmentation_config import AugmentationConfig
from ffn.training.optimizer_config import OptimizerConfig
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx

# Keras takes seconds to load; mistakes in the settings show before.
if TYPE_CHECKING:
    from ffn.models.model import ModelInfo

POLICIES = ('fixed', 'window', 'max_pred_moves', 'no_step')
PRECISIONS = ('float32', 'bfloat16', 'float16')
# What voxels of the object and of everything else are trained towards.
SOFT_LABELS = (0.95, 0.05)


@dataclass(frozen=True)
class DataConfig:
    """Where examples come from and how they are varied.

    Attributes:
      train_coords: coordinate files; a glob, a comma list, or path@N for N shards.
      data_volumes: name → image volume.
      label_volumes: name → label volume.
      image_mean: subtracted from the image.
      image_stddev: divides it afterwards.
      offset_scale: name → (mean, stddev) of volumes that differ.
      permutable_axes: z, y, x indices of axes that may be exchanged.
      reflectable_axes: z, y, x indices of axes that may be reversed.
      augmentation: further random changes.
      volume_weights: name → share of the examples that come from it, in any unit; empty: volumes are
        as frequent as their coordinates.
      loss_weight_volumes: name → volume of weights of each voxel in the loss; others count 1.
      skip_corrupt_records: leaves out what is damaged of a coordinate file, instead of an error.
    """

    train_coords: str
    data_volumes: Mapping[str, str]
    label_volumes: Mapping[str, str]
    image_mean: float
    image_stddev: float
    offset_scale: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    permutable_axes: tuple[int, ...] = (1, 2)
    reflectable_axes: tuple[int, ...] = (0, 1, 2)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    volume_weights: Mapping[str, float] = field(default_factory=dict)
    loss_weight_volumes: Mapping[str, str] = field(default_factory=dict)
    skip_corrupt_records: bool = False

    def __post_init__(self) -> None:
        for name, axes in (
            ('permutable_axes', self.permutable_axes),
            ('reflectable_axes', self.reflectable_axes),
        ):
            if not set(axes) <= {0, 1, 2} or len(set(axes)) != len(axes):
                raise UserError(
                    f'--{name} is {",".join(map(str, axes))}; expected distinct indices of z, y, x: '
                    '0, 1, 2'
                )
        stddevs = [self.image_stddev, *(scale for _, scale in self.offset_scale.values())]
        if not all(stddev > 0 for stddev in stddevs):
            raise UserError(f'image_stddev is {min(stddevs):g}; expected a positive number')
        for what, names in (
            ('--label_volumes', self.label_volumes),
            ('--data_volumes', self.data_volumes),
        ):
            missing = (set(self.data_volumes) | set(self.label_volumes)) - set(names)
            if missing:
                raise UserError(
                    f'{what} lacks {", ".join(sorted(missing))}: every volume needs image and labels'
                )
        for what, names in (
            ('image_offset_scale_map', self.offset_scale),
            ('volume_weights', self.volume_weights),
            ('loss_weight_volumes', self.loss_weight_volumes),
        ):
            unknown = set(names) - set(self.data_volumes)
            if unknown:
                raise UserError(
                    f'--{what} names {", ".join(sorted(unknown))}, which --data_volumes lacks'
                )
        if self.volume_weights and not (
            all(0 <= weight < math.inf for weight in self.volume_weights.values())
            and sum(self.volume_weights.values()) > 0
        ):
            raise UserError(
                f'--volume_weights are {dict(self.volume_weights)}; expected numbers from 0, not all 0'
            )

    def normalization(self, name: str) -> tuple[float, float]:
        """Mean and standard deviation of a volume's image."""
        return self.offset_scale.get(name, (self.image_mean, self.image_stddev))


@dataclass(frozen=True)
class WalkConfig:
    """How the field of view moves over an example.

    Attributes:
      fov_policy: one of POLICIES.
      fov_moves: how many deltas it may go away from the centre.
      shuffle_moves: whether the order of the fixed moves is random.
      seed_pad: probability that the seed begins with.
      threshold: probability from which on a voxel can be moved to.
      window_radius: of policy window: a move is possible where any voxel so near to its target, on
        the shell that the targets lie on, reaches the threshold.
    """

    fov_policy: str = 'fixed'
    fov_moves: int = 1
    shuffle_moves: bool = True
    seed_pad: float = 0.05
    threshold: float = 0.9
    window_radius: int = 1

    def __post_init__(self) -> None:
        if self.fov_policy not in POLICIES:
            raise UserError(
                f'--fov_policy is {self.fov_policy!r}; expected one of {", ".join(POLICIES)}'
            )
        least = 1 if self.fov_policy in ('fixed', 'window') else 0
        if self.fov_moves < least:
            raise UserError(
                f'--fov_moves is {self.fov_moves}; expected {least} or more with --fov_policy '
                f'{self.fov_policy}'
            )
        if self.window_radius < 0:
            raise UserError(f'--fov_window_radius is {self.window_radius}; expected 0 or more')
        for name in ('seed_pad', 'threshold'):
            if not 0 < getattr(self, name) < 1:
                raise UserError(
                    f'--{name} is {getattr(self, name):g}; expected a probability between 0 and 1'
                )

    def patch_size(self, info: ModelInfo) -> Zyx:
        """Size of the patches that are loaded."""
        return self._size(info, self.fov_moves + (self.fov_policy == 'max_pred_moves'))

    def eval_size(self, info: ModelInfo) -> Zyx:
        """Size of their middle part that finished patches are judged by."""
        return self._size(info, self.fov_moves)

    def _size(self, info: ModelInfo, moves: int) -> Zyx:
        pairs = zip(info.input_image_size.zyx, info.deltas.zyx, strict=True)
        return Zyx(*(fov + 2 * delta * moves for fov, delta in pairs))


@dataclass(frozen=True)
class CheckpointConfig:
    """When a run is saved, and what is kept.

    Attributes:
      steps: steps between checkpoints; 0: by time alone.
      minutes: minutes between checkpoints; 0: by steps alone.
      keep: number of newest ones kept; 0: all.
      keep_every_hours: one is kept for good whenever so long has passed; 0: none.
    """

    steps: int = 0
    minutes: float = 10
    keep: int = 5
    keep_every_hours: float = 0

    def __post_init__(self) -> None:
        for flag, value in (
            ('checkpoint_steps', self.steps),
            ('checkpoint_minutes', self.minutes),
            ('keep_checkpoints', self.keep),
            ('keep_checkpoint_every_n_hours', self.keep_every_hours),
        ):
            if value < 0:
                raise UserError(f'--{flag} is {value:g}; expected 0 or more')


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
      data: examples.
      walk: movement.
      optimizer: learning.
      model_name: '[package.]module.Class'.
      model_args: its arguments.
      train_dir: folder for checkpoints and event files.
      checkpoints: when to save.
      batch_size: examples that are walked at the same time, on each device.
      max_steps: when to end.
      summary_seconds: time between summaries for TensorBoard.
      precision: what the network computes in, one of PRECISIONS; weights and logits stay float32.
      init_checkpoint: weights to begin with, where train_dir has no checkpoint yet.
      eval_steps: steps between evaluations of a held-out box; 0: none.
      voxel_size: physical size x, y, z of a voxel, noted for inference; None: not known.
      seed: of initial weights, order of examples and augmentation.
      quiet: no progress bar.
    """

    data: DataConfig
    walk: WalkConfig
    optimizer: OptimizerConfig
    model_name: str
    model_args: Mapping[str, Any]
    train_dir: str
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    batch_size: int = 4
    max_steps: int = 10000
    summary_seconds: float = 120
    precision: str = 'float32'
    init_checkpoint: str = ''
    eval_steps: int = 0
    voxel_size: tuple[float, float, float] | None = None
    seed: int = 0
    quiet: bool = False

    def __post_init__(self) -> None:
        for name in ('batch_size', 'max_steps'):
            if getattr(self, name) < 1:
                raise UserError(f'--{name} is {getattr(self, name)}; expected 1 or more')
        if self.seed < 0:
            raise UserError(f'--seed is {self.seed}; expected 0 or more')
        if self.precision not in PRECISIONS:
            raise UserError(
                f'--precision is {self.precision!r}; expected one of {", ".join(PRECISIONS)}'
            )
        if self.voxel_size is not None and not all(0 < n < math.inf for n in self.voxel_size):
            raise UserError(
                f'--voxel_size is {",".join(map(str, self.voxel_size))}; expected positive x,y,z'
            )

    def check_model(self, info: ModelInfo) -> None:
        """Checks the model's sizes against the augmentation.

        Raises:
          UserError: axes that may be exchanged differ in FOV size or delta.
        """
        axes = self.data.permutable_axes
        for what, sizes in (('FOV sizes', info.input_image_size), ('deltas', info.deltas)):
            used = {sizes.zyx[axis] for axis in axes}
            if len(used) > 1:
                raise UserError(
                    f'--permutable_axes {",".join(map(str, axes))} (z, y, x indices) have different '
                    f'{what}: {sizes.zyx}; axes that are exchanged must be equal'
                )
