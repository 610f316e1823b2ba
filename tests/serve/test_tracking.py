import json

import pytest

from tasks.errors import EditionMismatch
from tasks.serve import comparing, runlog, tracking
from tasks.serve.tracking import client_of
from tests.serve.evidence import HASHES


def _training(tracker, **tags):
    return tracking.start_training(tracker, "limb", {**HASHES, **tags}, {"seed": 0, "folds": 5})


def test_a_training_without_a_hash_is_refused(tracker):
    tags = {**HASHES, "split_hash": ""}
    with pytest.raises(ValueError, match="split_hash"):
        tracking.start_training(tracker, "limb", tags)


def test_children_inherit_what_makes_them_comparable(tracker):
    parent = _training(tracker)
    candidate = tracking.start_child(tracker, parent, "small-cnn", "candidate")
    fold = tracking.start_child(tracker, candidate, "fold 0", "fold", {"fold": 0})
    tags = client_of(tracker).get_run(fold).data.tags
    assert tags["edition"] == "1"
    assert tags["candidate"] == "small-cnn"
    assert tags["kind"] == "fold"
    assert tracking.children_of(tracker, parent) == [candidate]
    assert tracking.children_of(tracker, candidate, "fold") == [fold]


def test_names_outside_the_table_are_refused_and_nothing_is_written(tracker):
    run = _training(tracker)
    with pytest.raises(ValueError, match="test/auc"):
        runlog.log_metrics(tracker, run, {"test/auroc": 0.9, "test/auc": 0.9})
    with pytest.raises(ValueError, match="parameter"):
        tracking.log_params(tracker, run, {"learning rate": 1})
    with pytest.raises(ValueError, match="tag"):
        tracking.set_tags(tracker, run, {"patient": "x"})
    assert client_of(tracker).get_run(run).data.metrics == {}


def test_intervals_become_three_metrics_and_missing_ones_none(tracker):
    run = _training(tracker)
    figures = {
        "test/auroc": (0.9, 0.8, 0.95),
        "test/brier": float("nan"),
        "test/dice/anterior": {"value": 0.85, "lo": 0.8, "hi": 0.9},
        "test/threshold": 0.4,
        "test/mcc": None,
    }
    runlog.log_metrics(tracker, run, figures)
    assert client_of(tracker).get_run(run).data.metrics == {
        "test/auroc": 0.9,
        "test/auroc_lo": 0.8,
        "test/auroc_hi": 0.95,
        "test/dice/anterior": 0.85,
        "test/dice/anterior_lo": 0.8,
        "test/dice/anterior_hi": 0.9,
        "test/threshold": 0.4,
    }


def test_the_limit_counts_what_the_run_already_holds(tracker):
    run = _training(tracker)
    runlog.log_metrics(tracker, run, {f"test/dice/c{n}": 0.5 for n in range(90)})
    with pytest.raises(ValueError, match="100 metrics"):
        runlog.log_metrics(tracker, run, {f"test/f1/c{n}": 0.5 for n in range(10)})


def test_a_history_written_twice_has_each_point_once(tracker):
    run = _training(tracker)
    records = [
        {"epoch": e, "train/loss": 1 / (e + 1), "val/primary": None, "epoch_seconds": 2.5}
        for e in range(600)
    ]
    assert runlog.log_epochs(tracker, run, records[:300]) == 600
    runlog.log_epochs(tracker, run, records)
    points = client_of(tracker).get_metric_history(run, "train/loss")
    assert [p.step for p in sorted(points, key=lambda p: p.step)] == list(range(600))
    assert max(p.timestamp for p in points) - min(p.timestamp for p in points) == 599 * 2500


def test_an_unfinished_run_is_taken_up_again_and_a_finished_one_is_not(tracker):
    first = tracking.start_training(tracker, "limb", HASHES, {"seed": 1}, key="t1")
    assert tracking.start_training(tracker, "limb", HASHES, {"seed": 1}, key="t1") == first
    child = tracking.start_child(tracker, first, "svm", "candidate", key="svm")
    assert tracking.start_child(tracker, first, "svm", "candidate", key="svm") == child
    assert tracking.fail_unfinished(tracker, first) == 2
    assert tracking.start_training(tracker, "limb", HASHES, {"seed": 1}, key="t1") == first
    tracking.end(tracker, first)
    assert tracking.start_training(tracker, "limb", HASHES, {"seed": 1}, key="t1") != first


def test_tables_figures_and_datasets_reach_the_run_without_a_place(tracker, tmp_path):
    run = _training(tracker)
    picture = tmp_path / "roc.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    runlog.log_table(tracker, run, "subgroups", [{"sex": "F", "n": 3}, {"sex": "M", "auroc": 1}])
    runlog.log_figures(tracker, run, [picture])
    runlog.log_dataset(tracker, run, "limb", "a" * 32, "limb-archive", profile={"cases": 9})
    client = client_of(tracker)
    names = {f.path for folder in ("tables", "figures") for f in client.list_artifacts(run, folder)}
    assert names == {"tables/subgroups.csv", "tables/subgroups.json", "figures/roc.png"}
    got = client.download_artifacts(run, "tables/subgroups.csv", str(tmp_path))
    with open(got) as stream:
        assert stream.read() == "sex,n,auroc\nF,3,\nM,,1\n"
    dataset = client.get_run(run).inputs.dataset_inputs[0].dataset
    assert json.loads(dataset.source) == {"alias": "limb-archive"}
    with pytest.raises(ValueError, match="64 characters"):
        runlog.log_dataset(tracker, run, "limb", "a" * 64, "limb-archive")


def test_test_editions_are_never_mixed(tracker):
    for edition in (1, 1, 2):
        tracking.end(tracker, _training(tracker, edition=edition))
    assert len(comparing.comparable_runs(tracker, "limb", 1)) == 2
    with pytest.raises(EditionMismatch, match="1, 2"):
        comparing.comparable_runs(tracker, "limb")


def test_splits_are_never_mixed_and_running_or_fold_runs_stay_out(tracker):
    one = _training(tracker)
    other = _training(tracker, split_hash="9" * 32)
    assert comparing.comparable_runs(tracker, "limb", 1) == []
    child = tracking.start_child(tracker, one, "svm", "candidate")
    fold = tracking.start_child(tracker, child, "0", "fold")
    for run in (one, other, child, fold):
        tracking.end(tracker, run)
    with pytest.raises(EditionMismatch, match="splits"):
        comparing.comparable_runs(tracker, "limb", 1)
    rows = comparing.comparable_runs(tracker, "limb", 1, split_hash="b" * 32)
    assert [row.run_id for row in rows] == [one, child]
    assert comparing.comparable_runs(tracker, "limb", 1, parent=one)[0].name == "svm"


def test_a_deleted_experiment_comes_back(tracker):
    number = tracking.experiment_id(tracker)
    client_of(tracker).delete_experiment(number)
    assert tracking.experiment_id(tracker) == number
