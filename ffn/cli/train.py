"""`ffn train` and train.py: stage 3, a network is trained."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from absl import logging

from ffn.cli.flags import format_flags, parse_command, read_settings
from ffn.models import checkpoints
from ffn.training.config import TrainConfig
from ffn.utils.errors import UserError, reason
from ffn.utils.settings import section, setting
from ffn.utils.startup import startup_messages_hidden

if TYPE_CHECKING:
    from ffn.models.model import FFNModel


@dataclass(frozen=True)
class HeldOut:
    """A box that checkpoints are scored on while the training goes on; all of it or nothing."""

    request: str = setting(
        'InferenceRequest, text or file, to segment the held-out box with; what it does not set is as '
        'in this training',
        default='',
        flag='eval_request',
        metavar='REQUEST',
    )
    labels: str = setting(
        'labels of the held-out box, path:dataset',
        default='',
        flag='eval_labels',
        metavar='VOLUME',
    )
    box: str = setting(
        'the held-out box: BoundingBox in text format, start and size in x, y, z, or a file with it',
        default='',
        flag='eval_box',
        metavar='BOX',
    )


@dataclass(frozen=True)
class Train:
    """Settings of the command."""

    config: TrainConfig = section('Network and run')
    held_out: HeldOut = section('Held-out box, with --eval_steps', default_factory=HeldOut)
    strategy: str = setting(
        'one_device, mirrored (all GPUs), multi_worker (TF_CONFIG), slurm, or auto: what there is',
        default='auto',
        metavar='NAME',
    )


def make_train_dir() -> str:
    """Makes a folder for a run that is given none, and logs its path."""
    train_dir = tempfile.mkdtemp(prefix='ffn-train-')
    logging.warning('--train_dir is not set: checkpoints go to %s', train_dir)
    return train_dir


def run(command: Train, flags_text: str) -> None:
    """Trains a network; where all steps are made already, this is told, and nothing is loaded or written.

    Args:
      command: what to do.
      flags_text: kept beside the checkpoints; usable with --flagfile.
    """
    config = command.config
    _check_evaluation(command)
    reached = checkpoints.reached_step(config.train_dir)
    if reached >= config.max_steps:
        logging.info(
            '%s is at step %d already, and --max_steps is %d: nothing to do',
            *(config.train_dir, reached, config.max_steps),
        )
        return
    stop = threading.Event()
    evaluate, check = _make_evaluation(command, stop)
    with startup_messages_hidden():
        import tensorflow as tf

        from ffn.training import distribution, train_loop

        tf.config.list_physical_devices()
    replicas = distribution.make_replicas(command.strategy)
    step = train_loop.train(config, stop, replicas, evaluate, flags_text, check)
    logging.info('trained to step %d; checkpoints are in %s', step, config.train_dir)


def _check_evaluation(command: Train) -> None:
    """Refuses a part of a held-out box."""
    held_out, every = command.held_out, command.config.eval_steps
    given = (held_out.request, held_out.labels, held_out.box, every)
    if any(given) and (not all(given) or every < 0):
        raise UserError(
            '--eval_request, --eval_labels, --eval_box and --eval_steps (1 or more) are needed '
            'together'
        )


def _make_evaluation(
    command: Train, stop: threading.Event
) -> tuple[Callable[[str], Mapping[str, float]] | None, Callable[[FFNModel], None]]:
    """Makes what scores a checkpoint on the held-out box, and what checks the network before; None without a box.

    In every process, and before TensorFlow is loaded: those that find no fault would wait for the others.

    Raises:
      UserError: something besides the weights does not fit.
    """
    held_out = command.held_out
    if not command.config.eval_steps:
        return None, lambda model: None
    from ffn.evaluation.held_out_box import HeldOutBox
    from ffn.inference.request import parse_request, read_box
    from ffn.models.trained_settings import parse_trained_settings
    from ffn.training.inference_settings import inference_settings

    request = parse_request(held_out.request, flag='--eval_request')
    if request.use_ema and not command.config.optimizer.ema_decay:
        raise UserError('the request of --eval_request sets use_ema, which needs --ema_decay')
    for field in ('image_mean', 'image_stddev'):
        if getattr(command.config.data, field) is None and not request.HasField(field):
            raise UserError(
                f'the request of --eval_request does not set {field}, and --{field} is not given; one of them is needed'
            )
    with _cannot_be_scored():
        box = HeldOutBox(
            request,
            held_out.labels,
            read_box(held_out.box, '--eval_box'),
            stop=stop,
            unlabelled=command.config.data.unlabelled,
        )
        settings = inference_settings(command.config)
        trained = parse_trained_settings(settings, command.config.train_dir)
        box.check(trained)

    def check(model: FFNModel) -> None:
        with _cannot_be_scored():
            box.check_network(trained, model)

    def evaluate(checkpoint: str) -> Mapping[str, float]:
        try:
            return box.evaluate(checkpoint).scalars()
        except (UserError, OSError) as error:  # not worth the training
            logging.error(
                'the held-out box could not be scored, training goes on: %s', reason(error)
            )
            return {}

    return evaluate, check


@contextlib.contextmanager
def _cannot_be_scored() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f'the held-out box cannot be scored: {error}') from error


def main(argv: Sequence[str] | None = None) -> None:
    """Trains a flood-filling network."""
    args = parse_command(
        'train',
        'Trains a flood-filling network. Run again with the same --train_dir, it continues from the\n'
        'latest checkpoint.',
        'Devices',
        Train,
        argv,
        epilog='ffn train --train_coords COORDINATES --data_volumes NAME:IMAGE.h5:raw \\\n'
        '  --label_volumes NAME:LABELS.h5:stack --model_name convstack_3d.ConvStack3DFFNModel \\\n'
        '  --model_args \'{"depth": 12, "fov_size": [33, 33, 33], "deltas": [8, 8, 8]}\' \\\n'
        '  --image_mean 128 --image_stddev 33 --train_dir DIR',
        train_dir=None,
    )
    if args.train_dir is None:
        args.train_dir = make_train_dir()
    run(read_settings(args, Train), format_flags(args, Train))
