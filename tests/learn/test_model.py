"""A model is what its file says, or it is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.errors import ModelRefused
from tasks.learn.fold import read_weights
from tasks.learn.infer import classify
from tasks.learn.model import TabularModel, load_model
from tasks.learn.model_file import (
    SKOPS_FILE,
    SPEC_FILE,
    WEIGHTS_FILE,
    ModelSpec,
    read_spec,
    save_model,
)
from tasks.learn.networks import build_network
from tasks.learn.ood import ood_threshold
from tasks.learn.train import train_fold
from tests.learn import small_fold


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two folds of a small classifier: (source, cases, plan, results)."""
    root = tmp_path_factory.mktemp("folds")
    source, cases = small_fold.bright_square_cases(60)
    ids = [case.case_id for case in cases]
    plan = small_fold.classifier_plan(epochs=4, lr=1e-2, features=(8, 16), ema=0.0)
    sides = [(ids[:30], ids[30:]), (ids[30:], ids[:30])]
    results = [
        train_fold(plan, source, cases, train, val, root / str(i), i, device="cpu")
        for i, (train, val) in enumerate(sides)
    ]
    return source, cases, plan, results


@pytest.fixture
def folder(trained, tmp_path):
    """A saved model's folder."""
    _, _, plan, results = trained
    spec = ModelSpec(
        name="squares", candidate="tiny", task="classification", kind="network",
        classes=("plain", "square"), positive="square", plan=plan, recipe={"steps": []},
        calibration={"method": "temperature", "temperature": 1.3},
        thresholds={"sensitivity": 0.4},
        ood_threshold=ood_threshold(np.concatenate([r.val_ood for r in results])),
        hashes={"data": "ab" * 16},
    )  # fmt: skip
    save_model(tmp_path, spec, folds=[r.weights_path for r in results])
    return tmp_path


def test_a_loaded_model_says_what_its_folds_said(trained, folder):
    source, cases, plan, results = trained
    model = load_model(folder, "cpu")
    networks = []
    for result in results:
        network = build_network(plan).eval()
        network.load_state_dict(read_weights(result.weights_path)[0])
        networks.append(network)
    images = {case.case_id: source.image(case.case_id) for case in cases[:4]}
    said = dict(zip(images, model.predict_many(list(images.values())), strict=True))
    expected = classify(networks, plan, np.stack(list(images.values())), torch.device("cpu"))
    np.testing.assert_allclose(np.stack(list(said.values())), expected, atol=1e-6)
    assert said[cases[0].case_id].shape == (2,)
    assert model.spec.n_folds == 2


def test_the_folder_holds_tensors_and_json_only(folder):
    assert sorted(p.name for p in folder.iterdir()) == sorted([SPEC_FILE, WEIGHTS_FILE])
    spec = json.loads((folder / SPEC_FILE).read_text())
    assert spec["classes"] == ["plain", "square"]
    assert spec["plan"]["network"] == "small_cnn"
    assert read_spec(folder).thresholds == {"sensitivity": 0.4}


def test_a_model_of_before_is_loaded_though_its_plan_had_a_patience(trained, folder):
    source, cases, _, _ = trained
    image = source.image(cases[0].case_id)
    now = load_model(folder, "cpu").predict_many([image])
    body = json.loads((folder / SPEC_FILE).read_text())
    body["plan"]["patience"] = 10
    (folder / SPEC_FILE).write_text(json.dumps(body))
    np.testing.assert_array_equal(load_model(folder, "cpu").predict_many([image]), now)


def test_noise_of_another_kind_is_unlike_the_training_cases_and_these_are_not(trained, folder):
    source, cases, plan, _ = trained
    model = load_model(folder, "cpu")
    limit = model.spec.ood_threshold
    known = [model.ood_score(source.image(case.case_id)) > limit for case in cases]
    assert np.mean(known) < 0.1
    ramp = np.linspace(-3, 3, 24, dtype=np.float32)
    strange = [
        np.broadcast_to(ramp, plan.patch),
        np.zeros(plan.patch, np.float32),
        5 * source.image(cases[0].case_id),
    ]
    assert all(model.ood_score(image) > limit for image in strange)


def test_a_flipped_bit_in_the_weights_is_refused(folder):
    path = folder / WEIGHTS_FILE
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelRefused, match="not the file"):
        load_model(folder, "cpu")


def test_missing_weights_and_a_damaged_specification_are_refused(folder):
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelRefused, match="missing"):
        load_model(folder, "cpu")
    (folder / SPEC_FILE).write_text("{")
    with pytest.raises(ModelRefused, match="cannot be read"):
        read_spec(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 99}, "format 99"),
        ({"plan": None}, "no network plan"),
        ({"n_folds": 3}, "fold 2"),
    ],
)
def test_a_specification_that_does_not_fit_is_refused(folder, change, words):
    _edit(folder, change)
    with pytest.raises(ModelRefused, match=words):
        load_model(folder, "cpu")


def test_a_foreign_network_named_by_the_file_is_never_imported(folder, tmp_path, monkeypatch):
    plan = json.loads((folder / SPEC_FILE).read_text())["plan"]
    _edit(folder, {"plan": plan | {"network": "evil_network:build"}})
    (tmp_path / "evil_network.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelRefused, match="foreign network"):
        load_model(folder, "cpu")
    assert not (tmp_path / "ran").exists()


def test_a_saved_segmentation_gives_maps_on_the_image_s_own_grid(tmp_path):
    from tasks.learn.network_candidate import NetworkCandidate
    from tasks.learn.plan import plan_network

    source, cases = small_fold.ball_cases(4, (12, 16, 10))
    ids = [case.case_id for case in cases]
    candidate = NetworkCandidate(name="u", network="unet3d", epochs=1, features=(4, 8), batch=2)
    plan = plan_network(candidate, task="segmentation", shape=(12, 16, 10), n_classes=2)
    result = train_fold(plan, source, cases, ids[:3], ids[3:], tmp_path / "f", 0, device="cpu")
    spec = ModelSpec(
        name="balls", candidate="u", task="segmentation", kind="network",
        classes=("background", "ball"), plan=plan,
    )  # fmt: skip
    save_model(tmp_path / "m", spec, folds=[result.weights_path])
    model = load_model(tmp_path / "m", "cpu")
    assert model.predict(np.zeros((11, 15, 13), np.float32)).shape == (2, 11, 15, 13)
    assert model.heatmap(source.image(ids[0]), 1) is None
    assert model.ood_score(source.image(ids[0])) is None  # three cases are no distribution


def test_a_tabular_model_is_kept_beside_the_same_specification(tmp_path):
    import pandas as pd

    from tasks.learn.candidate import TabularCandidate
    from tasks.learn.skops_file import save_skops
    from tasks.learn.tabular import fit_pipeline

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(50, 2)), columns=["a", "b"])
    target = (frame["a"] > 0).to_numpy(dtype=int)
    candidate = TabularCandidate(name="logistic", estimator="logistic")
    pipeline = fit_pipeline(candidate, {}, frame, target, np.arange(50), 0)
    save_skops(pipeline, tmp_path / "fitted.skops")
    spec = ModelSpec(
        name="t", candidate="logistic", task="classification", kind="sklearn",
        classes=("no", "yes"), features=("a", "b"),
    )  # fmt: skip
    save_model(tmp_path / "m", spec, skops=tmp_path / "fitted.skops")
    model = load_model(tmp_path / "m")
    assert isinstance(model, TabularModel)
    assert (tmp_path / "m" / SKOPS_FILE).exists()
    np.testing.assert_allclose(model.predict(frame[["b", "a"]]), pipeline.predict_proba(frame))


def test_nothing_is_saved_without_its_numbers(tmp_path):
    spec = ModelSpec(name="t", candidate="c", task="classification", kind="network", classes=("a",))
    with pytest.raises(ValueError, match="at least one fold"):
        save_model(tmp_path, spec)
    with pytest.raises(ValueError, match="skops file"):
        save_model(tmp_path, spec.model_copy(update={"kind": "sklearn"}))


def _edit(folder: Path, change: dict) -> None:
    path = folder / SPEC_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
