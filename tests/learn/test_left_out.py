"""A vendor that was left out is judged by a model that saw none of its patients."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.evaluate.calibrate import apply_calibration, fit_calibration
from tasks.evaluate.table import metric_table
from tasks.learn.job import JobCase, TrainingJob
from tasks.learn.left_out import OTHERS, Calibrating, leave_each_out


def job() -> TrainingJob:
    """Vendor C's numbers say the opposite of what those of A and B say."""
    rng = np.random.default_rng(1)
    cases = []
    for number in range(120):
        vendor = "AABC"[number % 4] if number < 112 else "D"
        target = int(rng.random() < 0.5)
        sign = -1 if vendor == "C" else 1
        size = float(sign * (2 * target - 1) + rng.normal(0, 0.5))
        facts = {"size": size, "manufacturer": vendor if number % 40 else None}
        patient = f"{number:032x}"
        cases.append(JobCase(f"{number:032x}", patient, "train", number % 3, target, facts=facts))
    body = {"name": "it", "kind": "tabular", "estimator": "tree", "features": ["size"]}
    return TrainingJob(
        "made", "classification", ("well", "ill"), "ill", "auroc", (body,), (*cases,)
    )


def test_a_vendor_unlike_the_others_fails_when_it_is_left_out(trained):
    fit, jobs = trained
    groups, why = leave_each_out(job(), "it", "manufacturer", fit, replicates=200, seed=0)
    assert not why
    by_value = {group.value: group for group in groups}
    assert list(by_value) == ["A", "B", "C"]
    assert by_value["A"].figures["auroc"].value > 0.7
    assert by_value["C"].figures["auroc"].value < 0.2
    assert by_value["C"].figures["auroc"].hi < 0.5
    (one,) = jobs
    vendors = [{c.facts["manufacturer"] for c in one.cases if c.fold == fold} for fold in (0, 1, 2)]
    assert vendors == [{"A"}, {"B"}, {"C"}]


def test_a_patient_of_two_vendors_and_small_groups_are_trained_on_and_not_shown(trained):
    fit, jobs = trained
    made = job()
    double = replace(made.cases[1], case_id="f" * 32, facts={"size": 1.0, "manufacturer": "B"})
    groups, _ = leave_each_out(
        replace(made, cases=(*made.cases, double)),
        "it",
        "manufacturer",
        fit,
        replicates=200,
        seed=0,
    )
    assert "D" not in {group.value for group in groups}
    assert OTHERS not in {group.value for group in groups}
    rest = {c.case_id for c in jobs[0].cases if c.fold == 3}
    assert {made.cases[1].case_id, "f" * 32, made.cases[0].case_id} <= rest


def test_one_group_alone_cannot_be_left_out(trained):
    fit, jobs = trained
    groups, why = leave_each_out(job(), "it", "site", fit, replicates=200, seed=0)
    assert groups == []
    assert "needs 2 groups of 10 training patients, and there are 0" in why
    assert not jobs


def stated(made: TrainingJob) -> TrainingJob:
    """Return the job of three vendors whose answers are probabilities of any size, not two."""
    body = {"name": "it", "kind": "tabular", "estimator": "logistic", "features": ["size"]}
    kept = (c for c in made.cases if c.facts["manufacturer"] in ("A", "B", "C"))
    return replace(made, candidates=(body,), cases=tuple(kept))


def of_vendor(made: TrainingJob, vendor: str) -> set[str]:
    return {c.case_id for c in made.cases if c.facts["manufacturer"] == vendor}


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_a_vendor_left_out_is_calibrated_by_the_others_alone(trained, method):
    fit, jobs = trained
    made = stated(job())
    ordinary = fit(made)
    groups, _ = leave_each_out(
        made, "it", "manufacturer", fit, replicates=200, seed=0,
        calibrating=Calibrating(method, ordinary),
    )  # fmt: skip
    plain, _ = leave_each_out(made, "it", "manufacturer", fit, replicates=200, seed=0)
    raw = fit(jobs[1])
    for group, without in zip(groups, plain, strict=True):
        own = of_vendor(made, group.value)
        others = ordinary.take([i for i, c in enumerate(ordinary.case_ids) if c not in own])
        part = raw.take([i for i, c in enumerate(raw.case_ids) if c in own])
        said = apply_calibration(fit_calibration(others, method), part.probability)
        expected = metric_table(replace(part, probability=said), replicates=200, seed=0)
        assert group.figures == expected
        assert group.figures["log_loss"] != without.figures["log_loss"]
        assert group.fact == "manufacturer, trained and calibrated without"
        assert without.fact == "manufacturer, trained without"


def test_what_a_vendor_says_itself_calibrates_the_others_and_never_it(trained):
    fit, _ = trained
    made = stated(job())
    ordinary = fit(made)
    of_c = np.isin(ordinary.case_ids, sorted(of_vendor(made, "C")))
    turned = replace(ordinary, target=np.where(of_c, 1 - ordinary.target, ordinary.target))
    found = [
        {
            group.value: group.figures["brier"].value
            for group in leave_each_out(
                made, "it", "manufacturer", fit, replicates=200, seed=0,
                calibrating=Calibrating("platt", one),
            )[0]
        }
        for one in (ordinary, turned)
    ]  # fmt: skip
    assert found[0]["C"] == found[1]["C"]
    assert found[0]["A"] != found[1]["A"]
