"""Tabular candidates: everything fitted inside the fold, no pickle, honest refusals."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer

from tasks.errors import LeakageError, ModelRefused
from tasks.learn.candidate import TabularCandidate
from tasks.learn.estimators import ESTIMATORS
from tasks.learn.importance import feature_importance
from tasks.learn.scoring import score
from tasks.learn.search import patient_folds
from tasks.learn.skops_file import load_skops, save_skops
from tasks.learn.tabular import fit_final, fit_fold, predict_table, table_frame, tune
from tests.learn.folding import cross_validate

CLASSIFIERS = [name for name, row in ESTIMATORS.items() if row.place]

MIN_AUROC = {"tree": 0.92, "seed_svc": 0.96}
"""Floor of the Wisconsin AUROC; measured .954 and .974, and .991 or more for the others."""


@pytest.fixture(scope="module")
def wisconsin():
    data = load_breast_cancer(as_frame=True)
    y = (data.target == 0).to_numpy().astype(int)
    folds = np.empty(len(y), dtype=int)
    for label in (0, 1):
        folds[y == label] = np.arange((y == label).sum()) % 4
    return data.data, y, np.arange(len(y)), folds


def _mixed(n=60, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    size = y + rng.normal(0, 0.4, n)
    size[3] = np.nan
    X = pd.DataFrame({"size": size, "noise": rng.normal(size=n), "vendor": ["A", "B", "B"] * 20})
    return X, y, np.arange(n), np.arange(n) // classes % 3


def _candidate(estimator, **more):
    small = {"forest": {"n_estimators": 30}, "boosting": {"max_iter": 40, "min_samples_leaf": 5}}
    params = {**small.get(estimator, {}), **more.pop("params", {})}
    return TabularCandidate(name="it", estimator=estimator, params=params, **more)


@pytest.mark.parametrize("estimator", CLASSIFIERS)
def test_every_estimator_learns_the_wisconsin_table_without_a_warning(estimator, wisconsin):
    X, y, groups, folds = wisconsin
    result = cross_validate(_candidate(estimator), X, y, groups, folds, 0)
    assert result.probability.sum(axis=1) == pytest.approx(np.ones(len(y)))
    assert score("auroc", y, result.probability) > MIN_AUROC.get(estimator, 0.98)
    assert len(result.fold_scores) == 4


@pytest.mark.parametrize("estimator", CLASSIFIERS)
def test_every_estimator_reads_back_from_skops_and_predicts_the_same(
    estimator, wisconsin, tmp_path
):
    X, y, groups, _ = wisconsin if estimator == "seed_svc" else _mixed()
    model = fit_final(_candidate(estimator), X, y, groups, 0)
    save_skops(model, tmp_path / "model.skops")
    again = load_skops(tmp_path / "model.skops")
    assert (predict_table(again, X, 2) == predict_table(model, X, 2)).all()


@pytest.mark.parametrize("estimator", ["svm_rbf", "logistic", "forest", "boosting", "mlp"])
def test_three_classes_text_and_empty_cells_are_taken(estimator):
    X, y, groups, folds = _mixed(classes=3)
    result = cross_validate(_candidate(estimator), X, y, groups, folds, 1)
    assert result.probability.shape == (60, 3)
    assert score("auroc", y, result.probability) > 0.75


@pytest.mark.parametrize("estimator", ["svm_rbf", "forest", "mlp"])
def test_the_same_seed_gives_the_same_probabilities(estimator):
    X, y, groups, folds = _mixed()
    one, two = (cross_validate(_candidate(estimator), X, y, groups, folds, 5) for _ in range(2))
    assert (one.probability == two.probability).all()


def test_scaling_and_encoding_never_see_the_held_out_fold():
    X, y, groups, folds = _mixed()
    candidate = _candidate("logistic")
    spoiled = X.copy()
    spoiled.loc[folds == 0, ["size", "noise"]] *= 1e6
    spoiled.loc[folds == 0, "vendor"] = "Z"
    trained = [
        fit_final(candidate, frame[folds != 0], y[folds != 0], groups[folds != 0], 0)
        for frame in (X, spoiled)
    ]
    outcome = fit_fold(candidate, X, y, groups, folds, 0, 0)
    assert (predict_table(trained[0], X, 2) == predict_table(trained[1], X, 2)).all()
    assert (outcome.probability == predict_table(trained[1], X[folds == 0], 2)).all()


def test_random_labels_stay_at_chance_also_with_tuning(wisconsin):
    X, _, groups, folds = wisconsin
    y = np.random.default_rng(0).integers(0, 2, len(groups))
    candidate = _candidate("logistic", search={"C": [0.01, 1.0, 100.0]}, inner_folds=3)
    result = cross_validate(candidate, X, y, groups, folds, 0)
    assert score("auroc", y, result.probability) == pytest.approx(0.5, abs=0.08)


def test_tuning_is_nested_and_each_fold_reports_its_own_choice(wisconsin):
    X, y, groups, folds = wisconsin
    candidate = _candidate("svm_rbf", search={"C": [1e-4, 10.0], "gamma": [0.01]}, inner_folds=3)
    seen = []

    def spy(function, trials):
        seen.append(len(trials))
        return [function(trial) for trial in trials]

    result = cross_validate(candidate, X, y, groups, folds, 0, spy)
    assert seen == [2, 2, 2, 2]
    assert result.best_params == ({"C": 10.0, "gamma": 0.01},) * 4
    found = tune(candidate, X, y, groups, 0)
    assert found.trials[1].score > found.trials[0].score
    assert tune(_candidate("svm_rbf"), X, y, groups, 0) is None


@pytest.mark.parametrize("estimator", ["svm_linear", "svm_rbf"])
def test_a_search_by_rank_scores_as_the_calibrated_model_would(estimator, wisconsin):
    X, y, groups, _ = wisconsin
    candidate = _candidate(estimator, search={"C": [0.01, 1.0]}, inner_folds=2)
    found = tune(candidate, X, y, groups, 0)
    for trial in found.trials:
        expected = []
        for train, held in patient_folds(y, groups, 2, 0):
            rows = X.iloc[train], y[train], groups[train]
            model = fit_final(candidate, *rows, 0, params=trial.params)
            expected.append(score("auroc", y[held], predict_table(model, X.iloc[held], 2)))
        assert trial.score == pytest.approx(np.mean(expected), abs=1e-12)


def test_folds_that_share_a_patient_are_refused():
    X, y, groups, _ = _mixed()
    with pytest.raises(LeakageError, match="30 patients stand both in fold 0"):
        cross_validate(_candidate("tree"), X, y, groups // 2, np.arange(60) % 2, 0)


def test_a_stored_model_takes_columns_by_name_and_refuses_what_is_missing():
    X, y, groups, _ = _mixed()
    model = fit_final(_candidate("logistic"), X, y, groups, 0)
    turned = X[["vendor", "noise", "size"]].assign(extra=1)
    assert (predict_table(model, turned, 2) == predict_table(model, X, 2)).all()
    with pytest.raises(ValueError, match=r"1 of 3 columns .* missing, e\.g\. size"):
        predict_table(model, X.drop(columns="size"), 2)
    with pytest.raises(ValueError, match="column size was a number in training"):
        predict_table(model, X.assign(size="large"), 2)


def test_the_stored_file_holds_no_row_numbers_of_training_patients(tmp_path, wisconsin):
    X, y, groups, _ = wisconsin
    save_skops(fit_final(_candidate("svm_rbf"), X, y, groups, 0), tmp_path / "m.skops")
    with zipfile.ZipFile(tmp_path / "m.skops") as archive:
        schema = json.loads(archive.read("schema.json"))
    assert schema["content"]["content"]["cv"]["content"] == "null"


class Foreign(ClassifierMixin, BaseEstimator):
    """A classifier of somebody else's, on no list."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


def build_foreign(params, seed):
    return Foreign()


SEEN = pd.DataFrame({"size": np.arange(60.0), "noise": np.arange(60.0)})


def build_scaled_on_everything(params, seed):
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.asarray(SEEN))
    return make_pipeline(FrozenEstimator(scaler), LogisticRegression())


def build_scaled_in_the_fold(params, seed):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


def test_a_scaler_that_was_fitted_on_all_data_is_refused():
    X, y, groups, folds = _mixed()
    honest = TabularCandidate(name="h", estimator=f"{__name__}:build_scaled_in_the_fold")
    assert cross_validate(honest, X, y, groups, folds, 0).probability.shape == (60, 2)
    leaking = TabularCandidate(name="l", estimator=f"{__name__}:build_scaled_on_everything")
    with pytest.raises(LeakageError, match=r"arrives with a fitted StandardScaler \(\w+_\)"):
        cross_validate(leaking, X, y, groups, folds, 0)


def test_a_type_that_is_not_on_the_list_is_refused_on_the_way_in_and_out(tmp_path):
    import skops.io

    X, y, groups, _ = _mixed()
    candidate = TabularCandidate(name="f", estimator=f"{__name__}:build_foreign")
    model = fit_final(candidate, X, y, groups, 0)
    assert (predict_table(model, X, 2) == 0.5).all()
    with pytest.raises(ModelRefused, match="Foreign"):
        save_skops(model, tmp_path / "m.skops")
    skops.io.dump(model, tmp_path / "m.skops")
    with pytest.raises(ModelRefused, match="1 types that are not trusted"):
        load_skops(tmp_path / "m.skops")
    approved = load_skops(tmp_path / "m.skops", also_trusted=[f"{__name__}.Foreign"])
    assert (predict_table(approved, X, 2) == 0.5).all()


def test_a_pickle_or_rubbish_is_refused(tmp_path):
    import pickle

    for content in (pickle.dumps({"a": 1}), b"PK rubbish", b""):
        (tmp_path / "model.skops").write_bytes(content)
        with pytest.raises(ModelRefused, match="not a skops file"):
            load_skops(tmp_path / "model.skops")


def test_importance_finds_the_planted_column_and_signs_linear_weights():
    X, y, groups, _ = _mixed()
    for estimator in ("logistic", "forest"):
        table = feature_importance(fit_final(_candidate(estimator), X, y, groups, 0), X, y, 0)
        assert table[0]["feature"] == "size"
        assert table[0]["importance"] > 0.2
        assert len(table) == 3
        assert (table[0]["weight"] or 0) >= 0
        assert (table[0]["weight"] is not None) == (estimator == "logistic")


def test_scores_are_the_metrics_of_the_house_and_higher_is_better():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 200)
    good = np.clip(0.5 + (y - 0.5) * 0.6 + rng.normal(0, 0.2, 200), 0.01, 0.99)
    names = ("auroc", "average_precision", "balanced_accuracy", "accuracy", "brier", "log_loss")
    for name in names:
        better, worse = (score(name, y, np.stack([1 - p, p], 1)) for p in (good, 1 - good))
        assert better > worse
    assert score("brier", y, np.stack([1 - good, good], 1)) == pytest.approx(
        -2 * np.mean((good - y) ** 2)
    )
    both = np.stack([1 - good, good], 1)
    assert score("recall", y, both) == score("auroc", y, both)
    with pytest.raises(ValueError, match="auroc needs 2 classes and 3 held-out rows hold 1"):
        score("auroc", np.ones(3, dtype=int), both[:3])


def test_a_frame_keeps_numbers_and_leaves_out_label_and_split():
    facts = [{"b": 1.5, "a": 2, "word": "x", "label": "m"}, {"b": None, "a": 3, "word": None}]
    frame = table_frame(facts, leave_out=["label"])
    assert list(frame.columns) == ["a", "b", "word"]
    assert frame["a"].dtype == frame["b"].dtype == np.float64
    assert frame["word"].tolist() == ["x", "missing"]
    assert list(table_frame(facts, ["b", "a"]).columns) == ["b", "a"]
    with pytest.raises(ValueError, match="unknown feature 'wird': nearest is 'word'"):
        table_frame(facts, ["wird"])
    with pytest.raises(ValueError, match="'label' holds the label"):
        table_frame(facts, ["label"], ["label"])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"estimator": "svm_rfb"}, "unknown estimator 'svm_rfb': nearest is 'svm_rbf'"),
        ({"estimator": "tree", "params": {"maxdepth": 3}}, "nearest is 'max_depth'"),
        ({"estimator": "seed_svc", "params": {"C": 3}}, "unknown parameter of seed_svc 'C'"),
        ({"estimator": "tree", "search": {"max_depth": []}}, "search of max_depth has 0 values"),
        ({"estimator": "tree", "kind": "header", "features": ["a"]}, "fixed columns"),
        ({"estimator": "tree", "name": "Bad Name"}, "string_pattern_mismatch"),
    ],
)
def test_a_candidate_that_cannot_be_obeyed_is_refused_by_name(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        TabularCandidate(**{"name": "it", **wrong})


def test_the_seed_baseline_says_why_it_cannot_take_a_table():
    X, y, groups, _ = _mixed()
    with pytest.raises(ValueError, match="seed_svc takes no empty cells and 1 of 60"):
        fit_final(_candidate("seed_svc"), X, y, groups, 0)
    with pytest.raises(ValueError, match=r"1 of 3 columns are text, e\.g\. vendor"):
        fit_final(_candidate("seed_svc"), X.fillna(0), y, groups, 0)
    with pytest.raises(ValueError, match="nowhere:build cannot be loaded"):
        fit_final(TabularCandidate(name="x", estimator="nowhere:build"), X, y, groups, 0)
