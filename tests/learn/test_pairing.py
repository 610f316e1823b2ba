"""Pairs of cases of one class, and two models fused over them."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.evaluate.metrics import auroc
from tasks.learn.pairing import fuse_pairs, pair_by_class
from tests.evaluate.cases import draw


def said(seed: int) -> dict:
    table = draw(1200, gain=0.5, seed=seed, positive="a")
    ultrasound = draw(900, gain=0.5, seed=seed + 1)
    named = replace(ultrasound, classes=("benign", "malignant"))
    return {"ultrasound": named, "table": replace(table, classes=("malignant", "benign"),
                                                  positive="malignant")}  # fmt: skip


def test_both_of_a_pair_are_of_one_class_whatever_the_order_of_the_classes():
    pairs = pair_by_class(said(0), seed=3)
    first, second = pairs["ultrasound"], pairs["table"]
    assert len(first) == len(second) == 900
    np.testing.assert_array_equal(first.truth, second.truth)
    assert first.case_ids == second.case_ids
    assert first.classes == second.classes == ("benign", "malignant")
    again = pair_by_class(said(0), seed=3)
    np.testing.assert_array_equal(again["table"].score, second.score)
    other = pair_by_class(said(0), seed=4)
    assert not np.array_equal(other["table"].score, second.score)


def test_a_patient_with_several_cases_is_in_one_pair():
    one, two = draw(40, cases=2, seed=1), draw(100, seed=2)
    pairs = pair_by_class({"a": one, "b": two}, seed=0)
    assert len(pairs["a"]) <= 20
    assert set(pairs["a"].score.tolist()) <= set(one.score[::2].tolist())


def test_a_fusion_is_fitted_on_training_pairs_and_does_better_on_test_pairs():
    training, test = (pair_by_class(said(seed), seed=0) for seed in (10, 20))
    learnt, fused = fuse_pairs(training, test)
    assert len(learnt) == len(fused) == 900
    alone = max(auroc(one.truth, one.score) for one in test.values())
    assert auroc(fused.truth, fused.score) > alone + 0.02
    swapped = {
        name: replace(one, probability=one.probability[:, ::-1]) for name, one in test.items()
    }
    _, turned = fuse_pairs(training, swapped)
    assert auroc(turned.truth, turned.score) < 0.4, "the weights are those of the training pairs"


def test_without_a_patient_of_a_class_nothing_is_paired():
    one = draw(20, seed=0)
    none = one.take(one.truth == 0)
    with pytest.raises(ValueError, match="no patient whose truth is 1"):
        pair_by_class({"a": one, "b": none}, seed=0)
