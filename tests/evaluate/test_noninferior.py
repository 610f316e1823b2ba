import numpy as np
import pytest

from tasks.evaluate.masks import MaskScores
from tasks.evaluate.noninferior import noninferiority, null_variance
from tests.evaluate.cases import draw, two


def scored(n=200, gain=1.5, seed=0, noise=0.4):
    """Draw two models with equal expected AUROC and correlated errors."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    shared = rng.normal(size=n)
    return [
        two(truth, 1 / (1 + np.exp(-(shared + noise * rng.normal(size=n) + gain * truth))))
        for _ in range(2)
    ]


def test_limits_are_never_narrower_than_those_of_the_paired_test():
    from tasks.evaluate.compare import paired_metric

    for seed in range(5):
        first, second = scored(seed=seed, gain=3.5)
        plain = paired_metric(first, second, "auroc")
        found = noninferiority(first, second, "auroc", 0.05)
        assert found.estimate == plain.value
        assert found.lo <= plain.lo
        assert found.hi >= plain.hi


def test_two_perfect_models_on_few_patients_prove_nothing():
    truth = np.arange(20) % 2
    first = two(truth, 0.1 + 0.8 * truth)
    second = two(truth, np.linspace(0.1, 0.3, 20) + 0.6 * truth)
    found = noninferiority(first, second, "auroc", 0.02)
    assert found.estimate == 0
    assert found.lo < -0.02
    assert "as if worse" in found.test


def test_equal_calls_on_few_patients_prove_nothing():
    truth = np.arange(40) % 2
    pred = two(truth, 0.1 + 0.8 * truth)
    found = noninferiority(pred, pred, "recall", 0.05, thresholds=(0.5, 0.5), replicates=200)
    assert found.lo < -0.05
    # A share m of discordant patients at the least: variance (m - m^2) / n.
    assert null_variance(pred, pred, "recall", 0.05, 0.0) == pytest.approx((0.05 - 0.05**2) / 20)
    assert null_variance(pred, pred, "accuracy", 0.05, 0.0) == pytest.approx((0.05 - 0.05**2) / 40)


def test_named_patients_give_the_named_power():
    """Ask how many patients are needed, draw that many: about 4 of 5 equal models pass."""
    first, second = scored(n=4000)
    # Read the need off a large sample, on which it is well known.
    need = noninferiority(first, second, "auroc", 0.03).patients_if_equal
    passed = []
    for seed in range(200):
        first, second = scored(n=need, seed=1000 + seed)
        passed.append(noninferiority(first, second, "auroc", 0.03).lo > -0.03)
    # 200 draws know a share of 0.8 to 0.03.
    assert 0.70 <= np.mean(passed) <= 0.90


def test_dice_needs_no_floor_and_names_patients():
    rng = np.random.default_rng(0)
    ids, keys = [f"c{i}" for i in range(15)], [f"p{i}" for i in range(15)]
    base = rng.beta(9, 2, (15, 1))
    other = np.clip(base + 0.05 * rng.normal(size=(15, 1)), 0, 1)
    first, second = (MaskScores(ids, keys, ("x",), d) for d in (base, other))
    found = noninferiority(first, second, "dice", 0.01)
    assert found.test == "paired t over patients"
    assert found.patients_if_equal > 15
    assert 0 <= found.power < 0.8


def test_one_class_alone_is_said():
    pred = draw(40)
    alone = pred.take(pred.target == 1)
    with pytest.raises(ValueError, match="needs both"):
        noninferiority(alone, alone, "auroc", 0.02)
