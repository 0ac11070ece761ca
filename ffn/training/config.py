"""What the training loop is told, checked; no flags here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx

# Keras takes seconds to load; mistakes in the settings show before.
if TYPE_CHECKING:
    from ffn.training.model import ModelInfo

POLICIES = ('fixed', 'max_pred_moves', 'no_step')
OPTIMIZERS = ('sgd', 'momentum', 'adagrad', 'adam', 'rmsprop')
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
    """

    train_coords: str
    data_volumes: Mapping[str, str]
    label_volumes: Mapping[str, str]
    image_mean: float
    image_stddev: float
    offset_scale: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    permutable_axes: tuple[int, ...] = (1, 2)
    reflectable_axes: tuple[int, ...] = (0, 1, 2)

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
        unknown = set(self.offset_scale) - set(self.data_volumes)
        if unknown:
            raise UserError(
                f'--image_offset_scale_map names {", ".join(sorted(unknown))}, which --data_volumes '
                'lacks'
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
    """

    fov_policy: str = 'fixed'
    fov_moves: int = 1
    shuffle_moves: bool = True
    seed_pad: float = 0.05
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if self.fov_policy not in POLICIES:
            raise UserError(
                f'--fov_policy is {self.fov_policy!r}; expected one of {", ".join(POLICIES)}'
            )
        least = 1 if self.fov_policy == 'fixed' else 0
        if self.fov_moves < least:
            raise UserError(
                f'--fov_moves is {self.fov_moves}; expected {least} or more with --fov_policy '
                f'{self.fov_policy}'
            )
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
class OptimizerConfig:
    """How weights follow gradients.

    Attributes:
      optimizer: one of OPTIMIZERS.
      learning_rate: at the beginning.
      momentum: of momentum and rmsprop.
      decay_factor: the learning rate is multiplied by it every decay_steps; None: constant.
      decay_steps: training steps.
      rmsprop_decay: discount of old squared gradients.
      adam_beta1: discount of old gradients.
      adam_beta2: discount of old squared gradients.
      epsilon: keeps rmsprop and adam from dividing by nothing.
    """

    optimizer: str = 'sgd'
    learning_rate: float = 0.001
    momentum: float = 0.9
    decay_factor: float | None = None
    decay_steps: int | None = None
    rmsprop_decay: float = 0.9
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UserError(
                f'--optimizer is {self.optimizer!r}; expected one of {", ".join(OPTIMIZERS)}'
            )
        if not self.learning_rate > 0:
            raise UserError(f'--learning_rate is {self.learning_rate:g}; expected more than 0')
        if (self.decay_factor is None) != (self.decay_steps is None):
            raise UserError('--learning_rate_decay_factor and --decay_steps are needed together')
        if self.decay_steps is not None and self.decay_steps < 1:
            raise UserError(f'--decay_steps is {self.decay_steps}; expected 1 or more')
        for name in ('momentum', 'rmsprop_decay', 'adam_beta1', 'adam_beta2'):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f'--{name} is {getattr(self, name):g}; expected 0 or more, below 1')
        if not self.epsilon > 0:
            raise UserError(f'--epsilon is {self.epsilon:g}; expected more than 0')


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
      batch_size: examples that are walked at the same time.
      max_steps: when to end.
      summary_seconds: time between summaries for TensorBoard.
      checkpoint_steps: steps between checkpoints; 0: by time alone.
      checkpoint_minutes: minutes between checkpoints; 0: by steps alone.
      keep_checkpoints: number of newest ones kept; 0: all.
      keep_every_hours: one is kept for good whenever so long has passed; 0: none.
      seed: of initial weights, order of examples and augmentation.
      quiet: no progress bar.
    """

    data: DataConfig
    walk: WalkConfig
    optimizer: OptimizerConfig
    model_name: str
    model_args: Mapping[str, Any]
    train_dir: str
    batch_size: int = 4
    max_steps: int = 10000
    summary_seconds: float = 120
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 10
    keep_checkpoints: int = 5
    keep_every_hours: float = 0
    seed: int = 0
    quiet: bool = False

    def __post_init__(self) -> None:
        for name in ('batch_size', 'max_steps'):
            if getattr(self, name) < 1:
                raise UserError(f'--{name} is {getattr(self, name)}; expected 1 or more')
        if self.seed < 0:
            raise UserError(f'--seed is {self.seed}; expected 0 or more')

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
