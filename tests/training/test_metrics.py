"""Metrics of finished patches, worked out by hand."""

import numpy as np
import pytest

from ffn.models.info import ModelInfo
from ffn.training.config import WalkConfig
from ffn.training.input.example import Example
from ffn.training.metrics import PatchMetrics, cross_entropy
from ffn.training.walks.walk import Walk
from ffn.utils.geometry import Xyz
from ffn.utils.logits import logit

FOV, DELTAS = Xyz(11, 9, 7), Xyz(4, 3, 2)
INFO = ModelInfo(DELTAS, FOV, FOV, FOV)
CONFIG = WalkConfig()


def finished(soft: np.ndarray, canvas: np.ndarray, weights=None, config=CONFIG) -> Walk:
    weights = np.ones_like(soft) if weights is None else weights
    walk = Walk(Example(np.zeros_like(soft), soft, weights, Xyz(1, 2, 3), 'v'), INFO, config)
    walk.canvas[:] = canvas
    return walk


def soft_labels(inside: np.ndarray) -> np.ndarray:
    return np.where(inside, np.float32(0.95), np.float32(0.05))


def test_nothing_to_report_before_the_first_patch():
    assert PatchMetrics(INFO, CONFIG).scalars() == {}


def test_scores_of_voxels():
    rng = np.random.default_rng(1)
    metrics = PatchMetrics(INFO, CONFIG)
    inside = rng.random((2, *CONFIG.patch_size(INFO))) < 0.4
    logits = rng.normal(2, 2, inside.shape).astype(np.float32)
    for i in range(2):
        metrics.add(finished(soft_labels(inside[i]), logits[i]))
    predicted = 1 / (1 + np.exp(-logits)) >= 0.9
    scalars = metrics.scalars()
    assert scalars['eval/patches'] == 2
    assert scalars['eval/all/accuracy'] == pytest.approx(np.mean(predicted == inside))
    precision = np.mean(inside[predicted])
    recall = np.mean(predicted[inside])
    assert scalars['eval/all/precision'] == pytest.approx(precision)
    assert scalars['eval/all/recall'] == pytest.approx(recall)
    assert scalars['eval/all/specificity'] == pytest.approx(np.mean(~predicted[~inside]))
    assert scalars['eval/all/f1'] == pytest.approx(2 / (1 / precision + 1 / recall))
    probability, soft = 1 / (1 + np.exp(-logits.astype(float))), soft_labels(inside)
    loss = -(soft * np.log(probability) + (1 - soft) * np.log(1 - probability))
    assert scalars['eval/patch_loss'] == pytest.approx(loss.mean(), rel=1e-5)
    assert scalars['fov/masked_voxel_fraction'] == 0


def test_moves_by_kind_and_radius():
    config = WalkConfig(fov_moves=1)
    shape = config.patch_size(INFO)
    center = np.array(shape) // 2
    canvas = np.full(shape, logit(0.05), np.float32)
    inside = np.zeros(shape, bool)

    def put(array, offset, value):
        array[tuple(center + offset)] = value

    put(canvas, (2, 0, 0), logit(0.95)), put(inside, (2, 0, 0), True)  # r=2, correct
    put(canvas, (0, 3, 0), logit(0.95))  # r=3, spurious
    put(inside, (0, 0, -4), True)  # r=4, missed
    put(inside, (2, 3, 4), True)  # r=√29, missed
    metrics = PatchMetrics(INFO, config)
    metrics.add(finished(soft_labels(inside), canvas, config=config))
    moves = {k: v for k, v in metrics.scalars().items() if k.startswith('moves/') and v}
    assert moves == {
        'moves/total': 4,
        'moves/all/correct': 1 / 4,
        'moves/all/spurious': 1 / 4,
        'moves/all/missed': 2 / 4,
        'moves/r=2/correct': 1 / 4,
        'moves/r=3/spurious': 1 / 4,
        'moves/r=4/missed': 1 / 4,
        'moves/r=5/missed': 1 / 4,
    }


def test_only_the_middle_counts_with_max_pred_moves():
    config = WalkConfig('max_pred_moves')
    shape = config.patch_size(INFO)
    canvas = np.full(shape, logit(0.99), np.float32)
    inside = np.zeros(shape, bool)
    inside[2:-2, 3:-3, 4:-4] = True
    metrics = PatchMetrics(INFO, config)
    metrics.add(finished(soft_labels(inside), canvas, config=config))
    assert metrics.scalars()['eval/all/precision'] == 1


def test_voxels_of_weight_0_are_masked():
    shape = CONFIG.patch_size(INFO)
    weights = np.ones(shape, np.float32)
    weights[: shape.z // 2] = 0
    soft = soft_labels(np.ones(shape, bool))
    metrics = PatchMetrics(INFO, CONFIG)
    metrics.add(finished(soft, np.full(shape, logit(0.95)), weights))
    scalars = metrics.scalars()
    assert scalars['fov/masked_voxel_fraction'] == pytest.approx(np.mean(weights == 0))
    entropy = -(0.95 * np.log(0.95) + 0.05 * np.log(0.05))
    assert scalars['eval/patch_loss'] == pytest.approx(entropy * weights.mean(), rel=1e-4)


def test_what_has_no_weight_is_neither_right_nor_wrong():
    """A perfect prediction goes on where nobody has labelled, and voxels and moves there count as nothing."""
    shape = CONFIG.patch_size(INFO)
    inside, known = np.zeros(shape, bool), np.zeros(shape, bool)
    inside[:, :, 7:12] = True
    known[:, :, 6:13] = True
    metrics = PatchMetrics(INFO, CONFIG)
    canvas = np.where(inside | ~known, logit(0.95), logit(0.05))
    metrics.add(finished(soft_labels(inside), canvas, known.astype(np.float32)))
    scalars = metrics.scalars()
    assert scalars['fov/masked_voxel_fraction'] == pytest.approx(np.mean(~known))
    for name in ('accuracy', 'precision', 'recall', 'specificity'):
        assert scalars[f'eval/all/{name}'] == 1, name
    assert (scalars['moves/all/correct'], scalars['moves/total']) == (1, 8)  # where dx is 0
    metrics.clear()
    metrics.add(finished(soft_labels(inside), canvas, np.zeros(shape, np.float32)))
    assert (metrics.scalars()['eval/all/accuracy'], metrics.scalars()['moves/total']) == (0, 0)


def test_clear_begins_again():
    shape = CONFIG.patch_size(INFO)
    metrics = PatchMetrics(INFO, CONFIG)
    metrics.add(finished(soft_labels(np.ones(shape, bool)), np.zeros(shape)))
    metrics.clear()
    assert metrics.scalars() == {}


def test_cross_entropy_of_great_logits():
    values = cross_entropy(np.array([1e4, -1e4, 0.0]), np.array([1.0, 1.0, 0.5]))
    np.testing.assert_allclose(values, [0, 1e4, np.log(2)])


def test_the_loss_of_looking_at_nothing_is_that_of_the_best_constant():
    metrics = PatchMetrics(INFO, CONFIG)
    rng = np.random.default_rng(4)
    soft = soft_labels(rng.random((2, *CONFIG.patch_size(INFO))) < 0.3)
    weights = rng.random(soft.shape).astype(np.float32)
    for one, weight in zip(soft, weights):
        metrics.add(finished(one, np.zeros_like(one), weight))
    constants = np.linspace(-3, 3, 601, dtype=np.float32)
    losses = [np.mean(cross_entropy(constant, soft) * weights) for constant in constants]
    assert metrics.scalars()['eval/constant_loss'] == pytest.approx(min(losses), rel=1e-4)
