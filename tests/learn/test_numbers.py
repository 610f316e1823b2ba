"""Candidates that estimate a number: networks and tables, trained, kept and asked."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from tasks.errors import LeakageError
from tasks.learn.candidate import TabularCandidate
from tasks.learn.dataset import ArrayCases, TrainingCase
from tasks.learn.estimators import ESTIMATORS
from tasks.learn.model import TabularModel, load_model
from tasks.learn.model_file import ModelSpec, save_model
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.numbers import CENTRE, SCALE, fit_scaler, in_units, number_loss
from tasks.learn.plan import plan_network
from tasks.learn.scoring import number_score
from tasks.learn.skops_file import load_skops, save_skops
from tasks.learn.tabular_numbers import fit_final_numbers, fit_fold_numbers, predict_numbers
from tasks.learn.train import train_fold
from tests.learn.small_fold import SIZE

REGRESSORS = [name for name, row in ESTIMATORS.items() if row.regressor]


def squares(n, seed=0):
    """Return images in which a bright square's area in mm2, 100 to 260, is what is asked for."""
    rng = np.random.default_rng(seed)
    images, cases = {}, []
    for i in range(n):
        image = rng.normal(0, 0.3, (1, SIZE, SIZE)).astype(np.float32)
        side = int(rng.integers(2, 18))
        image[0, 2 : 2 + side, 2 : 2 + side] += 2
        case_id = f"{seed:016x}{i:016x}"
        images[case_id] = image
        cases.append(TrainingCase(case_id, f"patient{i}", "part", target=100.0 + 10 * side))
    return ArrayCases(images), cases


def a_plan(**fields):
    settings = {"epochs": 12, "batch": 8, "features": (8, 16), "lr": 1e-2, "dropout": 0.0}
    settings |= {"augment": "none"} | fields
    candidate = NetworkCandidate(name="tiny", **settings)
    return plan_network(candidate, task="regression", shape=(1, SIZE, SIZE), n_classes=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    source, cases = squares(72)
    ids = [case.case_id for case in cases]
    out = tmp_path_factory.mktemp("fold")
    done = train_fold(a_plan(), source, cases, ids[:48], ids[48:], out, 3, device="cpu")
    return source, cases, done


def test_a_network_learns_a_number_in_its_unit(trained):
    _, cases, done = trained
    target = np.array([case.target for case in cases[48:]])
    error = np.abs(done.val_value[:, 0] - target).mean()
    guess = np.abs(target - np.mean([case.target for case in cases[:48]])).mean()
    assert error < 0.4 * guess
    assert done.history[-1]["val_mae"] == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("monitor", ["loss", "mae"])
def test_the_least_error_is_the_best_of_a_search(monitor, tmp_path):
    source, cases = squares(24)
    ids = [case.case_id for case in cases]
    plan = a_plan(epochs=6, monitor=monitor)
    done = train_fold(plan, source, cases, ids[:16], ids[16:], tmp_path, 3, device="cpu")
    errors = [record[f"val_{monitor}"] for record in done.history]
    assert [plan.watched(one) for one in done.history] == [-error for error in errors]


def test_the_scaler_is_that_of_the_training_side_and_is_kept(trained, tmp_path):
    source, cases, done = trained
    spec = ModelSpec(
        name="squares", candidate="tiny", task="regression", kind="network", classes=("area",),
        unit="mm2", plan=a_plan(), recipe={"steps": []},
    )  # fmt: skip
    save_model(tmp_path, spec, folds=[done.weights_path, done.weights_path])
    model = load_model(tmp_path, device="cpu")
    of_training = np.array([case.target for case in cases[:48]])
    for network in model.networks:
        assert float(getattr(network, CENTRE)) == pytest.approx(of_training.mean(), rel=1e-6)
        assert float(getattr(network, SCALE)) == pytest.approx(of_training.std(), rel=1e-6)
    said = model.predict_many([source.image(c) for c in done.val_ids])
    assert np.allclose(np.stack(said), done.val_value, rtol=1e-5)
    heat = model.heatmap(source.image(done.val_ids[0]), 0)
    assert heat.shape == (1, SIZE, SIZE)
    assert model.ood_score(source.image(done.val_ids[0])) is not None


@pytest.mark.parametrize("loss", ["smooth_l1", "mse"])
def test_the_loss_is_of_standard_units(loss):
    network = build_network(a_plan(loss=loss))
    fit_scaler(network, [100.0, 300.0])
    output, target = torch.tensor([[0.5], [-2.0]]), torch.tensor([250.0, 300.0])
    assert in_units(network, output).tolist() == [250.0, 0.0]
    wanted = {"smooth_l1": (0 + 2.5) / 2, "mse": (0 + 9) / 2}[loss]
    assert float(number_loss(network, output, target, loss)) == pytest.approx(wanted)


def test_equal_or_missing_numbers_teach_nothing(tmp_path):
    source, cases = squares(12)
    ids = [case.case_id for case in cases]
    same = [TrainingCase(c.case_id, c.patient_key, "part", target=7.0) for c in cases]
    with pytest.raises(ValueError, match="same number"):
        train_fold(a_plan(), source, same, ids[:8], ids[8:], tmp_path, 3, device="cpu")
    none = [TrainingCase(c.case_id, c.patient_key, "part") for c in cases]
    with pytest.raises(ValueError, match="12 cases have no finite number"):
        train_fold(a_plan(), source, none, ids[:8], ids[8:], tmp_path, 3, device="cpu")


def test_a_plan_knows_what_is_of_numbers():
    assert a_plan().loss == "smooth_l1"
    assert a_plan(network="resnet18", features=None).n_classes == 1
    with pytest.raises(ValueError, match="use loss or mae"):
        a_plan(monitor="auroc")
    candidate = NetworkCandidate(name="tiny", loss="mse")
    with pytest.raises(ValueError, match="loss is of a regression"):
        plan_network(candidate, task="classification", shape=(1, 8, 8), n_classes=2)
    with pytest.raises(ValueError, match="use small_cnn"):
        a_plan(network="unet2d", features=None)


def table(n=90, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    X["word"] = np.where(rng.random(n) < 0.5, "left", "right")
    left = (X["word"] == "left").to_numpy()
    y = 100 + 20 * X["a"].to_numpy() + 15 * left + rng.normal(0, 2, n)
    X.loc[X.index[:3], "b"] = np.nan
    return X, y, np.array([f"p{i // 2}" for i in range(n)])


def folds_of(groups, k=3):
    return np.array([int(g[1:]) % k for g in groups])


@pytest.mark.parametrize("estimator", REGRESSORS)
def test_every_regressor_learns_and_reads_back_the_same(estimator, tmp_path):
    X, y, groups = table()
    candidate = TabularCandidate(name="one", estimator=estimator)
    found = fit_fold_numbers(candidate, X, y, groups, folds_of(groups), 1, 0)
    assert (
        np.abs(found.probability[:, 0] - y[found.rows]).mean() < 0.6 * np.abs(y - y.mean()).mean()
    )
    assert found.score < 0
    model = fit_final_numbers(candidate, X, y, groups, 0)
    save_skops(model, tmp_path / "model.skops")
    again = load_skops(tmp_path / "model.skops")
    turned = X[X.columns[::-1]]
    assert np.array_equal(predict_numbers(again, turned), predict_numbers(model, X))
    spec = ModelSpec(
        name="it", candidate="one", task="regression", kind="sklearn", classes=("area",), unit="mm2"
    )
    assert TabularModel(spec, again).predict(X).shape == (len(X), 1)


def test_a_fold_is_what_scikit_learn_gives_without_it():
    X, y, groups = table()
    X, folds = X[["a", "c"]], folds_of(groups)
    candidate = TabularCandidate(name="one", estimator="ridge", params={"alpha": 3.0})
    found = fit_fold_numbers(candidate, X, y, groups, folds, 0, 0)
    train, held = folds != 0, folds == 0
    scaler = StandardScaler().fit(X[train])
    wanted = Ridge(alpha=3.0, random_state=0).fit(scaler.transform(X[train]), y[train])
    assert np.allclose(found.probability[:, 0], wanted.predict(scaler.transform(X[held])))


def test_a_setting_that_says_one_number_of_all_is_not_the_best_by_rank():
    y = np.arange(6.0)
    assert number_score("spearman", y, np.ones(6)) == 0
    assert number_score("spearman", y, y**2) == 1
    X, y, groups = table()
    candidate = TabularCandidate(
        name="one", estimator="boosting", params={"max_iter": 10}, inner_folds=3,
        search={"min_samples_leaf": [1000, 4]},
    )  # fmt: skip
    found = fit_fold_numbers(candidate, X, y, groups, folds_of(groups), 0, 0, primary="spearman")
    assert found.params == {"min_samples_leaf": 4}


def test_a_search_optimises_the_figure_and_a_shared_patient_is_refused():
    X, y, groups = table()
    candidate = TabularCandidate(
        name="one", estimator="ridge", search={"alpha": [1e-2, 1e4]}, inner_folds=3
    )
    found = fit_fold_numbers(candidate, X, y, groups, folds_of(groups), 0, 0, primary="rmse")
    assert found.params == {"alpha": 1e-2}
    with pytest.raises(LeakageError, match="patients stand both in fold"):
        fit_fold_numbers(candidate, X, y, groups, np.arange(len(X)) % 3, 0, 0)
