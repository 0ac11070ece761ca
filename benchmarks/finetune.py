"""Fine-tuning: the published model goes on for some hundred steps, and must not lose what it knows.

    python -m benchmarks.finetune --data FOLDER [--steps 300] [--learning_rate 1e-5]

Trains on training_sample2 from z = 0 to 150 with train.py and --init_checkpoint, in bfloat16, batch 4,
and compares the loss before and after on walks over the same held-out examples (z from 150), with the
walks of training (policy fixed) and no augmentation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from benchmarks import measure, real_segmentation

MODEL = 'convstack_3d.ConvStack3DFFNModel'
ARGS = '{"depth": 12, "fov_size": [33, 33, 33], "deltas": [8, 8, 8]}'
SPLIT_Z, RADIUS = 150, 24


def run(script: str, *arguments: str) -> None:
    """Runs a script of the project, shown."""
    print(script, *arguments, flush=True)
    subprocess.run([sys.executable, script, *arguments], cwd=measure.ROOT, check=True)


def coordinates(folder: str, name: str, outside: str) -> str:
    """Partitions and coordinates of the part of the volume that an expression does not exclude."""
    run(
        'compute_partitions.py',
        f'--input_volume={folder}/v.h5:labels',
        f'--output_volume={folder}/{name}.h5:af',
        measure.thresholds_flag(),
        f'--lom_radius={RADIUS},{RADIUS},{RADIUS}',
        '--min_size=10000',
        f'--mask_configs=masks {{ coordinate_expression {{ expression: "{outside}" }} }}',
    )
    path = f'{folder}/{name}.tfrecord.gz'
    run(
        'build_coordinates.py',
        f'--partition_volumes=v:{folder}/{name}.h5:af',
        '--seed=1',
        f'--coordinate_output={path}',
        f'--margin={RADIUS},{RADIUS},{RADIUS}',
        '--max_coordinates=100000',
    )
    return path


def held_out_loss(folder: str, train_coords: str, checkpoint: str, examples: int) -> float:
    """Mean loss of finished walks over the first examples of a stream."""
    from ffn.models.model import create_model
    from ffn.models.predictor import make_predictor
    from ffn.models.weights import load_weights
    from ffn.training.config import DataConfig, WalkConfig
    from ffn.training.input.examples import ExampleSource
    from ffn.training.metrics import PatchMetrics
    from ffn.training.walks.walk import BatchWalker

    model = create_model(MODEL, json.loads(ARGS))
    load_weights(model, checkpoint)
    predict = make_predictor(model)
    walk = WalkConfig()
    volumes = ({'v': f'{folder}/v.h5:raw'}, {'v': f'{folder}/v.h5:labels'})
    config = DataConfig(train_coords, *volumes, 128, 33, permutable_axes=(), reflectable_axes=())
    metrics = PatchMetrics(model.info, walk)
    with ExampleSource(config, walk.patch_size(model.info), 0, 4) as source:
        walker = BatchWalker(source, model.info, walk, 1)
        while metrics.scalars().get('eval/patches', 0) < examples:
            batch = walker.batch()
            for done in walker.advance(predict(batch.images, batch.seeds)):
                metrics.add(done)
    return metrics.scalars()['eval/patch_loss']


def main() -> None:
    """Prints the two losses."""
    parser = measure.parser(__doc__)
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--learning_rate', default='0.00001')
    parser.add_argument('--examples', type=int, default=40, help='held-out examples')
    args = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    published = str(Path(args.data, 'fib25/model/model.ckpt-27465036').absolute())
    with tempfile.TemporaryDirectory() as folder:
        real_segmentation.write_image(args.data, Path(folder, 'v.h5'))
        with h5py.File(f'{folder}/v.h5', 'a') as file:
            file['labels'] = measure.sample_labels(args.data).astype(np.uint32)
        train = coordinates(folder, 'train', f'z >= {SPLIT_Z}')
        held_out = coordinates(folder, 'held', f'z < {SPLIT_Z}')
        before = held_out_loss(folder, held_out, published, args.examples)
        run(
            'train.py',
            f'--train_coords={train}',
            f'--data_volumes=v:{folder}/v.h5:raw',
            f'--label_volumes=v:{folder}/v.h5:labels',
            f'--model_name={MODEL}',
            f'--model_args={ARGS}',
            '--image_mean=128',
            '--image_stddev=33',
            f'--train_dir={folder}/model',
            f'--init_checkpoint={published}',
            '--optimizer=adam',
            f'--learning_rate={args.learning_rate}',
            '--warmup_steps=50',
            '--permutable_axes=0,1,2',
            '--precision=bfloat16',
            f'--max_steps={args.steps}',
        )
        after = held_out_loss(folder, held_out, f'{folder}/model', args.examples)
    print(f'held-out loss: published {before:.4f}, after {args.steps} steps {after:.4f}')


if __name__ == '__main__':
    measure.run_bench(main)
