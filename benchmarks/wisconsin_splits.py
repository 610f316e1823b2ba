"""What scaling is worth: the seed's `SVC()` on raw and on scaled columns, 200 random splits.

    python benchmarks/wisconsin_splits.py

One split's accuracy varies by 1.2 to 2.5 points, so a single "99 %" says nothing; these are means.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from tasks.learn.estimators import build_pipeline

SPLITS = 200
"""Random 80/20 splits, seeds 0 to 199, neither stratified nor grouped, as in the first script."""

TEST_SHARE = 0.2


@dataclass(frozen=True)
class SplitFigures:
    """Accuracy and recall of the malignant class, one entry a split."""

    accuracy: np.ndarray
    malignant_recall: np.ndarray


def run(estimator: str, splits: int = SPLITS) -> SplitFigures:
    """Fit the estimator's own pipeline on every split and score it at its own decision."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    data = load_breast_cancer(as_frame=True)
    malignant = (data.target == 0).to_numpy()
    accuracy, recall = [], []
    for seed in range(splits):
        train, test = train_test_split(
            np.arange(len(malignant)), test_size=TEST_SHARE, random_state=seed
        )
        pipeline = build_pipeline(estimator, {}, data.data, seed)
        pipeline.fit(data.data.iloc[train], malignant[train])
        chosen = pipeline.predict(data.data.iloc[test])
        accuracy.append((chosen == malignant[test]).mean())
        recall.append(chosen[malignant[test]].mean())
    return SplitFigures(np.array(accuracy), np.array(recall))


def main() -> None:
    """Print both estimators side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=SPLITS)
    splits = parser.parse_args().splits
    print(f"Wisconsin table, {splits} random 80/20 splits (seeds 0-{splits - 1})")
    print(f"{'estimator':24} {'accuracy':>9} {'sd':>6} {'range':>15} {'malignant recall':>17}")
    for label, estimator in (("SVC() unscaled (seed)", "seed_svc"), ("SVC() scaled", "svm_rbf")):
        figures = run(estimator, splits)
        low, high = figures.accuracy.min(), figures.accuracy.max()
        print(
            f"{label:24} {figures.accuracy.mean():9.4f} {figures.accuracy.std():6.4f} "
            f"{low:7.3f}-{high:.3f} {figures.malignant_recall.mean():17.3f}"
        )


if __name__ == "__main__":
    main()
