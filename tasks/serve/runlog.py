"""What a run in MLflow holds: curves, figures, tables, pictures, files and which data went in."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

from tasks.serve.numbers import as_interval, plain
from tasks.serve.tracking import Tracker, client_of

METRICS_PER_CALL = 1000
"""MLflow's own limit of one log_batch; one call of 1,000 costs as much as 16 single values."""

DATASET_DIGEST_LENGTH = 36
"""Characters MLflow keeps of a dataset's digest; radloop's ids have 32."""


def log_epochs(tracker: Tracker, run_id: str, records: Sequence[Mapping[str, Any]]) -> int:
    """Write epoch curves in as few calls as MLflow allows and return the number of values.

    Parameters
    ----------
    records : sequence of mappings
        Each with ``epoch`` and any of the table's epoch metrics. Values that are missing or not
        finite are left out. Time stamps are the run's start plus the sum of ``epoch_seconds``, a
        pure function of the records: a resumed training may write its whole history again without
        doubling a point.
    """
    run = client_of(tracker).get_run(run_id)
    elapsed = 0.0
    rows = []
    for record in records:
        elapsed += float(record.get("epoch_seconds") or 0.0)
        stamp = run.info.start_time + round(elapsed * 1000)
        for name, value in record.items():
            if name == "epoch":
                continue
            interval = as_interval(value)
            tracker.names.check_metric(name)
            if interval is not None:
                rows.append(Metric(name, interval[0], stamp, int(record["epoch"])))
    _log_metrics(tracker, run, rows)
    return len(rows)


def log_metrics(tracker: Tracker, run_id: str, values: Mapping[str, Any]) -> None:
    """Write figures, each a number or an interval with ``value``, ``lo`` and ``hi``.

    An interval becomes three metrics, ``name``, ``name_lo`` and ``name_hi``; what was not measured
    (None, NaN) is left out.

    Raises
    ------
    ValueError
        When a name is not in the table, or the run would hold more metrics than its limit.
    """
    run = client_of(tracker).get_run(run_id)
    rows = []
    for name, value in values.items():
        tracker.names.check_metric(name)
        interval = as_interval(value)
        if interval is None:
            continue
        for suffix, part in zip(("", "_lo", "_hi"), interval, strict=True):
            if part is not None:
                rows.append(Metric(name + suffix, part, run.info.start_time, 0))
    _log_metrics(tracker, run, rows)


def _log_metrics(tracker: Tracker, run: Any, rows: Sequence[Metric]) -> None:
    tracker.names.check_count({*run.data.metrics, *(row.key for row in rows)})
    for start in range(0, len(rows), METRICS_PER_CALL):
        client_of(tracker).log_batch(
            run.info.run_id, metrics=rows[start : start + METRICS_PER_CALL]
        )


def log_table(tracker: Tracker, run_id: str, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as ``tables/<name>.csv`` (MLflow shows it as a table) and ``tables/<name>.json``.

    Columns stand in the order in which the rows first name them.
    """
    rows = [dict(row) for row in rows]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    client = client_of(tracker)
    client.log_text(run_id, text.getvalue(), f"tables/{name}.csv")
    client.log_text(run_id, json.dumps(rows, indent=1, default=plain), f"tables/{name}.json")


def log_figures(tracker: Tracker, run_id: str, paths: Iterable[str | Path]) -> None:
    """Write pictures under ``figures/``."""
    for path in paths:
        client_of(tracker).log_artifact(run_id, str(path), "figures")


def log_file(tracker: Tracker, run_id: str, path: str | Path, folder: str | None = None) -> None:
    """Write one file, such as ``report.html``, at the run's root or in a folder of it."""
    client_of(tracker).log_artifact(run_id, str(path), folder)


def log_dataset(
    tracker: Tracker,
    run_id: str,
    name: str,
    digest: str,
    alias: str,
    *,
    context: str = "training",
    profile: Mapping[str, Any] | None = None,
) -> None:
    """Write which data went in: a digest and a source alias, never a place.

    Parameters
    ----------
    name, digest : str
        Shown by MLflow; the digest has at most `DATASET_DIGEST_LENGTH` characters.
    alias : str
        The source's alias.
    context : str
        ``training`` or ``evaluation``.
    profile : Mapping, optional
        Counts such as cases and patients.
    """
    if len(digest) > DATASET_DIGEST_LENGTH:
        raise ValueError(
            f"The digest of the dataset {name!r} has {len(digest)} characters and MLflow keeps "
            f"{DATASET_DIGEST_LENGTH}: give the id of 32."
        )
    dataset = Dataset(
        name=name,
        digest=digest,
        source_type="radloop",
        source=json.dumps({"alias": alias}),
        profile=json.dumps(dict(profile), default=plain) if profile else None,
    )
    tags = [InputTag("mlflow.data.context", context)]
    client_of(tracker).log_inputs(run_id, [DatasetInput(dataset, tags)])
