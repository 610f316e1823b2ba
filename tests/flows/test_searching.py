"""A search through the command: killed, gone on with, and shown in MLflow and in the report."""

from collections.abc import Iterator

import pytest
import torch

from tasks.hashing import sha256_file
from tasks.learn.optimise import Search
from tasks.phantom.write import write_limb_archive
from tasks.scenario import parse_scenario, public_copy
from tasks.serve.names import load_names
from tasks.serve.tracking import Tracker, search
from tests.flows.conftest import LIMB
from tests.flows.running import Place

TRIALS = 6

SCENARIO = LIMB.replace("folds: 2", "folds: 3").replace(
    "  - {name: small-cnn, kind: network, network: small_cnn, epochs: 2}\n",
    f"""\
  - name: searched
    kind: network
    epochs: 4
    features: [8, 16]
    search: {{lr: {{low: 1.0e-4, high: 1.0e-2, log: true}}, dropout: [0.0, 0.3]}}
    max_trials: {TRIALS}
  - {{name: started, kind: network, network: resnet18, weights: own.pth, freeze: true, epochs: 1}}
""",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A home after a training that was killed in its search and started again."""
    import torchvision

    place = Place(tmp_path_factory.mktemp("searching"))
    archive = place.folder / "archive"
    write_limb_archive(archive, patients=45, seed=12)
    (place.folder / "small-limb.yaml").write_text(SCENARIO)
    place.radloop("ingest", archive, "--labels-of", place.folder / "small-limb.yaml").ok()
    refused = place.radloop("retrain", place.folder / "small-limb.yaml", "--source", archive)
    assert refused.code == 1
    assert "put the file there" in refused.err
    (place.home / "weights").mkdir()
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, place.home / "weights" / "own.pth")
    yield place
    left = place.close()
    assert not left, left


def journals(place: Place) -> list:
    return sorted((place.home / "training").rglob("search.jsonl"))


def told(journal) -> dict[int, tuple]:
    return {one.number: (one.params, one.values) for one in Search({}, 0, 0, journal).told()}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_killed_search_goes_on_and_every_trial_is_kept_and_shown(place: Place) -> None:
    scenario, archive = place.folder / "small-limb.yaml", place.folder / "archive"
    place.kill_once(
        lambda: any(told(one) for one in journals(place)),
        *("retrain", scenario, "--source", archive),
        seconds=600,
        look=1,
    )
    before = {one: told(one) for one in journals(place)}
    assert any(before.values())
    assert sum(map(len, before.values())) < 3 * TRIALS

    ran = place.radloop("retrain", scenario, "--source", archive, timeout=900).ok()
    assert "started starts from own.pth: 100 of 100 tensors taken" in ran.err + ran.out
    for journal, known in before.items():
        after = told(journal)
        assert len(after) == TRIALS
        assert known.items() <= after.items()  # nothing was tried twice or lost
    assert not list((place.home / "training").rglob("trial*"))

    tracker = Tracker(f"sqlite:///{place.home / 'mlflow.db'}", "small-limb", load_names())
    runs = search(tracker, "tags.kind = 'trial'")
    assert len(runs) == 3 * TRIALS
    assert {run.data.tags["trial_state"] for run in runs} >= {"chosen"}
    assert all("trial/lr" in run.data.params for run in runs)
    assert all("search/score" in run.data.metrics for run in runs)
    parents = {run.info.run_id: run for run in search(tracker, "")}
    assert {parents[r.data.tags["mlflow.parentRunId"]].data.tags["kind"] for r in runs} == {
        "candidate"
    }
    (report,) = (place.home / "reports" / "small-limb").glob("*.html")
    text = report.read_text()
    assert f"{3 * TRIALS} trials, each inside one fold" in text
    assert "dropout" in text
    _keeps_the_sum(place)


def _keeps_the_sum(place: Place) -> None:
    from tasks.learn.job import load_job

    (job_file,) = (place.home / "training" / "small-limb").glob("*/job.json")
    job = load_job(job_file.parent)
    plan = job.plan(job.candidate("started"))
    assert plan.weights_sha256 == sha256_file(place.home / "weights" / "own.pth")
    assert plan.freeze


def test_the_tracking_server_never_sees_where_weights_lie() -> None:
    scenario = parse_scenario(SCENARIO.replace("own.pth", "/home/doctor/own.pth"))
    assert "doctor" not in public_copy(scenario).model_dump_json()
    assert public_copy(scenario).candidates[1].weights == "weights-file.pth"
