"""`ffn convert-weights`: a TensorFlow checkpoint as weights that every Keras backend loads."""

from __future__ import annotations

from collections.abc import Sequence

from ffn.cli.flags import make_parser
from ffn.models.checkpoints import KERAS_ENDING
from ffn.utils.startup import startup_messages_hidden

DESCRIPTION = f"""Converts a checkpoint of TensorFlow variables to NAME{KERAS_ENDING}.

Machines that have JAX or PyTorch but no TensorFlow can load the result. The settings of the training
go to NAME.json beside it, as they lie in model.json beside the checkpoint."""
EXAMPLE = f"""example:
  ffn convert-weights --checkpoint train_dir/model.ckpt-1000 --output model{KERAS_ENDING}"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command.

    Raises:
      UserError: see `ffn.models.weights.convert`.
    """
    parser = make_parser('convert-weights', DESCRIPTION, EXAMPLE)
    files = parser.add_argument_group('files')
    files.add_argument(
        '--checkpoint',
        required=True,
        metavar='PATH',
        help='train_dir/model.ckpt-N, or train_dir for its last checkpoint',
    )
    files.add_argument(
        '--output', required=True, metavar=f'NAME{KERAS_ENDING}', help='file to write'
    )
    files.add_argument(
        '--ema',
        action='store_true',
        help='write the running averages that train.py --ema_decay saves in place of the weights',
    )
    network = parser.add_argument_group('network, if it was not saved with the checkpoint')
    network.add_argument('--model_name', metavar='NAME', help='[package.]module.Class')
    network.add_argument('--model_args', metavar='JSON', help='object of its arguments')
    args = parser.parse_args(argv)
    with startup_messages_hidden():
        from ffn.models.weights import convert  # loads Keras

    step = convert(args.checkpoint, args.output, args.model_name, args.model_args, args.ema)
    print(f'{args.output}: the {"averaged " if args.ema else ""}weights of step {step}')
