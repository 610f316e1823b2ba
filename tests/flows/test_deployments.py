"""Deployments: names only, applied twice without harm; workers that run what is due."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.commands.serve import deployments_of, shipped_scenarios
from flows.data import data_folder
from tasks.scenario import load_scenario
from tests.flows.servers import (
    api,
    environment,
    flow_runs,
    own_servers,
    prefect_url,
    process,
    python,
    radloop,
    script,
    wait_for,
    write_tiny,
)

GIVEN = yaml.safe_load((data_folder("deployments") / "prefect.yaml").read_text())
FOLDER = data_folder("deployments") / "scenarios"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with the tiny table, deployed twice, on its own server."""
    place = tmp_path_factory.mktemp("deployed")
    env = environment(place / "home")
    scenario = write_tiny(place / "data", schedule='{retrain: "15 3 * * 6"}')
    radloop(env, "source", "add", "rows", str(place / "data" / "rows.csv"))
    with own_servers(env):
        for _ in range(2):
            radloop(env, "deploy", str(scenario), "--source", "rows")
        yield place / "home"


def _deployments(url: str) -> dict[str, Any]:
    return {row["name"]: row for row in api(url, "/deployments/filter", {})}


def test_deploying_twice_leaves_each_deployment_once(home: Path) -> None:
    url = prefect_url(home)
    rows = api(url, "/deployments/filter", {})
    assert sorted(row["name"] for row in rows) == ["predict-tiny", "retrain-tiny", "train-gpu"]
    retrain = _deployments(url)["retrain-tiny"]
    assert [s["schedule"]["cron"] for s in retrain["schedules"]] == ["15 3 * * 6"]
    automations = [row["name"] for row in api(url, "/automations/filter", {})]
    assert len(automations) == len(set(automations)) == 2
    pools = {row["name"] for row in api(url, "/work_pools/filter", {})}
    assert {"radloop", "gpu"} <= pools


def test_parameters_are_names_and_aliases_only(home: Path) -> None:
    rows = _deployments(prefect_url(home))
    assert rows["retrain-tiny"]["parameters"] == {"scenario": "tiny", "source": "rows"}
    assert rows["predict-tiny"]["parameters"] == {"scenario": "tiny"}
    assert rows["train-gpu"]["parameters"] == {}
    assert rows["train-gpu"]["work_pool_name"] == "gpu"
    place = str(home.parent / "data")
    assert place not in json.dumps(rows)


def test_the_trigger_hears_only_its_own_scenario(home: Path) -> None:
    found = api(prefect_url(home), "/automations/filter", {})
    (trigger,) = [row["trigger"] for row in found if row["trigger"]["posture"] == "Reactive"]
    assert trigger["expect"] == ["radloop.archive.staged"]
    assert trigger["match"]["radloop.scenario"] == "tiny"


def test_runs_are_scheduled_by_the_server(home: Path) -> None:
    url = prefect_url(home)
    # SQLAlchemy 2.1 breaks exactly this, and nothing else looks ill.
    planned = wait_for("scheduled runs", lambda: flow_runs(url))
    assert {run["state_type"] for run in planned} == {"SCHEDULED"}


@pytest.mark.parametrize("name", shipped_scenarios(GIVEN))
def test_every_scenario_that_ships_has_its_own_rows(name: str) -> None:
    scenario = load_scenario(name, (FOLDER,))
    rows = {row["name"]: row for row in deployments_of(GIVEN, scenario, None)}
    wanted = {f"retrain-{name}", f"predict-{name}"}
    if scenario.cohort.kind != "row":
        wanted.add(f"preprocess-{name}")
    assert set(rows) == wanted
    cron = rows[f"retrain-{name}"]["schedules"][0]["cron"]
    assert cron == (scenario.schedule.retrain or cron)
    (trigger,) = rows[f"predict-{name}"]["triggers"]
    assert trigger["match"]["radloop.scenario"] == name
    for row in rows.values():
        assert set(row["parameters"].values()) <= {name}


def test_rows_of_a_new_scenario_name_nobody_elses(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    tiny = load_scenario(str(tmp_path / "tiny.yaml"), (FOLDER,))
    rows = deployments_of(GIVEN, tiny, "rows")
    assert [row["name"] for row in rows] == ["retrain-tiny", "predict-tiny"]
    assert not any(name in json.dumps(rows) for name in shipped_scenarios(GIVEN))


@dataclass(frozen=True)
class Works:
    """A home with a server and two workers, one a pool."""

    home: Path
    url: str
    env: dict[str, str]


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """Everything that runs at a site, embedded."""
    place = tmp_path_factory.mktemp("works")
    home = place / "home"
    env = environment(home, RADLOOP_WORKERS="1")
    scenario = write_tiny(place / "data", schedule='{retrain: "* * * * *"}')
    radloop(env, "source", "add", "rows", str(place / "data" / "rows.csv"))
    with own_servers(env), ExitStack() as stack:
        radloop(env, "deploy", str(scenario), "--source", "rows")
        for pool in ("radloop", "gpu"):
            command = [script("radloop"), "worker", "--pool", pool]
            stack.enter_context(process(command, env, place / f"{pool}.log"))
        yield Works(home, prefect_url(home), env)


def _runs_of(works: Works, deployment: str) -> list[dict[str, Any]]:
    return flow_runs(works.url, deployments={"name": {"any_": [deployment]}})


def _ended(works: Works, deployment: str) -> dict[str, Any]:
    """Wait for a run of a deployment that is over, and show its logs when it went wrong."""

    def over() -> Any:
        ends = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        return [run for run in _runs_of(works, deployment) if run["state_type"] in ends]

    run = wait_for(f"a run of {deployment}", over, seconds=400)[-1]
    wanted = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
    logs = [row["message"] for row in api(works.url, "/logs/filter", wanted)]
    assert run["state_type"] == "COMPLETED", "\n".join(logs[-30:])
    return run


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_executes_what_the_schedule_says(works: Works) -> None:
    deployment = _deployments(works.url)["retrain-tiny"]
    run = _ended(works, "retrain-tiny")
    # A run a minute would keep the one worker from what the next tests want of it.
    api(works.url, f"/deployments/{deployment['id']}/pause_deployment", {})
    assert run["auto_scheduled"]
    models = json.loads(radloop(works.env, "status", "--json"))["models"]
    assert ("tiny", "champion", "1") in {(m["name"], m["alias"], m["version"]) for m in models}


EMIT = """
from prefect.events import emit_event
emit_event(
    event="radloop.archive.staged",
    resource={"prefect.resource.id": "radloop.archive.rows", "radloop.scenario": "tiny"},
    payload={"source": "rows"},
)
print(1)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_archive_that_is_staged_is_judged(works: Works) -> None:
    python(works.env | {"PREFECT_API_URL": f"{works.url}/api"}, EMIT)
    run = _ended(works, "predict-tiny")
    assert run["parameters"] == {"scenario": "tiny", "source": "rows"}
    (table,) = (works.home / "predictions" / "tiny").glob("*/predictions.csv")
    assert len(table.read_text().splitlines()) == 81


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_that_wants_a_gpu_runs_on_the_gpu_pool(works: Works) -> None:
    folder = works.home.parent / "gpu"
    text = write_tiny(folder, train_on="gpu").read_text()
    scenario = folder / "tiny-gpu.yaml"
    scenario.write_text(text.replace("name: tiny\n", "name: tiny-gpu\n"))
    said = radloop(works.env, "retrain", str(scenario), "--source", "rows")
    assert "on the work pool gpu" in said
    run = _ended(works, "train-gpu")
    assert run["work_pool_name"] == "gpu"
    assert run["parameters"] == {"scenario": "tiny-gpu", "source": "rows"}
    assert run["parent_task_run_id"], "the run is linked below the retrain that asked for it"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_ends_by_sigterm_as_a_container_ends_it(works: Works, tmp_path: Path) -> None:
    command = [script("radloop"), "worker", "--pool", "leaving"]
    with process(command, works.env, tmp_path / "worker.log") as worker:
        wait_for("the worker", lambda: "started" in (tmp_path / "worker.log").read_text())
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=60) == 0
