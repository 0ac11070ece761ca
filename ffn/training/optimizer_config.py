"""How weights follow gradients: settings, checked; no framework here."""

from __future__ import annotations

from dataclasses import dataclass

from ffn.utils.errors import UserError
from ffn.utils.settings import setting

OPTIMIZERS = ('sgd', 'momentum', 'adagrad', 'adam', 'adamw', 'rmsprop')
SCHEDULES = ('exponential', 'cosine')


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights follow gradients."""

    optimizer: str = setting(f'one of {", ".join(OPTIMIZERS)}', default='sgd', metavar='NAME')
    learning_rate: float = setting('initial learning rate, after the warm-up', default=0.001)
    momentum: float = setting('momentum of the optimizers momentum and rmsprop', default=0.9)
    schedule: str = setting(
        'how the rate falls: exponential (in a staircase; constant without --decay_steps) or cosine',
        default='exponential',
        flag='learning_rate_schedule',
        metavar='NAME',
    )
    decay_factor: float | None = setting(
        'exponential: factor applied to the rate every --decay_steps; cosine: fraction of the initial '
        'rate that remains at --decay_steps (0 if unset)',
        default=None,
        flag='learning_rate_decay_factor',
    )
    decay_steps: int | None = setting(
        'exponential: training steps between decays; cosine: training steps until the end of the decay',
        default=None,
    )
    warmup_steps: int = setting(
        'training steps over which the rate rises linearly from 0', default=0
    )
    rmsprop_decay: float = setting(
        'rmsprop: decay of the average of squared gradients, which begins at 1', default=0.9
    )
    adam_beta1: float = setting('adam, adamw: decay of the average of gradients', default=0.9)
    adam_beta2: float = setting(
        'adam, adamw: decay of the average of squared gradients', default=0.999
    )
    epsilon: float = setting(
        'adam, adamw, rmsprop: added to the denominator for numerical stability', default=1e-8
    )
    weight_decay: float = setting(
        'adamw: each step shrinks the weights by this times the learning rate', default=0.004
    )
    clip_value: float = setting(
        'each entry of the gradient is clipped to plus or minus this; 0: no clipping',
        default=0.7,
        flag='gradient_clip_value',
    )
    clip_norm: float = setting(
        'then the whole gradient is scaled down to this Euclidean norm; 0: no scaling',
        default=0.0,
        flag='gradient_clip_norm',
    )
    unrolled_steps: int = setting(
        'passes of the network at each field of view, each from the logits of the one before; their '
        'mean loss is followed through all of them',
        default=1,
    )
    ema_decay: float = setting(
        'also saves an exponential moving average of the weights with this decay, such as 0.999; '
        '0: none',
        default=0.0,
    )

    def __post_init__(self) -> None:
        for flag, name, known in (
            ('optimizer', self.optimizer, OPTIMIZERS),
            ('learning_rate_schedule', self.schedule, SCHEDULES),
        ):
            if name not in known:
                raise UserError(f'--{flag} is {name!r}; expected one of {", ".join(known)}')
        for flag in ('learning_rate', 'epsilon'):
            if not getattr(self, flag) > 0:
                raise UserError(f'--{flag} is {getattr(self, flag):g}; expected more than 0')
        if not self.unrolled_steps >= 1:
            raise UserError(f'--unrolled_steps is {self.unrolled_steps}; expected 1 or more')
        self._check_schedule()
        for flag in ('momentum', 'rmsprop_decay', 'adam_beta1', 'adam_beta2', 'ema_decay'):
            if not 0 <= getattr(self, flag) < 1:
                raise UserError(f'--{flag} is {getattr(self, flag):g}; expected 0 or more, below 1')
        limits: dict[str, float] = {
            'weight_decay': self.weight_decay,
            'gradient_clip_value': self.clip_value,
            'gradient_clip_norm': self.clip_norm,
            'warmup_steps': self.warmup_steps,
        }
        for flag, value in limits.items():
            if not value >= 0:
                raise UserError(f'--{flag} is {value:g}; expected 0 or more')

    def _check_schedule(self) -> None:
        if self.schedule == 'cosine':
            if self.decay_steps is None:
                raise UserError('--learning_rate_schedule cosine needs --decay_steps')
        elif (self.decay_factor is None) != (self.decay_steps is None):
            raise UserError('--learning_rate_decay_factor and --decay_steps are needed together')
        if self.decay_steps is not None and self.decay_steps < 1:
            raise UserError(f'--decay_steps is {self.decay_steps}; expected 1 or more')
        if self.decay_factor is not None and not self.decay_factor >= 0:
            raise UserError(
                f'--learning_rate_decay_factor is {self.decay_factor:g}; expected 0 or more'
            )
