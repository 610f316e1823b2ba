"""How unlike the training cases an input looks: Mahalanobis distance of pooled features.

Lee et al. 2018 ("A simple unified framework for detecting out-of-distribution samples"), without
classes, with a shrunk covariance (Ledoit and Wolf 2004) because cases are few and features many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLD_PERCENTILE = 99.0
"""Inputs above this percentile of the out-of-fold training scores are marked as unlike them."""

LEAST_SPREAD = 1e-2
"""A feature's standard deviation counts as at least this share of the median one: a map that was
silent in training must not make every new case infinitely far."""

LEAST_CASES = 8
"""Below this many training cases a covariance says nothing and no model is fitted."""


@dataclass(frozen=True, eq=False)
class OodModel:
    """Where the training cases of one fold lie in its network's feature space."""

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

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, for a tensor file."""
        return {"mean": self.mean, "spread": self.spread, "whiten": self.whiten}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> OodModel:
    """Return the model of :meth:`OodModel.arrays`."""
    return OodModel(*(np.asarray(arrays[name]) for name in ("mean", "spread", "whiten")))


def fit_ood(features: np.ndarray | None) -> OodModel | None:
    """Fit the training cases' features (n, f); None without features or with too few cases."""
    if features is None or len(features) < LEAST_CASES:
        return None
    from sklearn.covariance import ledoit_wolf

    features = np.asarray(features, dtype=np.float64)
    spread = features.std(0)
    spread = np.maximum(spread, max(LEAST_SPREAD * float(np.median(spread)), 1e-12))
    mean = features.mean(0)
    covariance, _ = ledoit_wolf((features - mean) / spread, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(np.maximum(values, 1e-12))
    return OodModel(mean, spread, whiten)


def ood_threshold(scores: Sequence[float] | np.ndarray) -> float:
    """Return the 99th percentile of out-of-fold scores."""
    return float(np.percentile(np.asarray(scores, dtype=float), THRESHOLD_PERCENTILE))
