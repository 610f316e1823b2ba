"""The champion on new images: loaded once, asked case by case, every answer on record."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow

from flows import reports
from flows.answers import answer_row, ledger_entry, segments
from flows.console import progress, say
from flows.desk import Desk
from flows.dicom import DicomDesk, dicom_desk
from flows.evidence import tracker_for
from flows.home import Home
from flows.orders import orders_of
from flows.policy import task
from flows.settings import load_settings
from flows.studies import by_study, first_of_study, with_study
from tasks.archive.audit import append
from tasks.archive.catalog import Case, cases, locators_of, quarantine
from tasks.archive.commits import assignments
from tasks.archive.intake import ingest as take_in
from tasks.archive.pseudonyms import is_placeholder
from tasks.archive.sources import Source
from tasks.archive.table_intake import row_lines
from tasks.archive.vault import get_source, keys_behind, recall
from tasks.archive.vault_files import file_refs
from tasks.cohort.select import narrow
from tasks.errors import BadCase, RadloopError
from tasks.learn.answer import POSITIVE
from tasks.learn.header_range import AXES, outside
from tasks.learn.judge import judge_files, judge_rows, needs_files
from tasks.learn.judgement import Judgement
from tasks.learn.model import load_model
from tasks.serve.ledger import LedgerEntry, append_entries
from tasks.serve.registry import ModelVersionInfo, fetch, get_alias
from tasks.serve.results import (
    FAILED,
    ID_IN_TRAINING,
    IN_TRAINING,
    ModelFacts,
    PredictionRow,
    write_predictions,
)

FILE_KIND = "file kind"
"""What is told of a case of another kind than those learned from, see `CohortConfig`."""

LEDGER_CASES = 100
"""Cases after which the ledger is written, so that a killed run leaves a record of its answers."""


@flow(name="predict")
def predict(scenario: str, source: str, sources: bool = True) -> dict[str, Any]:
    """Apply a scenario's champion to every fitting case of a source.

    Parameters
    ----------
    scenario : str
        Name of the scenario.
    source : str
        Alias of the images.
    sources : bool
        Whether to write which file each case came from (mode 0600).

    Returns
    -------
    dict
        ``batch`` (folder below ``predictions`` in the home), counts, also of images that are not
        what the scenario is about (``outside``), model version.
    """
    return predict_source(scenario, source, sources)


@flow(name="predict-staged")
def predict_staged(scenario: str, source: str = "") -> dict[str, Any]:
    """Apply the champion to a source that an event names by its alias."""
    if not source:
        msg = "the event names no source; its payload needs `source`, a registered alias"
        raise RadloopError(msg)
    return predict_source(scenario, source, True)


def _predict_source(scenario: str, source: str, sources: bool) -> dict[str, Any]:
    home = Home(load_settings())
    body = home.scenario(scenario)
    tracker = tracker_for(home, scenario)
    champion = get_alias(tracker, scenario, "champion")
    if champion is None:
        msg = f"scenario {scenario} has no champion; run `radloop retrain {scenario}` first"
        raise RadloopError(msg)
    folder = fetch(tracker, champion, home.settings.home / "models")
    model = load_model(folder, trusted=body.networks)
    say(f"  champion: version {champion.version}, {model.spec.candidate}")
    facts = ModelFacts(
        scenario=scenario,
        title=body.title,
        name=champion.name,
        version=champion.version,
        digest=champion.digest,
        task=body.task,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        threshold=model.spec.thresholds.get(POSITIVE),
        novelty_limit=model.spec.ood_threshold,
        positive=model.spec.positive,
        classes=() if model.spec.task == "regression" else model.spec.classes,
        unit=model.spec.unit,
        synthetic=body.synthetic,
        intended_use=body.intended_use,
        not_for=body.not_for,
    )
    batch = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    out = home.settings.home / "predictions" / scenario / batch
    out.mkdir(parents=True)
    with Desk(home) as desk:
        report = take_in(get_source(home.vault, source), desk.catalog, desk.vault, home.names)
        for line in report.lines():
            say(f"  {line}")
        kinds = body.cohort.predicted_kinds
        found = [one for kind in kinds for one in cases(desk.catalog, kind=kind, source=source)]
        chosen, funnel, refused = narrow(found, body.cohort)
        outside_cohort = _outside(found, chosen)
        if outside_cohort:
            say(f"  not judged: {outside_cohort} of {len(found)} images are not what {scenario} is")
            say(f"  about: {'; '.join(f'{what}: {n}' for what, n in funnel)}")
        for one in refused:
            say(f"  {one.case_id[:12]} is no case, {one.reason}: {one.detail}")
        if not chosen and not refused:
            msg = (
                f"source {source} holds no case that scenario {scenario} is about "
                f"({len(found)} of kind {' or '.join(kinds)}); see its cohort with "
                f"`radloop check {scenario}`"
            )
            raise RadloopError(msg)
        chosen = by_study(chosen) if model.spec.views else chosen
        dicom = dicom_desk(home, desk, body.outputs, facts, model.spec.recipe, chosen)
        rows = list(_answers(home, desk, body, model, champion, chosen, out, dicom))
        rows += [PredictionRow(r.case_id, status=FAILED, reason=r.reason) for r in refused]
        rows += _unreadable(desk, rows)
        origin = origins(home, desk, home.source(source), chosen) if sources else None
    write_predictions(out, rows, facts, origin, page=body.outputs.page)
    flagged = sum(bool(row.flags) for row in rows)
    failed = sum(row.status == FAILED for row in rows)
    append(
        home.settings.audit_path,
        "predict",
        scenario=scenario,
        source=source,
        version=champion.version,
        cases=len(rows),
    )
    for line in dicom.told(rows):
        say(f"  {line}")
    counts = {"cases": len(rows), "flagged": flagged, "failed": failed, "outside": outside_cohort}
    reports.table("predictions", [counts | {"version": champion.version}])
    return counts | {"batch": batch, "version": champion.version, "folder": str(out)}


def _outside(found: Sequence[Case], chosen: Sequence[Case]) -> int:
    """Return how many images are part of no case that is judged."""
    judged = {one.case_id for case in chosen for one in case.members}
    return sum(case.case_id not in judged for case in found)


predict_source = task(_predict_source, name="judge a source")


def _answers(
    home: Home,
    desk: Any,
    body: Any,
    model: Any,
    champion: ModelVersionInfo,
    chosen: Sequence[Case],
    out: Path,
    dicom: DicomDesk,
) -> Iterator[PredictionRow]:
    """Judge the cases, write pictures, masks and DICOM, and keep the ledger."""
    kept: list[LedgerEntry] = []
    ledger = home.settings.home / "ledger.jsonl"
    seen = trained_on(home, desk, chosen, model.spec.hashes.get("split_hash"))
    facts = {case.case_id: case.facts for case in chosen}
    kinds = {case.case_id: case.kind for case in chosen}
    with progress("judging", total=len(chosen), unit="cases") as advance:
        judged = _judged(desk, model, chosen)
        if model.spec.views:
            judged = with_study(model.spec, judged, first_of_study(chosen))
        for number, (case_id, one) in enumerate(judged, start=1):
            if isinstance(one, BadCase):
                row = PredictionRow(case_id, status=FAILED, reason=one.reason)
            else:
                strange = outside(model.spec.headers, {**facts[case_id], AXES: one.axes})
                strange += (FILE_KIND,) if kinds[case_id] != body.cohort.kind else ()
                row = answer_row(model, one, seen.get(case_id), strange, body, out)
                row = dicom.written(row, segments(row, one), out)
            kept.append(ledger_entry(body.name, champion, model, one, row, out.name))
            if len(kept) >= LEDGER_CASES:
                append_entries(ledger, kept)
                kept = []
            advance(number, len(chosen))
            yield row
    append_entries(ledger, kept)


def _judged(
    desk: Any, model: Any, chosen: Sequence[Case]
) -> Iterator[tuple[str, Judgement | BadCase]]:
    if not needs_files(model.spec):
        ids = [case.case_id for case in chosen]
        for one in judge_rows(model, ids, [case.facts for case in chosen]):
            yield one.case_id, one
        return
    for order, one in judge_files(model, orders_of(desk, chosen)):
        yield order.case_id, one


def trained_on(home: Home, desk: Desk, chosen: Sequence[Case], split: str | None) -> dict[str, str]:
    """Return case id -> flag of the cases whose patient the model was trained on.

    A patient's pseudonym holds the issuer of the id, or else the source: the id 4711 of two
    hospitals is two patients. The same hospital's images may come from another folder, though, so
    an id that only its source tells apart is marked too, in words of its own.
    """
    training = (
        {key for key, row in assignments(home.catalog, split).items() if row.side == "train"}
        if split
        else set()
    )
    ids = {case.patient_key: recall(desk.vault, "patient", case.patient_key) for case in chosen}
    named = {key: text for key, text in ids.items() if text and not is_placeholder(text)}
    others = keys_behind(home.vault, "patient", named.values())
    flags = {}
    for case in chosen:
        if case.patient_key in training:
            flags[case.case_id] = IN_TRAINING
        elif training & set(others.get(named.get(case.patient_key), ())):
            flags[case.case_id] = ID_IN_TRAINING
    return flags


def _unreadable(desk: Any, rows: Sequence[PredictionRow]) -> list[PredictionRow]:
    """Return one row for each file that could not even be taken in: nothing is lost."""
    known = {row.case_id for row in rows}
    found = []
    for row in quarantine(desk.catalog):
        case_id = row.case_id or row.quarantine_id
        if case_id not in known:
            found.append(PredictionRow(case_id, status=FAILED, reason=row.reason))
    return found


def origins(
    home: Home, desk: Desk, source: Source, chosen: Sequence[Case]
) -> list[tuple[str, str]]:
    """Return (case id, first file, or file and line of a table) for the user's own list."""
    if source.kind == "table":
        lines = row_lines(source, home.names)
        return [(c.case_id, f"{source.location} line {lines[c.case_id]}") for c in chosen]
    found = []
    for case in chosen:
        locators = locators_of(desk.catalog, case.lead.case_id)
        ref = file_refs(desk.vault, locators[:1])[locators[0]]
        found.append((case.case_id, ref.path if ref.member is None else f"{ref.path}!{ref.member}"))
    return found
