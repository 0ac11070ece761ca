"""Fits classifiers to pairs whose objects are known, and chooses among them by cross-validation over objects.

Objects of the ground truth are divided into folds. A fold is tested on the pairs of which both objects are in it, by a
classifier that was fitted to the pairs of which neither is, so that no object is on both sides. A pair of two objects is
less likely than one within an object to be in either set, and counts accordingly more.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logit

from ffn.agglomeration.features import FEATURES
from ffn.agglomeration.merge_model import (
    Boosted,
    Classifier,
    Isotonic,
    Logistic,
    MergeModel,
    Sigmoid,
    Tree,
)
from ffn.utils.errors import UserError

FOLDS, REPEATS = 4, 5
# Bins of the reliability table.
_BINS = 10
# Fewest pairs within an object, and of two, and fewest objects with pairs within, that are fitted to.
_MIN_PAIRS, _MIN_OBJECTS = 10, FOLDS
# Divisions into folds that are tried.
_DRAWS = 100

# Quantiles of a feature beyond which logistic regression does not extrapolate, and a spread that is none.
_USUAL, _LEAST_SCALE = (0.02, 0.98), 1e-9
# Of a calibration: probabilities never fall with the score.
_LEAST_SLOPE = 1e-6

Fitter = Callable[[np.ndarray, np.ndarray, np.ndarray], Classifier]
Calibration = Sigmoid | Isotonic


@dataclass(frozen=True)
class KnownPairs:
    """Pairs whose objects are known.

    Attributes:
      features: float64 [n, len(FEATURES)], finite.
      objects: uint64 [n, 2], objects of the ground truth that the two segments belong to.
    """

    features: np.ndarray
    objects: np.ndarray

    @property
    def same(self) -> np.ndarray:
        """Whether the two segments are of one object, bool [n]."""
        same: np.ndarray = self.objects[:, 0] == self.objects[:, 1]
        return same


class Split(NamedTuple):
    """A fold, as indices of pairs, int64 [m].

    Attributes:
      train: pairs without an object of the fold.
      test: pairs within the fold.
    """

    train: np.ndarray
    test: np.ndarray


class Tested(NamedTuple):
    """What was predicted about pairs that a classifier had not seen.

    Attributes:
      same: bool [n].
      weights: float64 [n].
      scores: float64 [n].
      probabilities: float64 [n].
    """

    same: np.ndarray
    weights: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray


def fit(pairs: KnownPairs, fitted_on: Mapping[str, Any]) -> MergeModel:
    """Fits logistic regression and gradient boosting with either calibration, and chooses among them.

    Chosen is the simplest whose log loss is not above the lowest by more than the standard error of the difference.

    Args:
      pairs: what is fitted to.
      fitted_on: what is known about them, plain JSON; stored with the fit.

    Returns:
      The fit, whose `validation` has the figures of all that were tried.

    Raises:
      UserError: scikit-learn is not installed, or there are too few pairs.
    """
    require_scikit_learn()
    _check_enough(pairs)
    splits = list(split_by_objects(pairs))
    tested = {}
    for name, fitter in FITTERS.items():
        scores = _score_folds(pairs, splits, fitter)
        for kind, calibrate in CALIBRATIONS.items():
            tested[f'{name}, {kind}'] = _calibrate_folds(pairs.same, splits, scores, calibrate)
    figures = {name: figures_of(_together(folds)) for name, folds in tested.items()}
    chosen = _choose(tested, min(figures, key=lambda name: figures[name]['log_loss']))
    name, kind = chosen.split(', ')
    best = _together(tested[chosen])
    every = np.ones(len(pairs.features))
    rate = np.full(len(best.same), np.average(best.same, weights=best.weights))
    return MergeModel(
        FEATURES,
        FITTERS[name](pairs.features, pairs.same, every),
        CALIBRATIONS[kind](best.scores, best.same, best.weights),
        {
            **fitted_on,
            'pairs': len(pairs.features),
            'pairs_within_objects': int(pairs.same.sum()),
            'objects_with_pairs_within': len(np.unique(pairs.objects[pairs.same])),
        },
        {
            'folds': FOLDS,
            'repeats': REPEATS,
            'chosen': chosen,
            'tried': figures,
            'log_loss_of_the_rate_alone': figures_of(best._replace(probabilities=rate))['log_loss'],
            'reliability': reliability(best),
        },
    )


def _choose(tested: Mapping[str, Sequence[Tested]], best: str) -> str:
    """The first, as the simplest come first, that is as good as the best one, as far as the folds tell."""
    losses = {
        name: np.array([figures_of(fold)['log_loss'] for fold in folds])
        for name, folds in tested.items()
    }
    for name, loss in losses.items():
        worse = loss - losses[best]
        # Repetitions use the same pairs again, so that they do not count.
        if name == best or worse.mean() <= worse.std(ddof=1) / math.sqrt(FOLDS):
            return name
    return best


def _together(folds: Sequence[Tested]) -> Tested:
    return Tested(*(np.concatenate(parts) for parts in zip(*folds, strict=True)))


def require_scikit_learn() -> None:
    """Raises UserError if scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--fit needs scikit-learn ({error}): pip install 'flood-filling-networks[fit]'"
        ) from error


def _check_enough(pairs: KnownPairs) -> None:
    within = int(pairs.same.sum())
    between, objects = len(pairs.same) - within, len(np.unique(pairs.objects[pairs.same]))
    if min(within, between) < _MIN_PAIRS or objects < _MIN_OBJECTS:
        raise UserError(
            f'too few pairs to fit to: {within} within an object, of {objects} objects, and {between} of two objects; '
            f'at least {_MIN_PAIRS}, of {_MIN_OBJECTS}, and {_MIN_PAIRS} are needed'
        )


def split_by_objects(pairs: KnownPairs, seed: int = 0) -> Iterator[Split]:
    """Divides objects into folds at random, several times; those with pairs within them evenly.

    A division by which some fold could not be fitted, calibrated or tested is drawn again.

    Raises:
      UserError: there is none that could.
    """
    random = np.random.default_rng(seed)
    ids, at = np.unique(pairs.objects, return_inverse=True)
    at = at.reshape(-1, 2)
    without = np.ones(len(ids), bool)
    without[at[pairs.same]] = False
    for _ in range(REPEATS):
        for _ in range(_DRAWS):
            fold_of = np.empty(len(ids), np.int64)
            fold_of[np.lexsort((random.random(len(ids)), without))] = np.arange(len(ids)) % FOLDS
            splits = [_split(fold_of[at], fold) for fold in range(FOLDS)]
            if _are_usable(splits, pairs.same):
                break
        else:
            raise UserError(
                f'the {len(pairs.same)} pairs cannot be divided by their objects into {FOLDS} parts that each have pairs '
                'within an object and pairs of two; more of them, of more objects, are needed'
            )
        yield from splits


def _split(folds: np.ndarray, fold: int) -> Split:
    """Splits pairs, of which both objects' folds are given."""
    return Split(
        np.flatnonzero((folds != fold).all(axis=1)), np.flatnonzero((folds == fold).all(axis=1))
    )


def _are_usable(splits: Sequence[Split], same: np.ndarray) -> bool:
    """Whether each fold has pairs, and there are both kinds of them in what it is fitted and calibrated to."""
    for number, (train, test) in enumerate(splits):
        rest = np.concatenate([other.test for n, other in enumerate(splits) if n != number])
        if not len(test) or any(len(np.unique(same[known])) < 2 for known in (train, rest)):
            return False
    return True


def _score_folds(pairs: KnownPairs, splits: Sequence[Split], fitter: Fitter) -> list[np.ndarray]:
    """Scores the pairs that are tested in each fold."""
    scores = []
    for train, test in splits:
        same = pairs.same[train]
        classifier = fitter(pairs.features[train], same, np.where(same, 1.0, FOLDS / (FOLDS - 1)))
        scores.append(classifier.scores(pairs.features[test]))
    return scores


def _calibrate_folds(
    same: np.ndarray,
    splits: Sequence[Split],
    scores: Sequence[np.ndarray],
    calibrate: Callable[..., Calibration],
) -> list[Tested]:
    """Predicts every fold; what calibrates the scores of a fold are those of the other folds."""
    found = []
    for number, (_, test) in enumerate(splits):
        first = number // FOLDS * FOLDS
        others = [i for i in range(first, first + FOLDS) if i != number]
        rest = np.concatenate([splits[i].test for i in others])
        known = np.concatenate([scores[i] for i in others])
        calibration = calibrate(known, same[rest], _weights(same[rest]))
        found.append(
            Tested(same[test], _weights(same[test]), scores[number], calibration(scores[number]))
        )
    return found


def _weights(same: np.ndarray) -> np.ndarray:
    """Inverse of the chance that both objects are in a fold, compared with that of one object."""
    return np.where(same, 1.0, FOLDS)


def figures_of(tested: Tested) -> dict[str, float]:
    """Scores predictions: log loss, Brier score, and precision and recall where a half decides."""
    same, weights = tested.same, tested.weights
    p = np.clip(tested.probabilities, 1e-12, 1 - 1e-12)
    taken = p >= 0.5
    right = float(weights[taken & same].sum())
    return {
        'log_loss': float(np.average(-np.log(np.where(same, p, 1 - p)), weights=weights)),
        'brier': float(np.average((p - same) ** 2, weights=weights)),
        'precision': right / max(float(weights[taken].sum()), 1e-12),
        'recall': right / max(float(weights[same].sum()), 1e-12),
    }


def reliability(tested: Tested) -> list[dict[str, float]]:
    """Compares probabilities with what came true, in bins of equal width that hold any pair."""
    bins = np.minimum((tested.probabilities * _BINS).astype(int), _BINS - 1)
    table = []
    for one in np.unique(bins):
        chosen = bins == one
        weights = tested.weights[chosen]
        table.append(
            {
                'predicted': float(np.average(tested.probabilities[chosen], weights=weights)),
                'observed': float(np.average(tested.same[chosen], weights=weights)),
                'weight': float(weights.sum()) / float(tested.weights.sum()),
            }
        )
    return table


# Classifiers and calibrations.


def fit_logistic(
    features: np.ndarray, same: np.ndarray, weights: np.ndarray, strength: float = 1.0
) -> Logistic:
    """Fits logistic regression to standardized features.

    Args:
      features: float64 [n, features].
      same: bool [n].
      weights: float64 [n].
      strength: inverse of the regularization.
    """
    from sklearn.linear_model import LogisticRegression

    low, high = np.quantile(features, _USUAL, axis=0)
    usual = np.clip(features, low, high)
    mean, scale = usual.mean(axis=0), usual.std(axis=0)
    scale[scale < _LEAST_SCALE] = 1.0
    fitted = LogisticRegression(C=strength, max_iter=2000)
    fitted.fit((usual - mean) / scale, same, sample_weight=weights)
    return Logistic(low, high, mean, scale, fitted.coef_[0], float(fitted.intercept_[0]))


def fit_boosted(
    features: np.ndarray, same: np.ndarray, weights: np.ndarray, depth: int = 3
) -> Boosted:
    """Fits gradient boosting; see `fit_logistic`."""
    from sklearn.ensemble import GradientBoostingClassifier

    fitted = GradientBoostingClassifier(
        n_estimators=120,
        learning_rate=0.05,
        max_depth=depth,
        min_samples_leaf=5,
        subsample=0.7,
        max_features='sqrt',
        random_state=0,
    ).fit(features, same, sample_weight=weights)
    start = float(logit(fitted.init_.class_prior_[1]))
    return Boosted(start, fitted.learning_rate, [_tree(one[0].tree_) for one in fitted.estimators_])


def _tree(tree: Any) -> Tree:
    is_leaf = tree.children_left < 0
    return Tree(
        np.where(is_leaf, -1, tree.feature).astype(np.int64),
        np.where(is_leaf, 0.0, tree.threshold),
        np.where(is_leaf, 0, tree.children_left).astype(np.int64),
        np.where(is_leaf, 0, tree.children_right).astype(np.int64),
        tree.value[:, 0, 0].copy(),
    )


def calibrate_sigmoid(scores: np.ndarray, same: np.ndarray, weights: np.ndarray) -> Sigmoid:
    """Fits a straight line of log odds; where scores say nothing, it has the rate of the pairs.

    Args:
      scores: float64 [n].
      same: bool [n].
      weights: float64 [n].
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=100.0).fit(scores[:, np.newaxis], same, sample_weight=weights)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope > _LEAST_SLOPE:
        return Sigmoid(slope, offset)
    return Sigmoid(_LEAST_SLOPE, float(logit(np.average(same, weights=weights))))


def calibrate_isotonic(scores: np.ndarray, same: np.ndarray, weights: np.ndarray) -> Isotonic:
    """Fits a rising step function that is never certain; see `calibrate_sigmoid`."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds='clip').fit(scores, same, sample_weight=weights)
    least = 1 / (weights.sum() + 2)
    return Isotonic(fitted.X_thresholds_, np.clip(fitted.y_thresholds_, least, 1 - least))


# The simplest first.
FITTERS: Mapping[str, Fitter] = {
    **{
        f'logistic regression C={strength:g}': functools.partial(fit_logistic, strength=strength)
        for strength in (0.01, 0.1, 1.0)
    },
    'gradient boosting': fit_boosted,
}
CALIBRATIONS: Mapping[str, Callable[..., Calibration]] = {
    'sigmoid': calibrate_sigmoid,
    'isotonic': calibrate_isotonic,
}
