"""The settings of a training run, checked. Each is also a flag of train.py, see `ffn.utils.settings`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ffn.models.info import ModelInfo
from ffn.training.augmentation.config import AugmentationConfig, parse_augmentation
from ffn.training.optimizer_config import OptimizerConfig
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, Zyx, parse_voxel_size
from ffn.utils.settings import section, setting
from ffn.utils.texts import parse_json
from ffn.volumes.missing import MISSING_HELP, ON_MISSING, OnMissing
from ffn.volumes.specs import split_named
from ffn.volumes.unlabelled import UNLABELLED_HELP

POLICIES = ('fixed', 'window', 'max_pred_moves', 'no_step')
PRECISIONS = ('float32', 'bfloat16', 'float16')
# Targets of the loss for voxels of the object and for all others.
SOFT_LABELS = (0.95, 0.05)


def _parse_axes(texts: Sequence[str], flag: str) -> tuple[int, ...]:
    if not all(text.strip().isdecimal() for text in texts):
        raise UserError(f'{flag} is {",".join(texts)!r}; expected indices such as 1,2')
    try:
        return tuple(int(text) for text in texts)
    except ValueError as error:  # thousands of digits
        raise UserError(f'{flag} is out of range; expected indices such as 1,2') from error


def _parse_weights(texts: Sequence[str], flag: str) -> dict[str, float]:
    weights = {}
    for text in texts:
        name, _, share = text.rpartition(':')
        if name in weights:
            raise UserError(f'{flag}: {name!r} is given twice')
        try:
            weights[name] = float(share)
        except ValueError as error:
            raise UserError(f'{flag}: {text!r} is not of the form name:share') from error
    return weights


def _parse_offset_scale(texts: Sequence[str], flag: str) -> dict[str, tuple[float, float]]:
    scales = {}
    for text in texts:
        try:
            volume, offset, scale = text.split(':')
            normalization = float(offset), float(scale)
        except ValueError as error:
            raise UserError(f'{flag}: {text!r} is not of the form volume:offset:scale') from error
        if volume in scales:
            raise UserError(f'{flag}: {volume!r} is given twice')
        scales[volume] = normalization
    return scales


def _parse_json_object(text: str, flag: str) -> dict[str, Any]:
    value = parse_json(text, flag)
    if not isinstance(value, dict):
        raise UserError(f'{flag} must be a JSON object such as {{"depth": 9}}, not {text!r}')
    return value


@dataclass(frozen=True)
class DataConfig:
    """Where examples come from and how they are varied."""

    train_coords: str = setting(
        'coordinate files: a glob, a list separated by commas, or PATH@N for N shards',
        metavar='FILES',
    )
    data_volumes: Mapping[str, str] = setting(
        'images: name:path:dataset of each volume, separated by commas',
        parse=split_named,
        comma_list=True,
        metavar='VOLUMES',
    )
    label_volumes: Mapping[str, str] = setting(
        'labels: name:path:dataset of each volume, separated by commas',
        parse=split_named,
        comma_list=True,
        metavar='VOLUMES',
    )
    image_mean: float | None = setting(
        'subtracted from the image; needed unless --image_offset_scale_map names every volume',
        default=None,
    )
    image_stddev: float | None = setting(
        'the image is then divided by this; needed with --image_mean', default=None
    )
    offset_scale: Mapping[str, tuple[float, float]] = setting(
        'name:mean:stddev of each volume that differs from --image_mean and --image_stddev',
        default_factory=dict,
        flag='image_offset_scale_map',
        parse=_parse_offset_scale,
        comma_list=True,
        metavar='SCALES',
    )
    permutable_axes: tuple[int, ...] = setting(
        'axes that may be exchanged; indices in z,y,x: 0 is z',
        default=(1, 2),
        parse=_parse_axes,
        comma_list=True,
        metavar='AXES',
    )
    reflectable_axes: tuple[int, ...] = setting(
        'axes that may be reversed; indices in z,y,x: 0 is z',
        default=(0, 1, 2),
        parse=_parse_axes,
        comma_list=True,
        metavar='AXES',
    )
    augmentation: AugmentationConfig = setting(
        'further augmentation: a JSON object, or a file with one',
        default_factory=AugmentationConfig,
        parse=lambda text, flag: parse_augmentation(text),
        metavar='JSON',
    )
    volume_weights: Mapping[str, float] = setting(
        'name:share of the coordinates to draw from each volume, in any unit (0: none); if unset, volumes '
        'contribute in proportion to their coordinates',
        default_factory=dict,
        parse=_parse_weights,
        comma_list=True,
        metavar='WEIGHTS',
    )
    loss_weight_volumes: Mapping[str, str] = setting(
        'weights of each voxel in the loss: name:path:dataset, separated by commas; voxels of other '
        'volumes have weight 1',
        default_factory=dict,
        parse=split_named,
        comma_list=True,
        metavar='VOLUMES',
    )
    unlabelled: int | None = setting(UNLABELLED_HELP, default=None, metavar='N')
    unlabelled_weight: float = setting(
        'weight in the loss of voxels that are not labelled. 1: they count as background, as do voxels with '
        'label 0; 0: they do not count. No example begins on them',
        default=1.0,
    )
    missing: OnMissing = setting(MISSING_HELP, default='tell', choices=ON_MISSING, metavar='ACTION')
    skip_corrupt_records: bool = setting(
        'skip damaged parts of --train_coords instead of ending with an error', default=False
    )

    def __post_init__(self) -> None:
        for flag in ('permutable_axes', 'reflectable_axes'):
            axes = getattr(self, flag)
            if not set(axes) <= {0, 1, 2} or len(set(axes)) != len(axes):
                raise UserError(
                    f'--{flag} is {",".join(map(str, axes))}; expected distinct indices of z, y, x: '
                    '0, 1, 2'
                )
        self._check_names()
        if not 0 <= self.unlabelled_weight < math.inf:
            raise UserError(
                f'--unlabelled_weight is {self.unlabelled_weight:g}; expected a number from 0'
            )
        weights = self.volume_weights.values()
        if weights and not (all(0 <= w < math.inf for w in weights) and sum(weights) > 0):
            raise UserError(
                f'--volume_weights are {dict(self.volume_weights)}; expected numbers from 0, not all 0'
            )
        self._check_normalization()

    def _check_normalization(self) -> None:
        pairs = {
            f'--image_offset_scale_map: mean and stddev of {name!r} are': pair
            for name, pair in self.offset_scale.items()
        }
        if self.image_mean is not None and self.image_stddev is not None:
            pairs['--image_mean and --image_stddev are'] = self.image_mean, self.image_stddev
        elif lacking := [name for name in self.used_volumes if name not in self.offset_scale]:
            raise UserError(
                f'--image_mean and --image_stddev are needed for {", ".join(lacking)}, which '
                '--image_offset_scale_map does not name'
            )
        elif (self.image_mean is None) != (self.image_stddev is None):
            raise UserError('--image_mean and --image_stddev are needed together')
        for what, (mean, stddev) in pairs.items():
            if not (math.isfinite(mean) and 0 < stddev < math.inf):
                raise UserError(
                    f'{what} {mean:g} and {stddev:g}; expected a finite number and a positive one'
                )

    def _check_names(self) -> None:
        everything = set(self.data_volumes) | set(self.label_volumes)
        for flag in ('label_volumes', 'data_volumes'):
            missing = everything - set(getattr(self, flag))
            if missing:
                raise UserError(
                    f'--{flag} lacks {", ".join(sorted(missing))}: every volume needs image and labels'
                )
        optional: dict[str, Iterable[str]] = {
            'image_offset_scale_map': self.offset_scale,
            'volume_weights': self.volume_weights,
            'loss_weight_volumes': self.loss_weight_volumes,
        }
        for flag, names in optional.items():
            unknown = set(names) - set(self.data_volumes)
            if unknown:
                raise UserError(
                    f'--{flag} names {", ".join(sorted(unknown))}, which --data_volumes lacks'
                )
        left_out = set(self.data_volumes) - set(self.volume_weights or self.data_volumes)
        if left_out:
            raise UserError(
                f'--volume_weights lacks {", ".join(sorted(left_out))}; give every volume a share, 0 for none: '
                f'{min(left_out)}:0'
            )

    @property
    def used_volumes(self) -> list[str]:
        """Names of the volumes that examples are drawn from."""
        weights = self.volume_weights
        return [name for name in self.label_volumes if not weights or weights[name] > 0]

    def normalization(self, name: str) -> tuple[float, float]:
        """Mean and standard deviation of the image of a volume that examples are drawn from."""
        mean, stddev = self.image_mean, self.image_stddev
        if name in self.offset_scale or mean is None or stddev is None:
            return self.offset_scale[name]
        return mean, stddev


@dataclass(frozen=True)
class WalkConfig:
    """How the field of view moves over an example."""

    fov_policy: str = setting(f'one of {", ".join(POLICIES)}', default='fixed', metavar='NAME')
    fov_moves: int = setting(
        'how far the field of view may move from the centre, in multiples of the deltas', default=1
    )
    shuffle_moves: bool = setting(
        'random order of the moves of the policies fixed and window', default=True
    )
    seed_pad: float = setting('initial probability of all voxels but the seed', default=0.05)
    threshold: float = setting(
        'the field of view moves to where the probability reaches this', default=0.9
    )
    window_radius: int = setting(
        'policy window: a move is possible if a voxel at most this far from its target, on the shell '
        'that targets lie on, reaches --threshold',
        default=1,
        flag='fov_window_radius',
    )

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
        for flag in ('seed_pad', 'threshold'):
            if not 0 < getattr(self, flag) < 1:
                raise UserError(
                    f'--{flag} is {getattr(self, flag):g}; expected a probability between 0 and 1'
                )
        if self.fov_policy == 'max_pred_moves' and self.threshold > SOFT_LABELS[0]:
            raise UserError(
                f'--threshold is {self.threshold:g}; expected at most {SOFT_LABELS[0]}, the label of the object, above '
                'which --fov_policy max_pred_moves never moves'
            )

    def patch_size(self, info: ModelInfo) -> Zyx:
        """Size of the patches that are loaded."""
        moves = self.fov_moves + (self.fov_policy == 'max_pred_moves')
        return self._size(info.input_image_size, info.deltas, moves)

    def eval_size(self, info: ModelInfo) -> Zyx:
        """Size of their central part, which predictions can reach; finished patches are scored on it."""
        return self._size(info.pred_mask_size, info.deltas, self.fov_moves)

    def _size(self, size: Xyz, deltas: Xyz, moves: int) -> Zyx:
        pairs = zip(size.zyx, deltas.zyx, strict=True)
        return Zyx(*(n + 2 * delta * moves for n, delta in pairs))


@dataclass(frozen=True)
class CheckpointConfig:
    """When a run is saved, and what is kept."""

    steps: int = setting(
        'training steps between checkpoints; 0: by time alone', default=0, flag='checkpoint_steps'
    )
    minutes: float = setting(
        'minutes between checkpoints; 0: by steps alone', default=10.0, flag='checkpoint_minutes'
    )
    keep: int = setting(
        'how many of the newest checkpoints are kept; 0: all', default=5, flag='keep_checkpoints'
    )
    keep_every_hours: float = setting(
        'hours after which another checkpoint is kept for good; 0: none',
        default=0.0,
        flag='keep_checkpoint_every_n_hours',
    )

    def __post_init__(self) -> None:
        limits: dict[str, float] = {
            'checkpoint_steps': self.steps,
            'checkpoint_minutes': self.minutes,
            'keep_checkpoints': self.keep,
            'keep_checkpoint_every_n_hours': self.keep_every_hours,
        }
        for flag, value in limits.items():
            if not value >= 0:
                raise UserError(f'--{flag} is {value:g}; expected 0 or more')


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    data: DataConfig = section('Examples')
    walk: WalkConfig = section('Movement of the field of view')
    optimizer: OptimizerConfig = section('Optimization')
    model_name: str = setting(
        'network, as [package.]module.Class; a package besides ffn needs --allow_module',
        metavar='NAME',
    )
    model_args: Mapping[str, Any] = setting(
        'arguments of the network: a JSON object, with sizes in x,y,z',
        parse=_parse_json_object,
        metavar='JSON',
    )
    train_dir: str = setting(
        'folder for checkpoints and event files; a temporary one if unset', metavar='FOLDER'
    )
    checkpoints: CheckpointConfig = section('Checkpoints', default_factory=CheckpointConfig)
    batch_size: int = setting('examples processed at a time, on each device', default=4)
    max_steps: int = setting('training steps', default=10000)
    summary_seconds: float = setting(
        'seconds between summaries for TensorBoard', default=120.0, flag='summary_rate_secs'
    )
    precision: str = setting(
        f'what the network computes in: {", ".join(PRECISIONS)}; weights and logits stay float32',
        default='float32',
        metavar='NAME',
    )
    init_checkpoint: str = setting(
        'initial weights, where --train_dir has no checkpoint yet; of a folder, its latest checkpoint',
        default='',
        metavar='CHECKPOINT',
    )
    eval_steps: int = setting(
        'training steps between evaluations on the held-out box; 0: none', default=0
    )
    voxel_size: tuple[float, float, float] | None = setting(
        'physical size of a voxel in nanometres, stored with the network for inference',
        default=None,
        parse=parse_voxel_size,
        comma_list=True,
        metavar='X,Y,Z',
    )
    seed: int = setting('of initial weights, order of examples and augmentation', default=0)
    quiet: bool = setting('no progress bar', default=False)

    def __post_init__(self) -> None:
        for flag in ('batch_size', 'max_steps'):
            if getattr(self, flag) < 1:
                raise UserError(f'--{flag} is {getattr(self, flag)}; expected 1 or more')
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
