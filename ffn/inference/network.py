"""The network of a configuration, with its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffn.inference.config import InferenceConfig

if TYPE_CHECKING:
    from ffn.models.model import FFNModel


def load_network(config: InferenceConfig) -> FFNModel:
    """Loads the network of a configuration.

    Raises:
      UserError: unknown network, arguments that it does not take, or weights that do not fit.
    """
    from ffn.models.precision import choose_precision
    from ffn.models.predictor import load_model

    precision = choose_precision(config.precision)
    return load_model(
        config.model_name,
        config.model_args,
        config.model_checkpoint_path,
        use_ema=config.use_ema,
        precision=precision,
    )
