"""How unlike the training cases an input looks: its distance to the nearest of them in features.

Pooled features of a network, reduced by principal components, then the distance to the k-th nearest
training case (Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors"; with
principal components before, Woodland et al. 2024, MELBA 2:020). Cases need not lie in one cloud, as
they must for a Mahalanobis distance (Lee et al. 2018), which models of format 1 hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

THRESHOLD_PERCENTILE = 99.0
"""Inputs above this percentile of the out-of-fold training scores are marked as unlike them."""

LEAST_SPREAD = 1e-2
"""A feature's standard deviation counts as at least this share of the median one: a map that was
silent in training must not make every new case infinitely far."""

LEAST_CASES = 8
"""Below this many training cases there is no neighbourhood and no model is fitted."""

NEIGHBOURS = 5
"""The distance is that to the fifth nearest case, so that one odd training case hides nobody."""

COMPONENTS = 128
"""Principal components at most; 32 missed coarse pixels that 128 found (decision 20)."""

CASES_A_COMPONENT = 4
"""Training cases there must be for each: in as many dimensions as cases all distances are alike."""

RIDGE = 0.02
"""Variance added to that of each component, so that whitening does not blow up the least ones."""


class OodModel(Protocol):
    """Where the training cases of one fold lie in its network's feature space."""

    def score(self, features: np.ndarray) -> np.ndarray:
        """Return distances (n,) of features (n, f); 1 is typical of the training cases."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, for a tensor file."""
        ...


class _Kept:
    """What is written as its fields."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, for a tensor file."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, eq=False)
class Neighbours(_Kept):
    """Training cases as points of a few whitened principal components."""

    mean: np.ndarray
    """(f,)"""
    spread: np.ndarray
    """(f,) standard deviations."""
    components: np.ndarray
    """(f, p); standardised features times this have a variance of about 1 along each axis."""
    points: np.ndarray
    """(m, p) the training cases."""
    typical: np.ndarray
    """(1,) median distance of a training case to its own neighbour."""

    def score(self, features: np.ndarray) -> np.ndarray:
        """Return distances (n,) of features (n, f); 1 is typical of the training cases."""
        standard = (np.asarray(features, dtype=np.float64) - self.mean) / self.spread
        return _to_neighbour(standard @ self.components, self.points, 0) / self.typical[0]


@dataclass(frozen=True, eq=False)
class Mahalanobis(_Kept):
    """Mean and shrunk covariance of the training cases, of models of format 1."""

    mean: np.ndarray
    """(f,)"""
    spread: np.ndarray
    """(f,) standard deviations."""
    whiten: np.ndarray
    """(f, f); standardised features times this have the identity as covariance."""

    def score(self, features: np.ndarray) -> np.ndarray:
        """Return distances (n,) of features (n, f); 1 is typical of the training cases."""
        standard = (np.asarray(features, dtype=np.float64) - self.mean) / self.spread
        return np.sqrt(np.mean((standard @ self.whiten) ** 2, axis=1))


def from_arrays(arrays: Mapping[str, np.ndarray]) -> OodModel:
    """Return the model of ``arrays()``."""
    kind = Mahalanobis if "whiten" in arrays else Neighbours
    return kind(*(np.asarray(arrays[one.name]) for one in fields(kind)))


def fit_ood(features: np.ndarray | None) -> OodModel | None:
    """Fit the training cases' features (n, f); None without features or with too few cases."""
    if features is None or len(features) < LEAST_CASES:
        return None
    features = np.asarray(features, dtype=np.float64)
    spread = features.std(0)
    spread = np.maximum(spread, max(LEAST_SPREAD * float(np.median(spread)), 1e-12))
    mean = features.mean(0)
    standard = (features - mean) / spread
    _, sizes, axes = np.linalg.svd(standard, full_matrices=False)
    there = int(np.sum(sizes > LEAST_SPREAD * sizes[0]))
    kept = min(COMPONENTS, len(features) // CASES_A_COMPONENT, there)
    variance = sizes[:kept] ** 2 / len(features)
    components = (axes[:kept] / np.sqrt(variance + RIDGE)[:, None]).T
    points = standard @ components
    typical = float(np.median(_to_neighbour(points, points, 1)))
    return Neighbours(mean, spread, components, points, np.array([max(typical, 1e-12)]))


def ood_threshold(scores: Sequence[float] | np.ndarray) -> float:
    """Return the 99th percentile of out-of-fold scores."""
    return float(np.percentile(np.asarray(scores, dtype=float), THRESHOLD_PERCENTILE))


def _to_neighbour(asked: np.ndarray, points: np.ndarray, itself: int) -> np.ndarray:
    """Return the distance of each (n, p) to the k-th nearest point, itself left out."""
    from scipy.spatial import cKDTree

    k = min(NEIGHBOURS, len(points) - itself) + itself
    return cKDTree(points).query(asked, k=[k])[0][:, 0]
