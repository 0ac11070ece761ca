"""Guidance while training: the suggested number of steps, and warnings of bad patterns."""

import pytest

from ffn.training import guidance, train_loop
from ffn.training.fov_count import FovCount
from ffn.training.optimizer_config import OptimizerConfig
from tests.events import read_events
from tests.training import sample

GOOD = {
    'eval/patches': 20,
    'eval/patch_loss': 0.4,
    'eval/constant_loss': 0.6,
    'eval/all/precision': 0.9,
    'eval/all/recall': 0.8,
    'eval/all/specificity': 0.99,
    'moves/total': 50,
    'moves/all/correct': 0.5,
    'moves/all/spurious': 0.1,
    'moves/all/missed': 0.4,
}
# By a word of the warning: what shows it, and what just does not.
PATTERNS = {
    'nothing learned': (
        {'eval/patch_loss': 0.55, 'eval/all/recall': 0.02},
        {'eval/patch_loss': 0.53, 'eval/all/recall': 0.8},
    ),
    'only where it is certain': ({'eval/all/recall': 0.09}, {'eval/all/recall': 0.11}),
    'lead out of the object': (
        {'moves/all/correct': 0.05, 'moves/all/spurious': 0.55},
        {'moves/all/correct': 0.06, 'moves/all/spurious': 0.5},
    ),
}


@pytest.mark.parametrize(
    ('voxels', 'fovs', 'steps'),
    [
        (1000, FovCount(0, 0, 10), 100),
        (1001, FovCount(0, 0, 10), 101),
        (1, FovCount(0, 0, 64), 1),
        (10**12, FovCount(0, 0, 1), 10**12),
        (1000, FovCount(7, 28, 100), 17),
        (1000, FovCount(7, 1000, 100), 0),
    ],
)
def test_steps_until_as_many_fovs_as_labelled_voxels_were_seen(voxels, fovs, steps):
    assert guidance.suggested_steps(voxels, fovs) == steps


@pytest.mark.parametrize(
    ('fovs', 'told'),
    [
        (FovCount(0, 0, 10), 'as many fields of view, which are 101 steps of 10; max_steps is 55'),
        (FovCount(20, 401, 10), 'has after step 80: it has seen 401, and each step sees 10; max'),
        (FovCount(20, 1001, 10), 'as many fields of view; it has seen 1001; max_steps is 55'),
    ],
)
def test_the_suggestion_is_logged(caplog, fovs, told):
    caplog.set_level('INFO')
    guidance.log_suggestion(1001, fovs, 55)
    (message,) = caplog.messages
    assert '1001 voxels are labelled' in message
    assert told in message


@pytest.mark.parametrize('voxels', [None, 0])
def test_without_a_count_the_rule_is_logged(caplog, voxels):
    caplog.set_level('INFO')
    guidance.log_suggestion(voxels, FovCount(3, 12, 10), 55)
    (message,) = caplog.messages
    assert 'each step sees 10 fields of view' in message
    assert 'as many as there are labelled voxels' in message


def check(monitor, *changes, start=2000):
    """How many warnings each of some summaries in a row gives."""
    return [len(monitor.check(start + i, {**GOOD, **change})) for i, change in enumerate(changes)]


def test_nothing_is_said_of_a_good_run():
    assert check(guidance.TrainingMonitor(), *[{}] * 4) == [0] * 4


@pytest.mark.parametrize('word', PATTERNS)
def test_a_warning_comes_with_the_second_summary_and_once(word):
    bad, _ = PATTERNS[word]
    monitor = guidance.TrainingMonitor()
    summary = {**GOOD, **bad}
    assert monitor.check(3000, summary) == []
    (warning,) = monitor.check(3100, summary)
    assert word in warning
    assert '3100' in warning
    assert '\n' not in warning
    assert check(monitor, *[bad] * 3) == [0] * 3


@pytest.mark.parametrize('word', PATTERNS)
def test_it_comes_back_after_it_has_gone_away(word):
    bad, good = PATTERNS[word]
    monitor = guidance.TrainingMonitor()
    summaries = (bad, good, bad, bad, bad, good, bad, good, bad, bad)
    assert check(monitor, *summaries) == [0, 0, 0, 1, 0, 0, 0, 0, 0, 1]


def test_who_finds_some_of_the_object_has_learned_something():
    """Recall 0.087 in step 2598 of a run that went on to learn; its loss was that of a constant still."""
    young = {'eval/patch_loss': 0.59, 'eval/all/recall': 0.087, 'eval/all/precision': 0.7}
    assert check(guidance.TrainingMonitor(), *[young] * 3, start=2598) == [0, 0, 0]


@pytest.mark.parametrize(('recall', 'specificity'), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5)])
def test_predictions_that_know_nothing_of_the_object_are_nothing_learned(recall, specificity):
    same = {
        'eval/patch_loss': 0.6,
        'eval/all/recall': recall,
        'eval/all/specificity': specificity,
        'eval/all/precision': 0.3,
    }
    assert check(guidance.TrainingMonitor(), same, same) == [0, 1]


def test_patterns_are_counted_each_by_itself():
    low_recall, flooding = (PATTERNS[word][0] for word in list(PATTERNS)[1:])
    monitor = guidance.TrainingMonitor()
    assert check(
        monitor, low_recall, {**low_recall, **flooding}, flooding, {**low_recall, **flooding}
    ) == [0, 1, 1, 0]
    both = guidance.TrainingMonitor()
    assert check(both, *[{**low_recall, **flooding}] * 2) == [0, 2]


def test_who_has_learned_nothing_is_not_reported_as_low_recall_as_well():
    bad = {**PATTERNS['nothing learned'][0], **PATTERNS['only where it is certain'][0]}
    assert check(guidance.TrainingMonitor(), bad, bad) == [0, 1]


def test_low_precision_is_not_reported_as_low_recall():
    assert check(
        guidance.TrainingMonitor(), *[{'eval/all/recall': 0, 'eval/all/precision': 0.7}] * 3
    ) == [0, 0, 0]


@pytest.mark.parametrize('word', PATTERNS)
def test_nothing_is_said_before_its_time_or_of_few_patches(word):
    bad, _ = PATTERNS[word]
    assert (
        check(guidance.TrainingMonitor(), *[bad] * 3, start=guidance.PATIENCE_STEPS - 3) == [0] * 3
    )
    assert check(guidance.TrainingMonitor(), bad, bad, start=guidance.PATIENCE_STEPS) == [0, 1]
    assert check(guidance.TrainingMonitor(5), bad, bad, bad, start=4) == [0, 0, 1]
    assert check(guidance.TrainingMonitor(), *[{**bad, 'eval/patches': 19}] * 3) == [0] * 3
    # A summary without finished patches lacks all of this.
    assert guidance.TrainingMonitor().check(9000, {'pixel_loss': 3.0}) == []


@pytest.mark.parametrize(
    'change',
    [
        {'moves/total': 0, 'moves/all/correct': 0, 'moves/all/spurious': 0},
        {'moves/all/correct': 0, 'moves/all/spurious': 0, 'moves/all/missed': 1},
        {'eval/constant_loss': 0.6, 'eval/patch_loss': 0},
    ],
)
def test_no_moves_are_no_warning(change):
    assert check(guidance.TrainingMonitor(), change, change) == [0, 0]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(guidance.TrainingMonitor.__init__, '__defaults__', (1,))
    monkeypatch.setattr(guidance, '_FEWEST_PATCHES', 1)


def train(folder, **optimizer):
    """No summary but those of these few steps: each sees some finished patches."""
    sample.write_sample(folder)
    config = sample.train_config(
        folder, max_steps=8, summary_seconds=0, batch_size=4, optimizer=OptimizerConfig(**optimizer)
    )
    train_loop.train(config)
    return read_events(folder / 'model')


def test_a_run_that_learns_nothing_is_warned_of(tmp_path, impatient, caplog):
    caplog.set_level('INFO')
    shown = train(tmp_path, optimizer='sgd', learning_rate=1e-9)
    warnings = [record for record in caplog.records if 'nothing learned' in record.message]
    assert warnings
    assert all(record.levelname == 'WARNING' for record in warnings)
    assert 'labelled: a network is usually trained' in caplog.text
    voxels = int((sample.labels() > 0).sum())
    assert f'{voxels} voxels are labelled' in caplog.text
    assert f'{voxels // 4} steps of 4; max_steps is 8' in caplog.text
    losses = shown['eval/patch_loss']
    assert min(losses.values()) > 0.9 * min(shown['eval/constant_loss'].values())


def test_the_same_run_is_not_warned_of_by_default(tmp_path, caplog):
    train(tmp_path, optimizer='sgd', learning_rate=1e-9)
    assert 'nothing learned' not in caplog.text
