"""The whole loop: ingest, preprocess, train, gate; ends at once when there is too little new."""

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.deployments import run_deployment

from flows.cohorts import settle
from flows.console import heading, say
from flows.evidence import tracker_for
from flows.home import Home, lease
from flows.ingest import ingest
from flows.preprocess import preprocess
from flows.settings import load_settings
from flows.train import train
from tasks.archive.catalog import quarantine
from tasks.errors import RadloopError
from tasks.scenario import scenario_hash
from tasks.serve.registry import get_version, versions
from tasks.serve.tracking import client_of

GPU_DEPLOYMENT = "train/train-gpu"


@flow(name="retrain")
def retrain(scenario: str, source: str | None = None, force: bool = False) -> dict[str, Any]:
    """Run the loop for a scenario.

    Parameters
    ----------
    scenario : str
        Name of the scenario.
    source : str, optional
        Alias of the archive to read first.
    force : bool
        Train although the trigger is not met.

    Returns
    -------
    dict
        ``state`` "trained" or "nothing new", and what the stages returned.
    """
    home = Home(load_settings())
    body = home.scenario(scenario)
    with lease(home, f"scenario {scenario}", "retrain"):
        found: dict[str, Any] = {"scenario": scenario}
        if source is not None:
            heading("1  archive to catalog")
            found["ingest"] = ingest(source, scenario)
        due, why = is_due(home, body, source)
        say(f"  {why}")
        if not (due or force):
            return found | {"state": "nothing new", "why": why}
        if body.cohort.kind != "row":
            heading("2  catalog to store")
            found["preprocess"] = preprocess(scenario, source)
        heading("3  candidates, challenger, gate")
        found["train"] = train_where(body.train_on, scenario, source)
        return found | {"state": "trained", "why": why}


def train_where(place: str, scenario: str, source: str | None) -> Any:
    """Train here, or send the training to the work pool `gpu` (names and aliases only)."""
    if place != "gpu":
        return train(scenario, source)
    run = run_deployment(GPU_DEPLOYMENT, parameters={"scenario": scenario, "source": source})
    if not run.state.is_completed():
        msg = f"training on the work pool gpu ended as {run.state.name}; see its flow run page"
        raise RadloopError(msg)
    return {"flow_run": str(run.id)}


def is_due(home: Home, scenario: Any, source: str | None) -> tuple[bool, str]:
    """Decide whether retraining is worth it, by the last registered model.

    Returns
    -------
    due : bool
    why : str
        One sentence with the numbers.
    """
    tracker = tracker_for(home, scenario.name)
    known = versions(tracker, scenario.name)
    if not known:
        return True, "no model of this scenario is registered yet"
    last = get_version(tracker, scenario.name, known[-1].version)
    run = client_of(tracker).get_run(last.run_id)
    if run.data.tags.get("scenario_hash") != scenario_hash(scenario):
        return True, "the scenario changed since the last training"
    ready = settle(home, scenario, source)
    # A case that cannot be read is on a side and in no training: it must not count as new for ever.
    refused = {row.case_id for row in quarantine(home.catalog)}
    usable = [case for case in ready.cases_on("train") if case.case_id not in refused]
    now = len({case.patient_key for case in usable})
    then = int(run.data.params.get("n_train_patients", 0))
    age = (datetime.now(UTC) - datetime.fromtimestamp(run.info.start_time / 1000, UTC)).days
    trigger = scenario.trigger
    if now - then >= trigger.new_labelled_patients:
        return True, f"{now - then} new labelled patients (trigger {trigger.new_labelled_patients})"
    if age >= trigger.max_age_days:
        return True, f"the last model is {age} days old (trigger {trigger.max_age_days})"
    return False, (
        f"nothing new: {now - then} new labelled patients of {trigger.new_labelled_patients}, "
        f"last model {age} of {trigger.max_age_days} days old"
    )
