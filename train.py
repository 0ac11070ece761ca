"""Trains a flood-filling network.

    train.py --train_coords=COORDINATES --data_volumes=NAME:IMAGE.h5:raw \
        --label_volumes=NAME:LABELS.h5:stack --model_name=convstack_3d.ConvStack3DFFNModel \
        --model_args='{"depth": 12, "fov_size": [33, 33, 33], "deltas": [8, 8, 8]}' \
        --image_mean=128 --image_stddev=33 --train_dir=DIR

Run again with the same train_dir, it goes on from the last checkpoint. See doc/manual.md.
"""

import json
import tempfile
import threading

from absl import flags, logging

from ffn.utils.errors import UserError, run_script
from ffn.utils.startup import startup_messages_hidden
from ffn.volumes.volume import split_named

FLAGS = flags.FLAGS

flags.DEFINE_string(
    'train_coords', None, 'Coordinates: glob, comma list, or path@N.', required=True
)
flags.DEFINE_list('data_volumes', None, 'Images, name:path:dataset.', required=True)
flags.DEFINE_list('label_volumes', None, 'Labels, name:path:dataset.', required=True)
flags.DEFINE_string('model_name', None, '[package.]module.Class of the network.', required=True)
flags.DEFINE_string('model_args', None, 'JSON object of its arguments.', required=True)
flags.DEFINE_string('train_dir', None, 'Folder for checkpoints and event files.')
flags.DEFINE_integer('batch_size', 4, 'Examples that are walked at the same time.')
flags.DEFINE_integer('max_steps', 10000, 'Steps to train for.')
flags.DEFINE_float('summary_rate_secs', 120, 'Seconds between summaries.')
flags.DEFINE_float('seed_pad', 0.05, 'Probability that the seed begins with.')
flags.DEFINE_float('threshold', 0.9, 'Probability from which on the field of view moves.')
flags.DEFINE_string('fov_policy', 'fixed', 'fixed, window, max_pred_moves or no_step.')
flags.DEFINE_integer('fov_moves', 1, 'Deltas that the field of view may go from the centre.')
flags.DEFINE_bool('shuffle_moves', True, 'Random order of the moves of fixed and window.')
flags.DEFINE_integer('fov_window_radius', 1, 'How near to its target window looks, in voxels.')
flags.DEFINE_float('image_mean', None, 'Subtracted from the image.', required=True)
flags.DEFINE_float('image_stddev', None, 'Divides the image.', required=True)
flags.DEFINE_list(
    'image_offset_scale_map', [], 'volume:offset:scale of volumes that differ from that.'
)
flags.DEFINE_list('permutable_axes', ['1', '2'], 'Axes that look alike; indices in z,y,x.')
flags.DEFINE_list('reflectable_axes', ['0', '1', '2'], 'Axes that may be reversed; z,y,x.')
flags.DEFINE_string(
    'augmentation', '', 'Further random changes: a JSON object, or a file with one.'
)
flags.DEFINE_list(
    'volume_weights', [], 'name:share of the examples; default: as frequent as their coordinates.'
)
flags.DEFINE_list(
    'loss_weight_volumes', [], 'name:path:dataset of weights of each voxel in the loss.'
)
flags.DEFINE_bool('skip_corrupt_records', False, 'Leave out what is damaged of --train_coords.')
flags.DEFINE_string('optimizer', 'sgd', 'sgd, momentum, adagrad, adam, adamw or rmsprop.')
flags.DEFINE_float('learning_rate', 0.001, 'At the beginning.')
flags.DEFINE_float('momentum', 0.9, 'Of momentum and rmsprop.')
flags.DEFINE_string('learning_rate_schedule', 'exponential', 'exponential (a staircase) or cosine.')
flags.DEFINE_float(
    'learning_rate_decay_factor', None,
    'Multiplies the rate every decay_steps; of cosine: what is left of it at decay_steps (0).',
)  # fmt: skip
flags.DEFINE_integer('decay_steps', None, 'Steps between decays; of cosine: until its end.')
flags.DEFINE_integer('warmup_steps', 0, 'The rate rises from 0 over so many steps.')
flags.DEFINE_float('rmsprop_decay', 0.9, 'Discount of old squared gradients.')
flags.DEFINE_float('adam_beta1', 0.9, 'Discount of old gradients.')
flags.DEFINE_float('adam_beta2', 0.999, 'Discount of old squared gradients.')
flags.DEFINE_float('epsilon', 1e-8, 'Of adam, adamw and rmsprop.')
flags.DEFINE_float('weight_decay', 0.004, 'Of adamw.')
flags.DEFINE_float('gradient_clip_value', 0.7, 'Limit of each entry of the gradient; 0: none.')
flags.DEFINE_float('gradient_clip_norm', 0, 'Then limit of the norm of all together; 0: none.')
flags.DEFINE_float(
    'ema_decay', 0, 'Keeps a running average of the weights with this discount, as 0.999; 0: none.'
)
flags.DEFINE_string(
    'precision', 'float32', 'What the network computes in: float32, bfloat16 or float16.'
)
flags.DEFINE_string(
    'strategy', 'auto',
    'one_device, mirrored (all GPUs), multi_worker (TF_CONFIG), slurm, or auto: what there is.',
)  # fmt: skip
flags.DEFINE_string('init_checkpoint', '', 'Begin with its weights; a folder: its last one.')
flags.DEFINE_list('voxel_size', [], 'x,y,z in nm, noted for inference.')
flags.DEFINE_string(
    'eval_request', '',
    'InferenceRequest, text or file, to segment a held-out box with; what it leaves out is as here.',
)  # fmt: skip
flags.DEFINE_string('eval_labels', '', 'Labels of the held-out box, path:dataset.')
flags.DEFINE_string('eval_box', '', 'The held-out box: BoundingBox in text format, or a file.')
flags.DEFINE_integer('eval_steps', 0, 'Steps between evaluations of the held-out box; 0: none.')
flags.DEFINE_integer('checkpoint_steps', 0, 'Steps between checkpoints; 0: by time alone.')
flags.DEFINE_float('checkpoint_minutes', 10, 'Minutes between checkpoints; 0: by steps alone.')
flags.DEFINE_integer('keep_checkpoints', 5, 'Newest checkpoints kept; 0: all.')
flags.DEFINE_float('keep_checkpoint_every_n_hours', 0, 'Keeps one for good so often; 0: none.')
flags.DEFINE_integer('seed', 0, 'Of initial weights, order of examples and augmentation.')
flags.DEFINE_bool('quiet', False, 'No progress bar.')


def main() -> None:
    """Trains as the flags say."""
    if FLAGS.train_dir is None:
        FLAGS.train_dir = tempfile.mkdtemp(prefix='ffn-train-')
        logging.warning('--train_dir is not set: checkpoints go to %s', FLAGS.train_dir)
    config = make_config()
    # Taken before TensorFlow adds flags of its own, which --flagfile would not know.
    flags_text = FLAGS.flags_into_string()
    with startup_messages_hidden():
        import tensorflow as tf

        from ffn.training import distribution, train_loop

        tf.config.list_physical_devices()
    replicas = distribution.make_replicas(FLAGS.strategy)
    stop = threading.Event()
    evaluate = make_evaluation(stop) if replicas.is_chief else None
    step = train_loop.train(config, stop, replicas, evaluate, flags_text)
    logging.info('trained to step %d; checkpoints are in %s', step, FLAGS.train_dir)


def make_evaluation(stop: threading.Event):
    """Makes the function that scores a checkpoint on the held-out box, None where none is given."""
    given = (FLAGS.eval_request, FLAGS.eval_labels, FLAGS.eval_box, FLAGS.eval_steps)
    if not any(given):
        return None
    if not all(given) or FLAGS.eval_steps < 0:
        raise UserError(
            '--eval_request, --eval_labels, --eval_box and --eval_steps (1 or more) are needed '
            'together'
        )
    from ffn.evaluation.held_out import HeldOutBox
    from ffn.inference.request import parse_request, read_box

    request = parse_request(FLAGS.eval_request)
    box = HeldOutBox(request, FLAGS.eval_labels, read_box(FLAGS.eval_box), stop=stop)
    return lambda checkpoint: box.evaluate(checkpoint).scalars()


def make_config():
    """Turns the flags into a TrainConfig."""
    from ffn.training.augmentation_config import parse_augmentation
    from ffn.training.config import CheckpointConfig, DataConfig, TrainConfig, WalkConfig
    from ffn.training.optimizer_config import OptimizerConfig

    return TrainConfig(
        data=DataConfig(
            train_coords=FLAGS.train_coords,
            data_volumes=split_named(FLAGS.data_volumes, '--data_volumes'),
            label_volumes=split_named(FLAGS.label_volumes, '--label_volumes'),
            image_mean=FLAGS.image_mean,
            image_stddev=FLAGS.image_stddev,
            offset_scale=dict(map(_offset_scale, FLAGS.image_offset_scale_map)),
            permutable_axes=_axes('permutable_axes'),
            reflectable_axes=_axes('reflectable_axes'),
            augmentation=parse_augmentation(FLAGS.augmentation),
            volume_weights=dict(map(_volume_weight, FLAGS.volume_weights)),
            loss_weight_volumes=(
                split_named(FLAGS.loss_weight_volumes, '--loss_weight_volumes')
                if FLAGS.loss_weight_volumes
                else {}
            ),
            skip_corrupt_records=FLAGS.skip_corrupt_records,
        ),
        walk=WalkConfig(
            fov_policy=FLAGS.fov_policy,
            fov_moves=FLAGS.fov_moves,
            shuffle_moves=FLAGS.shuffle_moves,
            seed_pad=FLAGS.seed_pad,
            threshold=FLAGS.threshold,
            window_radius=FLAGS.fov_window_radius,
        ),
        optimizer=OptimizerConfig(
            optimizer=FLAGS.optimizer,
            learning_rate=FLAGS.learning_rate,
            momentum=FLAGS.momentum,
            schedule=FLAGS.learning_rate_schedule,
            decay_factor=FLAGS.learning_rate_decay_factor,
            decay_steps=FLAGS.decay_steps,
            rmsprop_decay=FLAGS.rmsprop_decay,
            adam_beta1=FLAGS.adam_beta1,
            adam_beta2=FLAGS.adam_beta2,
            epsilon=FLAGS.epsilon,
            warmup_steps=FLAGS.warmup_steps,
            weight_decay=FLAGS.weight_decay,
            clip_value=FLAGS.gradient_clip_value,
            clip_norm=FLAGS.gradient_clip_norm,
            ema_decay=FLAGS.ema_decay,
        ),
        model_name=FLAGS.model_name,
        model_args=_json_object(FLAGS.model_args),
        train_dir=FLAGS.train_dir,
        batch_size=FLAGS.batch_size,
        max_steps=FLAGS.max_steps,
        summary_seconds=FLAGS.summary_rate_secs,
        checkpoints=CheckpointConfig(
            steps=FLAGS.checkpoint_steps,
            minutes=FLAGS.checkpoint_minutes,
            keep=FLAGS.keep_checkpoints,
            keep_every_hours=FLAGS.keep_checkpoint_every_n_hours,
        ),
        precision=FLAGS.precision,
        init_checkpoint=FLAGS.init_checkpoint,
        eval_steps=FLAGS.eval_steps,
        voxel_size=_voxel_size(),
        seed=FLAGS.seed,
        quiet=FLAGS.quiet,
    )


def _json_object(text: str) -> dict:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f'--model_args is not JSON: {error}; given was {text!r}') from error
    if not isinstance(value, dict):
        raise UserError(f'--model_args must be a JSON object such as {{"depth": 9}}, not {text!r}')
    return value


def _axes(flag: str) -> tuple[int, ...]:
    texts = getattr(FLAGS, flag)
    if not all(text.strip().isdigit() for text in texts):
        raise UserError(f'--{flag} is {",".join(texts)!r}; expected indices such as 1,2')
    return tuple(int(text) for text in texts)


def _voxel_size() -> tuple[float, float, float] | None:
    if not FLAGS.voxel_size:
        return None
    try:
        x, y, z = map(float, FLAGS.voxel_size)
    except ValueError as error:
        raise UserError(
            f'--voxel_size is {",".join(FLAGS.voxel_size)!r}; expected three numbers x,y,z'
        ) from error
    return x, y, z


def _volume_weight(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition(':')
    try:
        return name, float(share)
    except ValueError as error:
        raise UserError(f'--volume_weights: {text!r} is not of the form name:share') from error


def _offset_scale(text: str) -> tuple[str, tuple[float, float]]:
    try:
        volume, offset, scale = text.split(':')
        return volume, (float(offset), float(scale))
    except ValueError as error:
        raise UserError(
            f'--image_offset_scale_map: {text!r} is not of the form volume:offset:scale'
        ) from error


if __name__ == '__main__':
    run_script(main)
