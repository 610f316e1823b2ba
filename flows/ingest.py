"""Archive to catalog: one coordinator reads headers and writes catalog, vault and audit."""

from dataclasses import asdict
from typing import Any

from prefect import flow

from flows import reports
from flows.console import progress, say
from flows.home import Home, lease
from flows.policy import task
from flows.settings import load_settings
from tasks.archive.audit import append
from tasks.archive.intake import ingest as take_in
from tasks.archive.vault import get_source
from tasks.labels.attach import attach_labels
from tasks.labels.config import JOINED


def _take_in(source: str, retry: bool) -> dict[str, Any]:
    home = Home(load_settings())
    with progress("reading headers", unit="files") as advance:
        report = take_in(
            get_source(home.vault, source),
            home.catalog,
            home.vault,
            home.names,
            on_progress=advance,
            retry=retry,
        )
    for line in report.lines():
        say(f"  {line}")
    return asdict(report)


def _attach(source: str, scenario: str) -> dict[str, Any] | None:
    home = Home(load_settings())
    config = home.scenario(scenario).labels
    if config.format not in JOINED:
        return None
    report = attach_labels(
        get_source(home.vault, source), config, home.names, home.catalog, home.vault
    )
    say(f"  labels: {report.matched} of {report.rows} rows match a case")
    for line, reason in report.unmatched[:5]:
        say(f"    row {line}: {reason}")
    return asdict(report)


take_in_source = task(_take_in, name="read headers into the catalog", retries=1)
attach_scenario_labels = task(_attach, name="join labels")


@flow(name="ingest")
def ingest(source: str, scenario: str | None = None, retry: bool = False) -> dict[str, Any]:
    """Bring a registered source into the catalog, and a scenario's labels with it.

    Parameters
    ----------
    source : str
        Alias of a source; its place stands in the vault only.
    scenario : str, optional
        Scenario whose label table is joined.
    retry : bool
        Read quarantined files again.

    Returns
    -------
    dict
        Counts of what was seen, new, unchanged and quarantined.
    """
    home = Home(load_settings())
    with lease(home, "ingest", f"ingest {source}"):
        counts = take_in_source(source, retry)
        labels = attach_scenario_labels(source, scenario) if scenario else None
    append(home.settings.audit_path, "ingest", source=source)
    reports.table("ingest", [{"what": k, "count": v} for k, v in _numbers(counts).items()])
    quarantined = counts.get("quarantined") or {}
    if quarantined:
        reports.table("quarantine", [{"reason": r, "files": n} for r, n in quarantined.items()])
    return {"files": counts, "labels": labels}


def _numbers(counts: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in counts.items() if isinstance(value, int)}
