"""The logistic model over candidates is the one scikit-learn fits, and a gap does not stop it."""

import json

import numpy as np
import pytest

from tasks.evaluate.metrics import auroc
from tasks.learn.fusion import FusionCandidate, apply_fusion, fit_fusion, log_odds


def drawn(n=600, k=2, seed=0):
    """Return truth and what two members say of it, each by its own half of the evidence."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, k, n)
    said = {}
    for name in ("image", "table"):
        score = rng.normal(size=(n, k)) + 1.5 * np.eye(k)[target]
        said[name] = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    return target, said


@pytest.mark.parametrize("k", [2, 3])
def test_the_kept_numbers_say_what_the_fitted_model_says(k):
    from sklearn.linear_model import LogisticRegression

    target, said = drawn(k=k)
    fusion = json.loads(json.dumps(fit_fusion(said, target, k)))
    x = np.concatenate([log_odds(p) for p in said.values()], axis=1)
    expected = LogisticRegression(max_iter=5000).fit(x, target).predict_proba(x)
    np.testing.assert_allclose(apply_fusion(fusion, said), expected, atol=1e-9)


def test_two_halves_of_the_evidence_are_worth_more_than_either():
    target, said = drawn()
    fusion = fit_fusion({n: p[:300] for n, p in said.items()}, target[:300], 2)
    fused = apply_fusion(fusion, {n: p[300:] for n, p in said.items()})[:, 1]
    alone = [auroc(target[300:] == 1, p[300:, 1]) for p in said.values()]
    assert auroc(target[300:] == 1, fused) > max(alone) + 0.02


def test_a_case_without_a_modality_is_judged_by_those_it_has():
    target, said = drawn()
    fusion = fit_fusion(said, target, 2)
    gap = {"image": said["image"].copy(), "table": said["table"].copy()}
    gap["table"][::2] = np.nan
    gap["image"][4] = np.nan
    answer = apply_fusion(fusion, gap)
    alone = fit_fusion({"image": said["image"]}, target, 2)
    expected = apply_fusion(alone, {"image": said["image"]})
    np.testing.assert_allclose(answer[[0, 2, 6]], expected[[0, 2, 6]])
    np.testing.assert_allclose(answer[1::2], apply_fusion(fusion, said)[1::2])
    np.testing.assert_allclose(answer[4], fusion["prior"])
    np.testing.assert_allclose(answer.sum(1), 1)


def test_gaps_in_training_leave_the_complete_cases_to_the_joint_model():
    target, said = drawn()
    said["table"][100:] = np.nan
    fusion = fit_fusion(said, target, 2)
    first = fit_fusion({n: p[:100] for n, p in said.items()}, target[:100], 2)
    assert fusion["models"]["image+table"] == first["models"]["image+table"]
    assert fusion["models"]["image"] != first["models"]["image"]


def test_a_class_nobody_had_is_never_said():
    target, said = drawn(k=3)
    kept = target != 2
    fusion = fit_fusion({n: p[kept] for n, p in said.items()}, target[kept], 3)
    assert apply_fusion(fusion, said)[:, 2].max() < 1e-6


def of_numbers(n=400, seed=0):
    """Return true ages and two estimates: a noisy one, and a noisier one that is 40 too high."""
    rng = np.random.default_rng(seed)
    age = rng.normal(100, 30, n)
    image, table = age + rng.normal(0, 8, n), age + 40 + rng.normal(0, 12, n)
    return age, {"image": image[:, None], "table": table[:, None]}


def test_numbers_are_weighed_by_their_errors_and_their_bias_goes():
    age, said = of_numbers()
    fusion = json.loads(json.dumps(fit_fusion(said, age, 1, C=1e6)))
    # Errors of 8 and 12 that are independent weigh 9 to 4, and shrink towards the mean of 100:
    # 1 / (1 / 900 + 1 / 64 + 1 / 144) is the variance that is left.
    left = 1 / (1 / 900 + 1 / 64 + 1 / 144)
    weights = fusion["models"]["image+table"]["weights"][0]
    assert weights == pytest.approx([left / 64, left / 144], abs=0.08)
    fused = apply_fusion(fusion, said)
    assert fused.shape == (400, 1)
    assert abs((fused[:, 0] - age).mean()) < 1e-6
    assert np.std(fused[:, 0] - age) == pytest.approx(left**0.5, rel=0.1)


def test_a_number_of_one_member_is_that_of_its_own_model_and_of_none_the_mean():
    age, said = of_numbers()
    fusion = fit_fusion(said, age, 1)
    gap = {name: values.copy() for name, values in said.items()}
    gap["image"][:2] = np.nan
    gap["table"][1] = np.nan
    answer = apply_fusion(fusion, gap)
    alone = fit_fusion({"table": said["table"]}, age, 1)
    expected = apply_fusion(alone, {"table": said["table"]})
    assert answer[0] == pytest.approx(expected[0])
    assert answer[1] == pytest.approx(age.mean())
    np.testing.assert_allclose(answer[2:], apply_fusion(fusion, said)[2:])


def test_fusing_numbers_does_not_hang_on_their_unit():
    age, said = of_numbers()
    days = {name: 30.4 * values + 500 for name, values in said.items()}
    months = apply_fusion(fit_fusion(said, age, 1, C=0.01), said)
    np.testing.assert_allclose(
        apply_fusion(fit_fusion(days, 30.4 * age + 500, 1, C=0.01), days), 30.4 * months + 500,
        rtol=1e-5,
    )  # fmt: skip


def test_certainty_of_one_member_is_bounded():
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.abs(log_odds(sure)).max() < 10


def test_members_stand_once_and_are_at_least_two():
    with pytest.raises(ValueError, match="stands twice"):
        FusionCandidate(name="f", kind="fusion", members=("a", "a"))
    with pytest.raises(ValueError, match="at least 2"):
        FusionCandidate(name="f", kind="fusion", members=("a",))
