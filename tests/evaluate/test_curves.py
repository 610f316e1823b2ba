import numpy as np
import pytest
import sklearn.metrics as sk

from tasks.evaluate.curves import (
    precision_recall_curve,
    precision_recall_points,
    roc_curve,
    roc_points,
)
from tests.evaluate.cases import draw


def test_points_are_those_of_scikit_learn():
    pred = draw(150, gain=0.8)
    x, y = roc_points(pred.truth, pred.score)
    fpr, tpr, _ = sk.roc_curve(pred.truth, pred.score, drop_intermediate=False)
    np.testing.assert_allclose(x, fpr)
    np.testing.assert_allclose(y, tpr)
    recall, precision = precision_recall_points(pred.truth, pred.score)
    p, r, _ = sk.precision_recall_curve(pred.truth, pred.score)
    np.testing.assert_allclose(precision, p[:-1][::-1])
    np.testing.assert_allclose(recall, r[:-1][::-1])


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
def test_the_band_holds_most_of_the_curve(curve):
    pred = draw(150, gain=0.8, cases=2)
    found = curve(pred.truth, pred.score, pred.patient_keys, replicates=300)
    there = ~np.isnan(found.lo)
    assert there.mean() > 0.9
    assert np.all(found.lo[there] <= found.hi[there])
    middle = np.interp(found.grid, found.x, found.y)[there]
    inside = (found.lo[there] - 0.03 <= middle) & (middle <= found.hi[there] + 0.03)
    assert inside.mean() > 0.95
