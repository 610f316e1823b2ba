"""A fusion's folds never saw the patients they judge; what is kept says what was measured."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.errors import ModelRefused, ScenarioError
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.metrics import auroc
from tasks.learn.candidate import TabularCandidate
from tasks.learn.crossval import FoldRecord, fit_fold, out_of_fold
from tasks.learn.fused import FusedModel
from tasks.learn.fusing import fuse, fusions, needed, pairs
from tasks.learn.fusion import FusionCandidate
from tasks.learn.job import JobCase, TrainingJob
from tasks.learn.judge import judge_rows
from tasks.learn.model import load_model
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.tabular import table_frame
from tasks.serve.beside import beside_members
from tasks.serve.challenger import build_model
from tasks.serve.outcome import sum_up
from tests.learn import small_fold

BODIES = tuple(
    one.model_dump(mode="json")
    for one in (
        NetworkCandidate(name="image", features=(4, 8), epochs=2, batch=8, augment="none", lr=1e-2),
        TabularCandidate(name="table", estimator="logistic", features=("marker",)),
        FusionCandidate(name="both", kind="fusion", members=("image", "table")),
    )
)


def fit_all(job, place, root):
    """Return every record of a job, as the wave of a training makes them."""
    names = [b["name"] for b in job.candidates if b["kind"] != "fusion"]
    records = [fit_fold(place, root, name, fold) for name in names for fold in job.folds]
    records += [fit_fold(place, root, n, g, without=f) for n, g, f in pairs(job)]
    return records


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Images and a marker of the same patients, fitted: (job, place, source, records)."""
    root = tmp_path_factory.mktemp("store")
    source, cases = small_fold.bright_square_cases(36)
    stored = small_fold.write_store(root, source, cases, fixed_shape=(1, 24, 24))
    rng = np.random.default_rng(1)
    job = TrainingJob(
        "squares", "classification", ("plain", "square"), "square", "auroc", candidates=BODIES,
        cases=tuple(
            JobCase(
                c.case_id, c.patient_key, "train", k // 2 % 3, c.target, c.part_path,
                part_digest=c.part_digest,
                facts={"marker": None if k == 5 else float(c.target + rng.normal())},
            )
            for k, c in enumerate(stored)
        ),
        shape=(1, 24, 24),
    )  # fmt: skip
    place = job.save(tmp_path_factory.mktemp("training"))
    return job, place, source, fit_all(job, place, str(root))


def test_every_case_is_judged_once_by_a_model_that_never_saw_its_fold(made):
    job, _, _, records = made
    fused = fuse(job, job.candidate("both"), records)
    scores = out_of_fold(job, fused)
    assert scores.probability.shape == (36, 2)
    np.testing.assert_allclose(scores.probability.sum(1), 1)
    folds = {c.case_id: c.fold for c in job.cases}
    for record in records:
        judged = {folds[c] for c in record.case_ids}
        assert judged == {record.fold}
        assert record.without is None or record.without != record.fold
    assert {(r.candidate, r.fold, r.without) for r in records if r.without is not None} == set(
        pairs(job)
    )


def test_labels_of_a_fold_change_nothing_that_judges_it(made):
    job, _, _, records = made
    turned = replace(
        job, cases=tuple(replace(c, target=1 - c.target) if c.fold == 0 else c for c in job.cases)
    )
    before = fuse(job, job.candidate("both"), records)[0]
    assert fuse(turned, job.candidate("both"), records)[0].values == before.values
    # The members that judge it were fitted without it: the other folds' cases alone.
    assert all(
        not {c.case_id for c in job.without(r.without).on("train") if c.fold == r.without}
        for r in records
        if r.without is not None
    )


def test_a_member_without_a_second_fold_was_not_fitted_on_it(made, tmp_path):
    job, _, _, records = made
    turned = replace(
        job, cases=tuple(replace(c, target=1 - c.target) if c.fold == 0 else c for c in job.cases)
    )
    place = turned.save(tmp_path)
    known = next(r for r in records if (r.candidate, r.fold, r.without) == ("table", 1, 0))
    assert fit_fold(place, "", "table", 1, without=0).values == known.values
    own = next(r for r in records if (r.candidate, r.fold, r.without) == ("table", 1, None))
    assert fit_fold(place, "", "table", 1).values != own.values


def noise_auroc(seed, fuse_them, n=90, folds=3):
    """Return the out-of-fold AUROC of two logistic tables fused on labels that mean nothing."""
    rng = np.random.default_rng(seed)
    names = ("a", "b")
    bodies = tuple(
        TabularCandidate(name=m, estimator="logistic", features=(m, f"{m}2")).model_dump(
            mode="json"
        )
        for m in names
    )
    both = FusionCandidate(name="both", kind="fusion", members=names, C=100.0)
    # As a split with strata: pooled folds of unequal shares would bias every model alike.
    target = np.concatenate([rng.permutation(np.arange(n // folds) % 2) for _ in range(folds)])
    cases = tuple(
        JobCase(
            f"{i:032x}", f"p{i}", "train", i * folds // n, int(target[i]),
            facts={c: float(rng.normal()) for c in ("a", "a2", "b", "b2")},
        )
        for i in range(n)
    )  # fmt: skip
    job = TrainingJob(
        "noise", "classification", ("no", "yes"), "yes", "auroc",
        (*bodies, both.model_dump(mode="json")), cases,
    )  # fmt: skip
    scores = out_of_fold(job, fuse_them(job))
    return float(auroc(scores.target == 1, scores.probability[:, 1]))


def nested(job):
    records = [one for b in job.candidates[:2] for one in table_records(job, b["name"])]
    return fuse(job, job.candidate("both"), records)


def usual(job):
    """Stack the members' ordinary folds: what radloop does not do."""
    plain = [
        r for b in job.candidates[:2] for r in table_records(job, b["name"]) if r.without is None
    ]
    again = [replace(r, without=f) for r in plain for f in job.folds if f != r.fold]
    return fuse(job, job.candidate("both"), [*plain, *again])


def table_records(job, name):
    """Return a table's folds and pairs by a plain logistic regression."""
    from sklearn.linear_model import LogisticRegression

    columns, found = (name, f"{name}2"), []
    for fold in job.folds:
        for left in (None, *(f for f in job.folds if f != fold)):
            train = [c for c in job.cases if c.fold not in (fold, left)]
            held = [c for c in job.cases if c.fold == fold]
            x, z = ([[c.facts[n] for n in columns] for c in cs] for cs in (train, held))
            model = LogisticRegression().fit(x, [c.target for c in train])
            said = tuple(map(tuple, model.predict_proba(z).tolist()))
            ids = tuple(c.case_id for c in held)
            found.append(FoldRecord(name, fold, ids, said, without=left))
    return found


def test_random_labels_leave_a_fusion_at_chance():
    found = np.array([noise_auroc(seed, nested) for seed in range(30)])
    error = found.std(ddof=1) / np.sqrt(len(found))
    # A little under one half, as all cross-validation of noise is; a leak would lie above.
    assert 0.4 < found.mean() < 0.5 + 2 * error
    assert error < 0.02


@pytest.mark.slow
def test_the_usual_stacking_would_find_something_in_random_labels():
    found = np.array([noise_auroc(seed, usual) for seed in range(60)])
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert found.mean() > 0.5 + 3 * error


def test_what_is_kept_says_what_its_parts_say_and_nothing_else_is_loaded(made, tmp_path):
    job, place, source, records = made
    by_name = {b["name"]: [] for b in job.candidates}
    for record in records:
        if record.without is None:
            by_name[record.candidate].append(record)
    by_name["both"] = fuse(job, job.candidate("both"), records)
    config = EvaluateConfig(bootstrap=200)
    outcomes = [sum_up(job, name, found, config) for name, found in by_name.items()]
    folder = tmp_path / "model"
    spec = build_model(job, place, outcomes[2], folder, {"data_hash": "0"}, outcomes)
    assert {p.suffix for p in folder.rglob("*") if p.is_file()} == {
        ".json", ".safetensors", ".skops",
    }  # fmt: skip
    model = load_model(folder, "cpu")
    assert isinstance(model, FusedModel)
    images = [source.image(c.case_id) for c in job.cases[:6]]
    rows = [c.facts for c in job.cases[:6]]
    said = model.predict(images, rows)
    np.testing.assert_allclose(said.sum(1), 1)
    # The sixth has no marker: its answer is that of the image alone.
    alone = model.members["image"].predict_many([images[5]])[0]
    weight = spec.fusion["models"]["image"]
    logit = np.log(alone[1] / alone[0]) * weight["weights"][1][0] + weight["intercepts"][1]
    assert said[5, 1] == pytest.approx(1 / (1 + np.exp(-logit)))
    assert model.heatmap(images[0], 1).shape == (1, 24, 24)
    assert model.ood_score(images[0]) > 0
    assert model.spec.ood_threshold is not None
    other = folder / "members" / "table" / "model.json"
    other.write_text(other.read_text().replace("plain", "other"))
    with pytest.raises(ModelRefused, match="a member of the fused model"):
        load_model(folder, "cpu")


def test_a_fusion_of_numbers_is_judged_out_of_fold_and_kept(tmp_path):
    rng = np.random.default_rng(3)
    one, two = rng.normal(size=(2, 60))
    age = 100 + 20 * one + 20 * two + rng.normal(0, 4, 60)
    bodies = (
        {"name": "first", "kind": "tabular", "estimator": "ridge", "features": ["one"]},
        {"name": "second", "kind": "tabular", "estimator": "ridge", "features": ["two"]},
        {"name": "both", "kind": "fusion", "members": ["first", "second"], "C": 1.0},
    )
    job = TrainingJob(
        "ages", "regression", ("age",), None, "mae", candidates=bodies, unit="mo",
        cases=tuple(
            JobCase(f"{k:032x}", f"p{k}", "train", k % 3, float(age[k]),
                    facts={"one": None if k == 5 else float(one[k]), "two": float(two[k])})
            for k in range(60)
        ),
    )  # fmt: skip
    place = job.save(tmp_path / "training")
    records = fit_all(job, place, "")
    by_name = {
        name: [r for r in records if r.candidate == name and r.without is None]
        for name in ("first", "second")
    }
    by_name["both"] = fuse(job, job.candidate("both"), records)
    config = EvaluateConfig(primary="mae", bootstrap=200)
    outcomes = [sum_up(job, name, found, config) for name, found in by_name.items()]
    mae = {one.name: one.figures["mae"].value for one in outcomes}
    assert mae["both"] < 0.6 * min(mae["first"], mae["second"])
    rows = beside_members(job, outcomes, config)
    assert [row["alone"] for row in rows] == ["first (tabular)", "second (tabular)"]
    spec = build_model(job, place, outcomes[2], tmp_path / "model", {}, outcomes)
    model = load_model(tmp_path / "model", "cpu")
    facts = [case.facts for case in job.cases[:6]]
    said = judge_rows(model, list("abcdef"), facts)
    assert [one.value for one in said[:5]] == pytest.approx(age[:5].tolist(), abs=25)
    # The sixth has no first column: the second's model alone answers.
    alone = model.members["second"].predict(table_frame([{"two": facts[5]["two"]}]))[0, 0]
    kept = spec.fusion["models"]["second"]
    assert said[5].value == pytest.approx(kept["weights"][0][0] * alone + kept["intercepts"][0])


def test_a_fusion_needs_three_folds_and_brings_its_members_along(made):
    job = made[0]
    two = replace(job, cases=tuple(replace(c, fold=c.fold % 2) for c in job.cases))
    with pytest.raises(ScenarioError, match="needs 3 folds and the split has 2"):
        fusions(two)
    assert [body["name"] for body in needed(job, "both")] == ["image", "table", "both"]
    assert [body["name"] for body in needed(job, "table")] == ["table"]
