"""How weights follow gradients: settings, checked; no flags and no framework here."""

from __future__ import annotations

from dataclasses import dataclass

from ffn.utils.errors import UserError

OPTIMIZERS = ('sgd', 'momentum', 'adagrad', 'adam', 'adamw', 'rmsprop')
SCHEDULES = ('exponential', 'cosine')


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights follow gradients.

    Attributes:
      optimizer: one of OPTIMIZERS.
      learning_rate: at the beginning, after the warm-up.
      momentum: of momentum and rmsprop.
      schedule: 'exponential': the rate is multiplied by decay_factor every decay_steps, in a
        staircase, and constant without these; 'cosine': it falls along half a cosine to
        decay_factor (default 0) times its beginning at decay_steps.
      decay_factor: see schedule.
      decay_steps: training steps.
      warmup_steps: the rate rises from 0 in a line over so many steps.
      rmsprop_decay: discount of old squared gradients.
      adam_beta1: discount of old gradients.
      adam_beta2: discount of old squared gradients.
      epsilon: keeps rmsprop, adam and adamw from dividing by nothing.
      weight_decay: of adamw: weights shrink by this times the rate in every step.
      clip_value: each entry of the gradient is limited to plus or minus this; 0: off.
      clip_norm: then all gradients together are scaled down to this Euclidean norm; 0: off.
      ema_decay: discount of old weights in a running average of them that is saved as well; 0: none.
    """

    optimizer: str = 'sgd'
    learning_rate: float = 0.001
    momentum: float = 0.9
    schedule: str = 'exponential'
    decay_factor: float | None = None
    decay_steps: int | None = None
    warmup_steps: int = 0
    rmsprop_decay: float = 0.9
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.004
    clip_value: float = 0.7
    clip_norm: float = 0.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        for flag, value, known in (
            ('optimizer', self.optimizer, OPTIMIZERS),
            ('learning_rate_schedule', self.schedule, SCHEDULES),
        ):
            if value not in known:
                raise UserError(f'--{flag} is {value!r}; expected one of {", ".join(known)}')
        for name in ('learning_rate', 'epsilon'):
            if not getattr(self, name) > 0:
                raise UserError(f'--{name} is {getattr(self, name):g}; expected more than 0')
        self._check_schedule()
        for name in ('momentum', 'rmsprop_decay', 'adam_beta1', 'adam_beta2', 'ema_decay'):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f'--{name} is {getattr(self, name):g}; expected 0 or more, below 1')
        for flag, value in (
            ('weight_decay', self.weight_decay),
            ('gradient_clip_value', self.clip_value),
            ('gradient_clip_norm', self.clip_norm),
            ('warmup_steps', self.warmup_steps),
        ):
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
