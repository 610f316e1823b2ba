"""Accuracy and malignant recall of the seed's support vector machine, raw and scaled, 200 splits.

    python benchmarks/bench_wisconsin.py

The splits of `wisconsin_splits`, seeds 0 to 199.  They share patients, so the mean's interval is
that of the corrected resampled t-test (Nadeau and Bengio, Machine Learning 52, 2003): the variance
of a split counts 1/200 and what is tested by what is learnt from.  Bars: mean accuracy .915 and
.974 within .005, mean malignant recall .80 and .95 within .02.  Exit code 1 when one is missed.
"""

import math
import sys

import numpy as np
from scipy.stats import t
from wisconsin_splits import SPLITS, TEST_SHARE, run

AIMS = {"unscaled": ("seed_svc", 0.915, 0.80), "scaled": ("svm_rbf", 0.974, 0.95)}
"""Estimator, mean accuracy and mean malignant recall."""

ACCURACY_WITHIN, RECALL_WITHIN = 0.005, 0.02


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean over splits and its 95 % interval."""
    count = len(values)
    width = math.sqrt((1 / count + TEST_SHARE / (1 - TEST_SHARE)) * values.var(ddof=1))
    width *= float(t.ppf(0.975, count - 1))
    mean = float(values.mean())
    return mean, mean - width, min(mean + width, 1.0)


def main() -> int:
    """Print both estimators; 1 when one is out of its bars."""
    fine = True
    for name, (estimator, accuracy, recall) in AIMS.items():
        figures = run(estimator)
        right, found = (mean_interval(v) for v in (figures.accuracy, figures.malignant_recall))
        met = (
            abs(right[0] - accuracy) <= ACCURACY_WITHIN and abs(found[0] - recall) <= RECALL_WITHIN
        )
        texts = ["{:.4f} [{:.4f}, {:.4f}]".format(*one) for one in (right, found)]
        print(
            f"wisconsin-{name}: accuracy {texts[0]}, malignant recall {texts[1]}, {SPLITS} "
            f"splits; bar {accuracy} and {recall}: {'met' if met else 'MISSED'}",
            flush=True,
        )
        fine &= met
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
