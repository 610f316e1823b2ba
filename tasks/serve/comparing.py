"""Which runs may stand side by side, and where MLflow shows them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tasks.errors import EditionMismatch
from tasks.serve import tracking
from tasks.serve.tracking import Tracker

CLASSIC_VIEW = "workflowType=machine_learning"
"""Opens MLflow 3's pages for model training; without it they open for language models."""


@dataclass(frozen=True)
class RunRow:
    """One run as a line of a comparison."""

    run_id: str
    name: str
    kind: str
    parent: str | None
    status: str
    started: int
    edition: str
    split_hash: str
    tags: dict[str, str] = field(repr=False)
    params: dict[str, str] = field(repr=False)
    metrics: dict[str, float] = field(repr=False)


def comparable_runs(
    tracker: Tracker,
    scenario: str,
    edition: str | int | None = None,
    *,
    split_hash: str | None = None,
    kind: str | None = None,
    parent: str | None = None,
) -> list[RunRow]:
    """Return finished runs of a scenario that may be compared, oldest first.

    Parameters
    ----------
    edition : str or int, optional
        Test edition. Without it all runs are asked for, which works while there is only one.
    split_hash : str, optional
        Split; likewise.
    kind : str, optional
        ``training`` or ``candidate``; both by default. Folds are never compared with them.
    parent : str, optional
        Only the children of this training.

    Raises
    ------
    EditionMismatch
        When the runs that were asked for come from several splits or test editions.
    """
    condition = f"tags.scenario = '{scenario}' and attributes.status = 'FINISHED'"
    if edition is not None:
        condition += f" and tags.edition = '{edition}'"
    if split_hash is not None:
        condition += f" and tags.split_hash = '{split_hash}'"
    if parent is not None:
        condition += f" and tags.`mlflow.parentRunId` = '{parent}'"
    if kind is not None:
        condition += f" and tags.kind = '{tracker.names.check_kind(kind)}'"
    rows = [_row(run) for run in tracking.search(tracker, condition)]
    if kind is None:
        rows = [row for row in rows if row.kind in ("training", "candidate")]
    refuse_mixed(rows)
    return rows


def refuse_mixed(rows: Sequence[RunRow]) -> None:
    """Raise EditionMismatch when rows come from several test editions or splits."""
    editions = sorted({row.edition for row in rows})
    if len(editions) > 1:
        raise EditionMismatch(
            f"Runs of the test editions {', '.join(editions)} were asked for together and their "
            "figures come from different patients: name one edition."
        )
    splits = sorted({row.split_hash for row in rows})
    if len(splits) > 1:
        raise EditionMismatch(
            f"Runs of the splits {', '.join(name[:8] for name in splits)} were asked for together "
            "and their figures come from different patients: name one split."
        )


def _row(run: Any) -> RunRow:
    tags = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")}
    return RunRow(
        run_id=run.info.run_id,
        name=run.info.run_name,
        kind=tags.get("kind", ""),
        parent=run.data.tags.get("mlflow.parentRunId"),
        status=run.info.status,
        started=run.info.start_time,
        edition=tags.get("edition", ""),
        split_hash=tags.get("split_hash", ""),
        tags=tags,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )


def run_url(ui_base: str, tracker: Tracker, run_id: str) -> str:
    """Return the page of one run."""
    return f"{_run_page(ui_base, tracker, run_id)}?{CLASSIC_VIEW}"


def compare_url(ui_base: str, tracker: Tracker, run_ids: Sequence[str]) -> str:
    """Return the page that shows runs side by side."""
    runs = quote(json.dumps(list(run_ids), separators=(",", ":")))
    experiments = quote(json.dumps([tracking.experiment_id(tracker)]))
    return f"{_base(ui_base)}/compare-runs?runs={runs}&experiments={experiments}&{CLASSIC_VIEW}"


def model_url(ui_base: str, name: str, version: str | int | None = None) -> str:
    """Return the page of a registered model or of one version of it."""
    page = f"{_base(ui_base)}/models/{quote(name, safe='')}"
    return f"{page if version is None else f'{page}/versions/{version}'}?{CLASSIC_VIEW}"


def _run_page(ui_base: str, tracker: Tracker, run_id: str) -> str:
    return f"{_base(ui_base)}/experiments/{tracking.experiment_id(tracker)}/runs/{run_id}"


def _base(ui_base: str) -> str:
    return f"{ui_base.rstrip('/')}/#"
