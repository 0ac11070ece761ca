"""Fitting to pairs with known probabilities: calibration, order, folds, and what scikit-learn itself predicts."""

import sys

import numpy as np
import pytest
from scipy.special import expit

from ffn.agglomeration import fitting
from ffn.agglomeration.evidence_table import ROW
from ffn.agglomeration.features import FEATURES
from ffn.agglomeration.fitting import KnownPairs, fit, split_by_objects
from ffn.agglomeration.merge_model import MergeModel, Sigmoid, read_model, write_model
from ffn.agglomeration.truth import FitConfig, Owners, find_owners, known_pairs
from ffn.utils.errors import UserError

OBJECTS = 200


def sample(count, seed=1):
    """Pairs of which it is known how probable it is that they are one object; only two features say something."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, len(FEATURES)))
    true = expit(
        2 * features[:, FEATURES.index('iou')] + features[:, FEATURES.index('contact')] - 1.5
    )
    same = random.random(count) < true
    a, shift = random.integers(0, OBJECTS, count), random.integers(1, OBJECTS, count)
    objects = np.stack([a, np.where(same, a, (a + shift) % OBJECTS)], axis=1) + 1
    return KnownPairs(features, objects.astype(np.uint64)), true


@pytest.fixture(scope='module')
def fitted():
    pytest.importorskip('sklearn')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, 'REPEATS', 2)
        yield fit(sample(1500)[0], {'truth': 'made'})


def test_probabilities_come_true(fitted):
    pairs, true = sample(20_000, seed=2)
    found = fitted.probabilities(pairs.features)
    assert np.mean(np.abs(found - true)) < 0.07
    for low in np.arange(0, 1, 0.1):
        within = (found >= low) & (found < low + 0.1)
        assert pairs.same[within].mean() == pytest.approx(found[within].mean(), abs=0.1)


def test_what_was_tried_is_told(fitted):
    found = fitted.validation
    assert found['chosen'].startswith('logistic regression')  # as the pairs were made
    assert len(found['tried']) == 8
    best = found['tried'][found['chosen']]
    assert best['log_loss'] < min(one['log_loss'] for one in found['tried'].values()) + 0.03
    pairs, true = sample(20_000, seed=2)
    expected = -np.mean(np.where(pairs.same, np.log(true), np.log(1 - true)))
    assert best['log_loss'] == pytest.approx(expected, abs=0.04)
    assert found['log_loss_of_the_rate_alone'] > 1.2 * expected
    assert best['brier'] < 0.2
    assert sum(row['weight'] for row in found['reliability']) == pytest.approx(1)
    for row in found['reliability']:
        assert row['observed'] == pytest.approx(row['predicted'], abs=0.15)
    same = sample(1500)[0]
    assert fitted.fitted_on == {
        'truth': 'made',
        'pairs': 1500,
        'pairs_within_objects': int(same.same.sum()),
        'objects_with_pairs_within': len(np.unique(same.objects[same.same])),
    }


def test_the_simplest_that_is_as_good_is_chosen():
    random = np.random.default_rng(0)
    same, weights, scores = random.random(400) < 0.5, np.ones(400), np.zeros(400)

    def folds(p_true, noise):
        p = np.clip(
            np.where(same, p_true, 1 - p_true) + noise * random.normal(size=400), 0.01, 0.99
        )
        parts = (same, weights, scores, p)
        return [fitting.Tested(*(part[i : i + 20] for part in parts)) for i in range(0, 400, 20)]

    tested = {'simple': folds(0.7, 0.05), 'middle': folds(0.8, 0.05), 'best': folds(0.8, 0.04)}
    assert fitting._choose(tested, 'best') == 'middle'
    assert fitting._choose({**tested, 'best': folds(0.95, 0.01)}, 'best') == 'best'


def test_no_object_is_on_both_sides():
    pairs, _ = sample(500)
    splits = list(split_by_objects(pairs))
    assert len(splits) == fitting.FOLDS * fitting.REPEATS
    for train, test in splits:
        assert len(train)
        assert len(test)
        assert not np.intersect1d(pairs.objects[train], pairs.objects[test]).size
    for first in range(0, len(splits), fitting.FOLDS):
        tested = np.concatenate([test for _, test in splits[first : first + fitting.FOLDS]])
        assert len(np.unique(tested)) == len(tested)
        assert set(np.flatnonzero(pairs.same)) <= set(tested.tolist())


def test_pairs_that_are_tested_less_often_count_more(monkeypatch):
    """A classifier that knows nothing is calibrated to the true rate, although folds have few pairs of two objects."""
    pytest.importorskip('sklearn')
    pairs, _ = sample(4000)
    nothing = KnownPairs(np.random.default_rng(0).normal(size=pairs.features.shape), pairs.objects)
    monkeypatch.setattr(
        fitting, 'FITTERS', {'logistic': lambda f, s, w: fitting.fit_logistic(f, s, w, 1e-6)}
    )
    found = fit(nothing, {})
    rate = pairs.same.mean()
    assert found.probabilities(nothing.features).mean() == pytest.approx(rate, abs=0.03)


@pytest.mark.parametrize('name', ['logistic', 'boosting'])
def test_scikit_learn_predicts_the_same(tmp_path, name, monkeypatch):
    pytest.importorskip('sklearn')
    from sklearn import ensemble, linear_model

    kept = []
    for module, cls in (
        (linear_model, 'LogisticRegression'),
        (ensemble, 'GradientBoostingClassifier'),
    ):
        kind = getattr(module, cls)

        def keep(*args, kind=kind, **kwargs):
            kept.append(kind(*args, **kwargs))
            return kept[-1]

        monkeypatch.setattr(module, cls, keep)
    pairs, _ = sample(800)
    fitter = fitting.fit_logistic if name == 'logistic' else fitting.fit_boosted
    classifier = fitter(pairs.features, pairs.same, np.ones(800))
    write_model(tmp_path / 'fit.json', MergeModel(FEATURES, classifier, Sigmoid(1.0, 0.0)))
    fresh = sample(500, seed=9)[0].features
    seen = fresh
    if name == 'logistic':
        low, high = np.quantile(pairs.features, (0.02, 0.98), axis=0)
        usual = np.clip(pairs.features, low, high)
        seen = (np.clip(fresh, low, high) - usual.mean(axis=0)) / usual.std(axis=0)
    expected = kept[0].predict_proba(seen)[:, 1]
    found = read_model(tmp_path / 'fit.json').probabilities(fresh)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_calibrations_keep_the_order_and_are_scikit_learns(tmp_path):
    isotonic = pytest.importorskip('sklearn.isotonic')
    random = np.random.default_rng(3)
    scores = random.normal(size=600)
    same, weights = (
        random.random(600) < expit(3 * scores),
        np.where(random.random(600) < 0.5, 1.0, 4.0),
    )
    at = np.linspace(-5, 5, 301)
    for calibrate in fitting.CALIBRATIONS.values():
        found = calibrate(scores, same, weights)(at)
        assert (np.diff(found) >= 0).all()
        assert 0 < found[0] < found[-1] < 1
    sk = isotonic.IsotonicRegression(out_of_bounds='clip').fit(scores, same, sample_weight=weights)
    least = 1 / (weights.sum() + 2)
    np.testing.assert_allclose(found, sk.predict(at), rtol=0, atol=1.01 * least)
    # Even where evidence misleads, more of it never says less.
    misled = fitting.calibrate_sigmoid(-scores, same, weights)
    assert misled.slope > 0


def test_too_few_pairs_are_one_line():
    pytest.importorskip('sklearn')
    with pytest.raises(UserError, match=r'too few pairs to fit to: .* within an object'):
        fit(sample(20)[0], {})


def test_few_pairs_are_divided_so_that_every_fold_has_both_kinds():
    """Eight objects, each of which touches one other: most divisions leave folds without pairs of two objects."""
    objects = np.array([(i, i) for i in range(1, 9)] * 2 + [(1, 5), (2, 6), (3, 7), (4, 8)] * 3)
    pairs = KnownPairs(np.zeros((len(objects), len(FEATURES))), objects.astype(np.uint64))
    splits = list(split_by_objects(pairs))
    assert len(splits) == fitting.FOLDS * fitting.REPEATS
    for train, test in splits:
        assert set(pairs.same[train]) == {True, False}
        assert len(test)
    # One object that all others touch is in one fold, and no other fold has pairs of two.
    objects = np.array([(i, i) for i in range(1, 9)] * 2 + [(1, i) for i in range(2, 9)] * 2)
    with pytest.raises(
        UserError, match='the 30 pairs cannot be divided by their objects into 4 parts'
    ):
        list(split_by_objects(KnownPairs(pairs.features[:30], objects.astype(np.uint64))))


def test_without_scikit_learn_it_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn', None)
    with pytest.raises(UserError, match=r'--fit needs scikit-learn .*\[fit\]'):
        fitting.require_scikit_learn()


def test_owners_have_most_voxels():
    large = 2**63 + 7
    rows = np.array(
        [[1, 4, 80], [1, 5, 20], [2, 4, 60], [2, 5, 40], [3, 0, 50], [3, 4, 50], [large, large, 9]],
        np.uint64,
    )
    owners = find_owners(rows, 0.75)
    asked = np.array([[1, 2], [3, large], [6, 1]], np.uint64)
    assert owners.of(asked).tolist() == [[4, 0], [0, large], [0, 4]]
    assert find_owners(rows, 0.6).of(asked[0]).tolist() == [4, 4]
    with pytest.raises(UserError, match=r'--min_majority is 0\.5'):
        FitConfig(min_majority=0.5)
    with pytest.raises(UserError, match=r'--min_majority does nothing without --fit: give that'):
        FitConfig(examples=('a.csv',), min_majority=0.8)


def test_unclear_pairs_are_left_out_and_counted():
    owners = Owners(np.array([1, 2, 3, 4], np.uint64), np.array([7, 7, 8, 0], np.uint64))
    table = np.zeros(4, ROW)
    table['id_a'], table['id_b'] = [1, 1, 1, 2], [2, 3, 4, 3]
    table['features'][3] = np.nan
    known, left_out = known_pairs([table[:2], table[2:]], owners, {})
    assert known.objects.tolist() == [[7, 7], [7, 8]]
    assert known.same.tolist() == [True, False]
    assert left_out == {'not_resegmented': 1, 'unclear_object': 1, 'no_candidate': 0}


def test_examples_count_beside_the_truth_and_without_it(caplog):
    large = 2**64 - 2
    owners = Owners(np.array([1, 2, 4], np.uint64), np.array([7, 8, 0], np.uint64))
    table = np.zeros(5, ROW)
    table['id_a'], table['id_b'] = [1, 1, 4, 4, 5], [2, 4, 5, large, large]
    table['features'][4] = np.nan
    examples = {(1, 4): (7, 7), (4, large): (7, large), (3, 5): (9, 9), (5, large): (9, large)}
    known, left_out = known_pairs([table[:2], table[2:]], owners, examples)
    assert known.objects.tolist() == [[7, 8], [7, 7], [7, large]]
    assert left_out == {'not_resegmented': 1, 'unclear_object': 1, 'no_candidate': 1}
    assert 'such as 3 and 5' in caplog.text
    alone, left_out = known_pairs([table], None, examples)
    assert alone.objects.tolist() == [[7, 7], [7, large]]
    assert left_out == {'not_resegmented': 1, 'unclear_object': 0, 'no_candidate': 1}
