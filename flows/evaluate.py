"""The champion, or any other tool's predictions, on the test edition; every look is counted."""

import csv
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows import reports
from flows.cohorts import Ready, settle
from flows.evidence import tracker_for
from flows.home import Home
from flows.judging import judge_side, predictions
from flows.settings import load_settings
from flows.train import write_job
from tasks.archive.audit import append
from tasks.archive.commits import use_edition
from tasks.errors import RadloopError
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.table import metric_table
from tasks.hashing import digest_file
from tasks.learn.job import TrainingJob
from tasks.learn.judge import POSITIVE
from tasks.learn.model import read_spec
from tasks.serve.registry import fetch, get_alias

PREDICTIONS = "predictions.csv"
"""Another tool's table: `case_id` and a column `p/<class>` for each class."""


@flow(name="evaluate")
def evaluate(
    scenario: str, source: str | None = None, foreign: str | None = None
) -> dict[str, Any]:
    """Score the champion, or another tool's kept predictions, on the present test edition.

    Parameters
    ----------
    scenario : str
        Name of the scenario.
    source : str, optional
        Only this source's cases.
    foreign : str, optional
        Digest of predictions kept by :func:`keep_foreign`.

    Returns
    -------
    dict
        ``test`` figures with intervals, ``edition``, how often it has been used.
    """
    home = Home(load_settings())
    ready = settle(home, home.scenario(scenario), source)
    job = write_job(home, ready)
    if foreign is None:
        what, scores, threshold = _champion(home, ready, job)
    else:
        what, scores, threshold = f"predictions {foreign[:12]}", _foreign(home, job, foreign), None
    uses = use_edition(home.catalog, ready.split, ready.edition, flow_run.id, "evaluate")
    config = ready.scenario.evaluate
    table = metric_table(scores, threshold, replicates=config.bootstrap, seed=config.seed)
    rows = [{"metric": n, "value": i.value, "from": i.lo, "to": i.hi} for n, i in table.items()]
    reports.table("test figures", rows, f"{what}, test edition {ready.edition}")
    append(home.settings.audit_path, "evaluate", scenario=scenario, what=what)
    return {
        "what": what,
        "edition": ready.edition,
        "uses": uses,
        "test": {name: (i.value, i.lo, i.hi) for name, i in table.items()},
    }


def keep_foreign(home: Home, scenario: Any, folder: Path) -> str:
    """Copy another tool's predictions under the home, so that the flow knows only their digest.

    Raises
    ------
    FileNotFoundError
        When the folder has no ``predictions.csv``.
    """
    table = folder / PREDICTIONS
    if not table.is_file():
        msg = (
            f"{folder} has no {PREDICTIONS}; it needs case_id and a column p/<class> for each class"
        )
        raise FileNotFoundError(msg)
    digest = digest_file(table)
    kept = _kept(home, digest)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(table, kept)
    return digest


def _champion(home: Home, ready: Ready, job: TrainingJob) -> tuple[str, Any, float | None]:
    tracker = tracker_for(home, job.scenario)
    champion = get_alias(tracker, job.scenario, "champion")
    if champion is None:
        msg = f"scenario {job.scenario} has no champion; run `radloop retrain {job.scenario}` first"
        raise RadloopError(msg)
    folder = fetch(tracker, champion, home.settings.home / "models")
    with tempfile.TemporaryDirectory() as scratch:
        scores, _ = judge_side(home, ready, job.on("test"), folder, Path(scratch))
    return (
        f"champion version {champion.version}",
        scores,
        read_spec(folder).thresholds.get(POSITIVE),
    )


def _foreign(home: Home, job: TrainingJob, digest: str) -> Predictions:
    """Match another tool's rows with the test cases; a case without a row is an error."""
    if job.task != "classification":
        msg = "predictions of another tool can be scored for classifications; masks come later"
        raise RadloopError(msg)
    with _kept(home, digest).open(newline="", encoding="utf-8-sig") as stream:
        rows = {row.get("case_id", ""): row for row in csv.DictReader(stream)}
    cases = job.on("test")
    missing = [case.case_id for case in cases if case.case_id not in rows]
    if missing:
        msg = (
            f"{len(missing)} of {len(cases)} test cases have no row in {PREDICTIONS}, e.g. case "
            f"{missing[0][:12]}; a paired comparison needs every test case"
        )
        raise RadloopError(msg)
    values = [_probabilities(rows[case.case_id], job.classes) for case in cases]
    return predictions(job, cases, values)


def _probabilities(row: Mapping[str, str], classes: tuple[str, ...]) -> list[float]:
    try:
        if row.get("probabilities"):
            found = json.loads(row["probabilities"])
            return [float(found[name]) for name in classes]
        return [float(row[f"p/{name}"]) for name in classes]
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{PREDICTIONS} needs a number in each of {', '.join(f'p/{c}' for c in classes)}"
        raise RadloopError(msg) from error


def _kept(home: Home, digest: str) -> Path:
    return home.settings.home / "foreign" / f"{digest}.csv"
