"""`ffn convert-weights` as a user calls it, and under its old path."""

import json
import os

from ffn.models import checkpoints, keras_weights
from tests.loaded import run_loaded
from tests.models.small_network import ARGS, NAME, check_equal, make


def test_as_a_user_calls_it(tmp_path, repository):
    (tmp_path / 'train').mkdir()
    model = make(7)
    path = checkpoints.CheckpointWriter(tmp_path / 'train').save(model.named_variables(), 1234)

    def call(*arguments):
        return run_loaded(
            *(tmp_path, '-m', 'ffn.training.keras_weights', f'--checkpoint={path}', *arguments),
            env={**os.environ, 'PYTHONPATH': str(repository)},
        )

    done = call(
        '--output=my.weights.h5', f'--model_name={NAME}', f'--model_args={json.dumps(ARGS)}'
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'my.weights.h5: the weights of step 1234\n'
    other = make(1)
    assert keras_weights.load(other, tmp_path / 'my.weights.h5') == 1234
    check_equal(model, other)

    done = call('--output=other.weights.h5')
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1
    assert 'Traceback' not in done.stderr
    assert '--model_name and --model_args' in errors[0]
