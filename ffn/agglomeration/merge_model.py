"""A fit: the probability that two segments are one object, from what is known about them.

A classifier gives a score (log odds), and a calibration turns scores into probabilities. `ffn.agglomeration.fitting`
makes fits with scikit-learn; they are stored as JSON, see doc/formats.md, and evaluated here with NumPy alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.special import expit

from ffn.agglomeration.features import FEATURES
from ffn.utils.atomic import atomic_path
from ffn.utils.checksums import sealed, unsealed
from ffn.utils.errors import UserError

KIND, VERSION = 'agglomeration fit', 1
_ADVICE = 'fit again with ffn agglomerate --fit'
# Numbers up to this cannot overflow, whatever they are multiplied with.
_LARGEST = 1e15


class Classifier(Protocol):
    """Gives scores."""

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Log odds, float64 [n], of float64 [n, features]."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists."""


@dataclass(frozen=True)
class Logistic:
    """Logistic regression on standardized features, which are first clipped to what is usual.

    Attributes:
      low: float64 [features], lower values count as this.
      high: float64 [features], higher values count as this.
      mean: float64 [features], subtracted.
      scale: float64 [features], by which it is divided then.
      coefficients: float64 [features].
      intercept: added.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercept: float

    def scores(self, features: np.ndarray) -> np.ndarray:
        """See `Classifier`."""
        usual = np.clip(features, self.low, self.high)
        return (usual - self.mean) / self.scale @ self.coefficients + self.intercept

    def to_json(self) -> dict[str, Any]:
        """See `Classifier`."""
        names = ('low', 'high', 'mean', 'scale', 'coefficients')
        lists = {name: getattr(self, name).tolist() for name in names}
        return {'kind': 'logistic', **lists, 'intercept': self.intercept}


@dataclass(frozen=True)
class Tree:
    """A decision tree; node 0 is its root, and children come after their parents.

    Attributes:
      feature: int64 [nodes], which is compared; -1 at leaves.
      threshold: float64 [nodes]: features of up to this go left.
      left: int64 [nodes].
      right: int64 [nodes].
      value: float64 [nodes], what leaves add to the score.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Values, float64 [n], of float32 [n, features]."""
        at = np.zeros(len(features), np.int64)
        rows = np.arange(len(features))
        while len(rows):
            rows = rows[self.feature[at[rows]] >= 0]
            nodes = at[rows]
            goes_left = features[rows, self.feature[nodes]] <= self.threshold[nodes]
            at[rows] = np.where(goes_left, self.left[nodes], self.right[nodes])
        return self.value[at]


@dataclass(frozen=True)
class Boosted:
    """Gradient boosting: the sum of many trees.

    Attributes:
      start: score before the first tree.
      rate: by which values are multiplied.
      trees: the trees.
    """

    start: float
    rate: float
    trees: Sequence[Tree]

    def scores(self, features: np.ndarray) -> np.ndarray:
        """See `Classifier`."""
        single = features.astype(np.float32)  # as scikit-learn compares them
        total = np.full(len(features), self.start)
        for tree in self.trees:
            total += self.rate * tree(single)
        return total

    def to_json(self) -> dict[str, Any]:
        """See `Classifier`."""
        names = ('feature', 'threshold', 'left', 'right', 'value')
        trees = [{name: getattr(tree, name).tolist() for name in names} for tree in self.trees]
        return {'kind': 'trees', 'start': self.start, 'rate': self.rate, 'trees': trees}


@dataclass(frozen=True)
class Sigmoid:
    """Platt's calibration: log odds are a straight line of the score.

    Attributes:
      slope: more than 0.
      offset: added.
    """

    slope: float
    offset: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities, float64 [n]."""
        result: np.ndarray = expit(self.slope * scores + self.offset)
        return result

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {'kind': 'sigmoid', 'slope': self.slope, 'offset': self.offset}


@dataclass(frozen=True)
class Isotonic:
    """A probability that never falls with the score: straight lines between points.

    Attributes:
      scores: float64 [points], ascending.
      probabilities: float64 [points], ascending; the ends count beyond.
    """

    scores: np.ndarray
    probabilities: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities, float64 [n]."""
        return np.interp(scores, self.scores, self.probabilities)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        lists = {name: getattr(self, name).tolist() for name in ('scores', 'probabilities')}
        return {'kind': 'isotonic', **lists}


@dataclass(frozen=True)
class MergeModel:
    """A fit.

    Attributes:
      features: names of what the classifier is given, among `FEATURES`.
      classifier: gives scores.
      calibration: makes probabilities of them.
      fitted_on: what it was fitted on, plain JSON.
      validation: how it did on objects that it had not seen, plain JSON.
    """

    features: tuple[str, ...]
    classifier: Classifier
    calibration: Sigmoid | Isotonic
    fitted_on: Mapping[str, Any] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Calculates the probability that the two segments of a pair are one object.

        Args:
          features: float64 [n, len(FEATURES)]; NaN where nothing is known.

        Returns:
          float64 [n]; NaN where nothing is known.
        """
        chosen = features[:, [FEATURES.index(name) for name in self.features]]
        known = np.isfinite(chosen).all(axis=1)
        result = np.full(len(features), np.nan)
        result[known] = self.calibration(self.classifier.scores(chosen[known]))
        return result


def write_model(path: str | Path, model: MergeModel) -> None:
    """Writes a fit as JSON, atomically."""
    content = {
        'kind': KIND,
        'version': VERSION,
        'features': list(model.features),
        'classifier': model.classifier.to_json(),
        'calibration': model.calibration.to_json(),
        'fitted_on': model.fitted_on,
        'validation': model.validation,
    }
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(json.dumps(sealed(content), indent=1) + '\n')


def read_model(path: str | Path) -> MergeModel:
    """Reads what `write_model` wrote.

    Raises:
      UserError: there is no such file, it is damaged, or of another kind or a later version.
    """
    if not Path(path).is_file():
        raise UserError(f'no such fit: {path}')
    content = unsealed(Path(path).read_bytes(), path, _ADVICE)
    if content.get('kind') != KIND:
        raise UserError(f'{path} is no fit of ffn agglomerate --fit')
    if content.get('version') != VERSION:
        raise UserError(
            f'{path} is a fit of version {content.get("version")!r:.40}, and this program reads version '
            f'{VERSION}; {_ADVICE}'
        )
    try:
        return _parse(content)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        told = f'{type(error).__name__} {" ".join(str(error).split())[:100]}'
        raise UserError(f'{path} is no valid fit: {told}; {_ADVICE}') from error


def _parse(content: Mapping[str, Any]) -> MergeModel:
    names = content['features']
    if not isinstance(names, list) or not names or len(set(names)) != len(names):
        raise ValueError('features are no list of different names')
    if unknown := [name for name in names if name not in FEATURES]:
        raise ValueError(f'the feature {unknown[0]!r:.40} is unknown')
    fitted_on, validation = content['fitted_on'], content['validation']
    if not isinstance(fitted_on, dict) or not isinstance(validation, dict):
        raise TypeError('fitted_on and validation are no objects')
    classifier = _parse_classifier(content['classifier'], len(names))
    calibration = _parse_calibration(content['calibration'])
    return MergeModel(tuple(names), classifier, calibration, fitted_on, validation)


def _parse_classifier(content: Mapping[str, Any], count: int) -> Classifier:
    if content['kind'] == 'logistic':
        low, high, mean, scale, coefficients = (
            _numbers(content[name], count)
            for name in ('low', 'high', 'mean', 'scale', 'coefficients')
        )
        if (low > high).any():
            raise ValueError('low is above high')
        if scale.min() < 1 / _LARGEST:
            raise ValueError('scale is not positive, or too small')
        return Logistic(low, high, mean, scale, coefficients, _number(content['intercept']))
    if content['kind'] == 'trees':
        trees = [_parse_tree(tree, count) for tree in content['trees']]
        return Boosted(_number(content['start']), _number(content['rate']), trees)
    raise ValueError(f'the classifier {content["kind"]!r:.40} is unknown')


def _parse_tree(content: Mapping[str, Any], features: int) -> Tree:
    feature = _integers(content['feature'])
    nodes = len(feature)
    threshold, value = (_numbers(content[name], nodes) for name in ('threshold', 'value'))
    left, right = (_integers(content[name]) for name in ('left', 'right'))
    inner, here = feature >= 0, np.arange(nodes)
    if not nodes or not len(left) == len(right) == nodes or feature.max() >= features:
        raise ValueError('a tree has nodes that do not fit together')
    for child in (left[inner], right[inner]):
        if (child <= here[inner]).any() or (child >= nodes).any():
            raise ValueError('a tree has a child before its parent, or none')
    return Tree(feature, threshold, left, right, value)


def _parse_calibration(content: Mapping[str, Any]) -> Sigmoid | Isotonic:
    if content['kind'] == 'sigmoid':
        slope, offset = _number(content['slope']), _number(content['offset'])
        if slope <= 0:
            raise ValueError('the slope is not positive')
        return Sigmoid(slope, offset)
    if content['kind'] == 'isotonic':
        scores = _numbers(content['scores'])
        probabilities = _numbers(content['probabilities'], len(scores))
        if not len(scores) or (np.diff(scores) <= 0).any() or (np.diff(probabilities) < 0).any():
            raise ValueError('the points of the calibration do not ascend')
        if probabilities[0] < 0 or probabilities[-1] > 1:
            raise ValueError('probabilities are not from 0 to 1')
        return Isotonic(scores, probabilities)
    raise ValueError(f'the calibration {content["kind"]!r:.40} is unknown')


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not -_LARGEST < value < _LARGEST:
        raise ValueError(f'{value!r:.40} is no number, or too large')
    return float(value)


def _numbers(values: Any, count: int | None = None) -> np.ndarray:
    if not isinstance(values, list) or (count is not None and len(values) != count):
        raise ValueError(f'expected a list of {"" if count is None else count} numbers')
    return np.array([_number(value) for value in values], np.float64)


def _integers(values: Any) -> np.ndarray:
    if not isinstance(values, list) or not all(type(n) is int and abs(n) < 2**31 for n in values):
        raise ValueError('expected a list of integers')
    return np.array(values, np.int64)
