"""Runs in MLflow: begun, described, ended and found again; `runlog` writes what they hold.

Only the flow process writes runs. Every function takes the tracking server's address with it and
none uses MLflow's global active run, so that several trainings may be written by one process.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mlflow.entities import Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tasks.serve.names import NameTable, load_names
from tasks.serve.numbers import plain

HASH_TAGS = (
    "data_hash",
    "split_hash",
    "label_hash",
    "recipe_hash",
    "code_hash",
    "scenario_hash",
    "edition",
)
"""What a training run must say about itself before its figures mean anything."""

PARAMS_PER_CALL = 100
"""MLflow's own limit of parameters, and of tags, in one log_batch."""

PARAM_LENGTH = 6000
"""Characters MLflow keeps of a parameter."""

TAG_LENGTH = 8000
"""Characters MLflow keeps of a tag."""

_PAGE = 500


@dataclass(frozen=True)
class Tracker:
    """Where runs go: a tracking URI, an experiment (the scenario's name) and the table of names.

    ``artifact_location`` is used when the experiment is made for the first time; without it MLflow
    puts artifacts under the current folder of whoever comes first.
    """

    uri: str
    experiment: str
    names: NameTable = field(default_factory=load_names)
    artifact_location: str | None = None


def client_of(tracker: Tracker) -> MlflowClient:
    """Return MLflow's client for the tracker's address (one an address and process)."""
    return _client(tracker.uri)


@lru_cache(maxsize=8)
def _client(uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment_id(tracker: Tracker) -> str:
    """Return the experiment's id; the experiment is made, or brought back if deleted."""
    client = client_of(tracker)
    found = client.get_experiment_by_name(tracker.names.check_experiment(tracker.experiment))
    if found is None:
        try:
            return client.create_experiment(
                tracker.experiment,
                artifact_location=_location(tracker),
                # Without it MLflow 3 guesses, and may open its view for language models.
                tags={"mlflow.experimentKind": "custom_model_development"},
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(tracker.experiment)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _location(tracker: Tracker) -> str | None:
    if tracker.artifact_location is None:
        return None
    return f"{tracker.artifact_location.rstrip('/')}/{tracker.experiment}"


def start_training(
    tracker: Tracker,
    scenario_name: str,
    tags: Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    title: str | None = None,
    kind: str = "training",
) -> str:
    """Start the parent run of one training, or the run of an evaluation, and return its id.

    Parameters
    ----------
    scenario_name : str
        Becomes the tag ``scenario``.
    tags : Mapping
        Must hold every name in `HASH_TAGS`.
    params : Mapping, optional
    key : str, optional
        What a re-run is recognised by: a run with this key that has not finished is taken up again.
    title : str, optional
        Name shown by MLflow; by default the scenario's.
    kind : str
        ``training`` or ``evaluation``.

    Raises
    ------
    ValueError
        When a name is not in the table or a hash is missing.
    """
    missing = [name for name in HASH_TAGS if tags.get(name) in (None, "")]
    if missing:
        raise ValueError(
            f"A run of {scenario_name!r} lacks the tags {', '.join(missing)}: without them "
            "its figures cannot be compared."
        )
    every = {**tags, "kind": kind, "scenario": scenario_name}
    return _start(tracker, title or scenario_name, every, params or {}, key)


def start_child(
    tracker: Tracker,
    parent: str,
    name: str,
    kind: str,
    tags: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
) -> str:
    """Start a run below a training (``kind="candidate"``), below a candidate (``"fold"``) or below
    either (``"trial"`` of a search).

    The child inherits its parent's scenario and hashes, so that it can be compared by itself.
    """
    if kind not in ("candidate", "fold", "trial"):
        raise ValueError(f"A child run is a candidate, a fold or a trial, not {kind!r}.")
    inherited = client_of(tracker).get_run(parent).data.tags
    every: dict[str, Any] = {
        tag: inherited[tag]
        for tag in (*HASH_TAGS, "scenario", "candidate", "candidate_kind", "synthetic")
        if tag in inherited
    }
    every |= tags or {}
    every |= {"kind": kind, "mlflow.parentRunId": parent}
    if kind == "candidate":
        every.setdefault("candidate", name)
    return _start(tracker, name, every, params or {}, key and f"{parent}/{key}")


def _start(
    tracker: Tracker,
    title: str,
    tags: Mapping[str, Any],
    params: Mapping[str, Any],
    key: str | None,
) -> str:
    client, names = client_of(tracker), tracker.names
    shown = {names.check_tag(name): _text(value, TAG_LENGTH) for name, value in tags.items()}
    names.check_kind(shown["kind"])
    for name in params:
        names.check_param(name)
    if key is not None:
        shown["run_key"] = key
    experiment = experiment_id(tracker)
    run_id = _unfinished(client, experiment, key)
    if run_id is None:
        run_id = client.create_run(experiment, tags=shown, run_name=title).info.run_id
    log_params(tracker, run_id, params)
    return run_id


def _unfinished(client: MlflowClient, experiment: str, key: str | None) -> str | None:
    """Return the run a killed process left behind under this key, RUNNING or FAILED."""
    if key is None:
        return None
    found = client.search_runs([experiment], f"tags.run_key = '{key}'", max_results=1)
    if not found or found[0].info.status == "FINISHED":
        return None
    client.update_run(found[0].info.run_id, status="RUNNING")
    return str(found[0].info.run_id)


def log_params(tracker: Tracker, run_id: str, params: Mapping[str, Any]) -> None:
    """Write parameters; a repeated one must have its old value (MLflow refuses another)."""
    rows = [
        Param(tracker.names.check_param(name), _text(value, PARAM_LENGTH))
        for name, value in params.items()
    ]
    for start in range(0, len(rows), PARAMS_PER_CALL):
        client_of(tracker).log_batch(run_id, params=rows[start : start + PARAMS_PER_CALL])


def set_tags(tracker: Tracker, run_id: str, tags: Mapping[str, Any]) -> None:
    """Write tags of a run, such as the verdict; a repeated one is replaced."""
    rows = [
        RunTag(tracker.names.check_tag(name), _text(value, TAG_LENGTH))
        for name, value in tags.items()
    ]
    client_of(tracker).log_batch(run_id, tags=rows)


def describe(tracker: Tracker, run_id: str, markdown: str) -> None:
    """Put a Markdown text at the head of the run's page."""
    client_of(tracker).set_tag(run_id, "mlflow.note.content", markdown[:TAG_LENGTH])


def end(tracker: Tracker, run_id: str, status: str = "FINISHED") -> None:
    """End a run as FINISHED, FAILED or KILLED; safe to repeat."""
    client_of(tracker).set_terminated(run_id, status)


def fail_unfinished(tracker: Tracker, run_id: str) -> int:
    """End a training and the runs below it that are still RUNNING as FAILED; return how many."""
    count = 0
    for child in children_of(tracker, run_id):
        count += fail_unfinished(tracker, child)
    if client_of(tracker).get_run(run_id).info.status == "RUNNING":
        end(tracker, run_id, "FAILED")
        count += 1
    return count


def children_of(tracker: Tracker, run_id: str, kind: str | None = None) -> list[str]:
    """Return the ids of the runs directly below a run, oldest first."""
    condition = f"tags.`mlflow.parentRunId` = '{run_id}'"
    if kind is not None:
        condition += f" and tags.kind = '{tracker.names.check_kind(kind)}'"
    return [run.info.run_id for run in search(tracker, condition)]


def search(tracker: Tracker, condition: str) -> list[Any]:
    """Return all of the experiment's runs that meet an MLflow filter, oldest first."""
    client, experiment = client_of(tracker), experiment_id(tracker)
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment],
            condition,
            max_results=_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        found.extend(page)
        token = page.token
        if not token:
            return found


def _text(value: Any, limit: int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value[:limit]
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, default=plain)[:limit]
    return str(value)[:limit]
