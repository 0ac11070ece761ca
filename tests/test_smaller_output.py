"""A network that predicts less than it sees: trained, segmenting, scored, and in a whole volume."""

import json

import numpy as np
import pytest

from ffn.cli import held_out, infer, segment
from ffn.models.model import create_model
from ffn.training import train_loop
from ffn.training.config import CheckpointConfig, WalkConfig
from ffn.training.optimizer_config import OptimizerConfig
from ffn.training.train_step import TrainStep
from ffn.training.walks.walk import Batch
from ffn.volumes.volume import open_volume
from tests.events import read_events
from tests.inference.results import whole_result
from tests.training import sample

MODEL = 'residual_stack.ResidualStackFFNModel'
# x,y,z: 4,4,4 of the field of view are lost.
ARGS = {'fov_size': [11, 11, 9], 'deltas': [3, 3, 2], 'depth': 1, 'features': 6, 'convs': 1,
        'padding': 'valid'}  # fmt: skip
PREDICTED_ZYX = (5, 7, 7)
EDGE = 2
REQUEST = """
image {{ hdf5: "{folder}/volume.h5:raw" }}
checkpoint_interval: 1
seed_policy: "PolicyPeaks"
model_checkpoint_path: "{folder}/model"
segmentation_output_dir: "{folder}/results"
inference_options {{
  segment_threshold: 0.6
  min_boundary_dist {{ x: 1 y: 1 z: 1 }}
  min_segment_size: 50
}}
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The sample, a network trained on it, and a request."""
    made = tmp_path_factory.mktemp('valid')
    sample.write_sample(made)
    config = sample.train_config(
        made,
        model_name=MODEL,
        model_args=ARGS,
        walk=WalkConfig('fixed', threshold=0.8),
        optimizer=OptimizerConfig('adam', 0.02),
        checkpoints=CheckpointConfig(steps=0),
        batch_size=2,
        max_steps=100,
        seed=1,
    )
    assert train_loop.train(config) == 100
    (made / 'request.pbtxt').write_text(REQUEST.format(folder=made))
    return made


def test_the_loss_counts_what_is_predicted():
    model = create_model(MODEL, ARGS)
    model.initialize(np.random.default_rng(0))
    step = TrainStep(model, OptimizerConfig('sgd', 1e-9))
    rng = np.random.default_rng(1)
    image, seed, labels = rng.random((3, 2, 9, 11, 11, 1), np.float32)
    weights = rng.random(image.shape, np.float32)
    inner = (slice(None), *(slice(EDGE, -EDGE),) * 3)
    assert image[inner].shape[1:4] == PREDICTED_ZYX
    logits = np.asarray(model((image, seed)))
    np.testing.assert_array_equal(logits[:, :EDGE], seed[:, :EDGE])
    x, z = logits[inner].astype(float), labels[inner]
    expected = np.mean((np.logaddexp(0, x) - x * z) * weights[inner])
    assert step(Batch(image, seed, labels, weights)).loss == pytest.approx(expected, rel=1e-5)
    weights[inner] = 0
    assert step(Batch(image, seed, labels, weights)).loss == 0


def test_patches_are_scored_where_predictions_reach():
    info, walk = create_model(MODEL, ARGS).info, WalkConfig()
    assert walk.patch_size(info) == (9 + 4, 11 + 6, 11 + 6)
    assert walk.eval_size(info) == (5 + 4, 7 + 6, 7 + 6)


def test_it_learns(folder):
    events = read_events(folder / 'model')
    assert events['pixel_loss'][100] < 0.35


def check_objects(segmentation):
    """The rim is empty, and part of the slabs is filled."""
    inner = (slice(EDGE, -EDGE),) * 3
    filled = segmentation > 0
    assert np.count_nonzero(filled) == np.count_nonzero(filled[inner])
    assert filled[2].any()
    truth = sample.labels()[inner]
    assert filled[inner][truth > 0].mean() > 0.3


def test_it_segments(folder):
    infer.main(
        [
            f'--inference_request={folder}/request.pbtxt',
            '--bounding_box=start { x: 0 y: 0 z: 0 } size { x: 34 y: 28 z: 24 }',
        ]
    )
    check_objects(whole_result(folder / 'results')['segmentation'])


@pytest.mark.slow
def test_it_is_scored(folder, capsys):
    held_out.main(
        [
            f'--inference_request={folder}/request.pbtxt',
            f'--checkpoint={folder}/model',
            f'--labels={folder}/volume.h5:labels',
            '--bounding_box=start { x: 0 y: 0 z: 0 } size { x: 34 y: 28 z: 24 }',
        ]
    )
    printed = capsys.readouterr().out
    assert f'{folder}/model' in printed


@pytest.mark.slow
def test_a_whole_volume(folder):
    """Subvolumes that overlap enough leave no gap between them."""
    text = (folder / 'request.pbtxt').read_text().replace('/results', '/whole')
    flags = [f'--inference_request={text}', '--subvolume_size=26,28,24', '--quiet']
    flags.append(f'--output=zarr://{folder}/whole.zarr')
    segment.main([*flags, '--overlap=11,11,9'])
    with open_volume(f'zarr://{folder}/whole.zarr') as volume:
        found = volume.read(volume.box)
    check_objects(found)
    filled = (found > 0).any(axis=(0, 1))
    assert filled[EDGE + 1 : -EDGE - 1].all()


def test_json_says_which_network(folder):
    settings = json.loads((folder / 'model' / 'model.json').read_text())
    assert (settings['model_name'], settings['model_args']) == (MODEL, ARGS)
