"""Predictions made in code, which the tests of this wing share."""

import numpy as np

from tasks.evaluate.predictions import Predictions


def draw(n=200, k=2, *, cases=1, gain=1.5, seed=0, positive=None) -> Predictions:
    """Draw soft-max probabilities with tied scores; `cases` cases a patient."""
    rng = np.random.default_rng(seed)
    target = np.arange(n) % k
    rng.shuffle(target)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), target] += gain
    p = np.exp(logits)
    p = np.round(p / p.sum(1, keepdims=True), 2)
    p /= p.sum(1, keepdims=True)
    ids = [f"{i:032x}" for i in range(n)]
    keys = [f"{10**6 + i // cases:032x}" for i in range(n)]
    return Predictions(ids, keys, target, p, tuple("abcdefgh"[:k]), positive)


def two(truth, score, keys=None) -> Predictions:
    """Build two-class predictions from truth and positive probability."""
    score = np.asarray(score, float)
    n = len(score)
    keys = [f"p{i}" for i in range(n)] if keys is None else keys
    ids = [f"c{i}" for i in range(n)]
    return Predictions(ids, keys, truth, np.stack([1 - score, score], 1), ("no", "yes"))
