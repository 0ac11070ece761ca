"""`ffn import-weights`: a residual stack that was trained with JAX, as weights that every Keras backend loads."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.models.flax_weights import ImportWeights, import_weights

DESCRIPTION = """Reads a checkpoint of Flax or Orbax with a residual stack (ResConvStack of the package connectomics).

Depth, channels, kernel and normalization are seen from its parameters. What those do not tell is given here, and goes
to NAME.json, where `ffn infer` finds it. The first input channel is taken for the image, the second for the logits,
and the output for what is added to them. Neither JAX nor Flax is needed."""
EXAMPLE = """example:
  ffn import-weights --checkpoint checkpoints/ --output my.weights.h5 --fov_size 33,33,33 --deltas 8,8,8 \\
    --image_mean 128 --image_stddev 33 --seed_pad 0.05 --threshold 0.6"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command.

    Raises:
      UserError: see `ffn.models.flax_weights.import_weights`.
    """
    parser = make_parser('import-weights', DESCRIPTION, EXAMPLE)
    add_settings(parser, 'Weights', ImportWeights)
    config = read_settings(parser.parse_args(argv), ImportWeights)
    settings = import_weights(config)
    step = f', step {settings["step"]}' if 'step' in settings else ''
    print(f'{config.output}: {json.dumps(settings["model_args"])}{step}')
    if config.unset:
        print(f'not stored, so that requests have to set it: {", ".join(config.unset)}')
