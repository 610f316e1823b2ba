"""The champion, or any other tool's predictions, on the test edition; every look is counted."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows import reports
from flows.cohorts import Ready, settle
from flows.console import say
from flows.evidence import tracker_for
from flows.foreign import kept_scores
from flows.home import Home
from flows.jobs import write_job
from flows.judging import judge_side
from flows.promote import shared_cases
from flows.recording import run_facts
from flows.report_facts import data_warnings, groups_of_test, scenario_facts
from flows.settings import load_settings
from tasks.archive.audit import append
from tasks.archive.commits import use_edition
from tasks.errors import RadloopError
from tasks.evaluate.compare import Difference, paired_primary
from tasks.evaluate.intervals import Interval
from tasks.evaluate.paired_calls import TEST
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.subgroups import rows_of
from tasks.evaluate.table import metric_table
from tasks.learn.answer import POSITIVE
from tasks.learn.job import TrainingJob
from tasks.learn.model_file import read_spec
from tasks.serve import runlog, tracking
from tasks.serve.against_champion import against_champion, decisions
from tasks.serve.card import REPORT_HTML, ReportFacts, write_report
from tasks.serve.drawn import draw
from tasks.serve.gate import Scored
from tasks.serve.outcome import figure_rows, named
from tasks.serve.probes import worth
from tasks.serve.registry import fetch, get_alias

OTHER = "other tool"
CHAMPION = "champion"

USUAL_THRESHOLD = 0.5
"""Calls need a threshold, which another tool does not bring."""


@dataclass(frozen=True)
class Measured:
    """Who was scored, on which cases, with which figures."""

    what: str
    scored: Scored
    figures: Mapping[str, Interval]


@dataclass(frozen=True)
class Versus:
    """Another tool beside the champion: in a sentence, in the primary figure, and as a table."""

    sentence: str | None = None
    difference: Difference | None = None
    sections: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


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
        Digest of predictions kept by `flows.foreign.keep_foreign`.

    Returns
    -------
    dict
        ``test`` figures with intervals, ``edition``, how often it has been used, ``report``; with
        predictions of another tool ``comparison``, a sentence, and ``difference`` in the primary
        figure with its limits, above 0 where the other tool is better.
    """
    home = Home(load_settings())
    ready = settle(home, home.scenario(scenario), source)
    job = write_job(home, ready)
    tracker = tracker_for(home, scenario)
    ours = None if foreign is None else _foreign(home, ready, job, foreign)
    champion = _champion(home, ready, job, tracker, needed=foreign is None)
    first = ours or champion
    uses = use_edition(home.catalog, ready.split, ready.edition, flow_run.id, "evaluate")
    versus = beside_champion(ready, ours, champion) if ours else Versus()
    facts = _facts(ready, job, ours, champion, uses, versus)
    apart = versus.difference
    with tempfile.TemporaryDirectory() as scratch:
        run_id, report = _record(home, ready, job, tracker, first, facts, Path(scratch))
    rows = [
        {"metric": n, "value": i.value, "from": i.lo, "to": i.hi} for n, i in first.figures.items()
    ]
    reports.table("test figures", rows, f"{first.what}, test edition {ready.edition}")
    append(home.settings.audit_path, "evaluate", scenario=scenario, what=first.what)
    return {
        "what": first.what,
        "edition": ready.edition,
        "uses": uses,
        "test": {name: (i.value, i.lo, i.hi) for name, i in first.figures.items()},
        "comparison": versus.sentence,
        "difference": apart and (apart.value, apart.lo, apart.hi),
        "run_id": run_id,
        "report": str(report),
    }


def _champion(
    home: Home, ready: Ready, job: TrainingJob, tracker: tracking.Tracker, *, needed: bool
) -> Measured | None:
    champion = get_alias(tracker, job.scenario, CHAMPION)
    if champion is None:
        if not needed:
            return None
        msg = f"scenario {job.scenario} has no champion; run `radloop retrain {job.scenario}` first"
        raise RadloopError(msg)
    folder = fetch(tracker, champion, home.settings.home / "models")
    with tempfile.TemporaryDirectory() as scratch:
        scores, _ = judge_side(home, ready, job.on("test"), folder, Path(scratch))
    threshold = read_spec(folder).thresholds.get(POSITIVE)
    return _measured(ready, f"champion version {champion.version}", scores, threshold)


def _foreign(home: Home, ready: Ready, job: TrainingJob, digest: str) -> Measured:
    scores = kept_scores(home, ready, job, digest)
    return _measured(ready, f"predictions {digest[:12]}", scores, None)


def _measured(ready: Ready, what: str, scores: Any, threshold: float | None) -> Measured:
    config = ready.scenario.evaluate
    table = metric_table(scores, threshold, replicates=config.bootstrap, seed=config.seed)
    return Measured(what, Scored(scores, str(ready.edition), threshold), table)


def beside_champion(ready: Ready, ours: Measured, champion: Measured | None) -> Versus:
    """Return how the other tool differs from the champion on the cases both could judge."""
    if champion is None:
        return Versus("There is no champion to compare with.")
    theirs, mine = (_with_threshold(one) for one in shared_cases(champion.scored, ours.scored))
    config = ready.scenario.evaluate
    thresholds = mine.threshold, theirs.threshold
    found = paired_primary(mine.predictions, theirs.predictions, thresholds, config)
    said = _in_words(found, config.primary, champion.what) + _decided(mine, theirs, champion.what)
    return Versus(said, found, against_champion(mine, theirs, config, found))


def _with_threshold(one: Scored) -> Scored:
    """Return it with the usual threshold where it brings none; of several classes one is called."""
    several = isinstance(one.predictions, Predictions) and not one.predictions.binary
    if several or one.threshold is not None:
        return one
    return replace(one, threshold=USUAL_THRESHOLD)


def _decided(mine: Scored, theirs: Scored, champion: str) -> str:
    found = decisions(mine, theirs)
    if found is None:
        return ""
    return (
        f" At the operating points ({mine.threshold:.3g} and {theirs.threshold:.3g}) the other "
        f"tool alone decides {found.first_only} of {found.n_patients} patients rightly, {champion} "
        f"alone {found.second_only}: p {found.p_value:.3g}, {TEST}."
    )


def _in_words(found: Difference, primary: str, champion: str) -> str:
    if found.lo > 0:
        verdict = f"better than {champion}"
    elif found.hi < 0:
        verdict = f"worse than {champion}"
    else:
        verdict = f"not shown to differ from {champion}"
    return (
        f"The other tool is {verdict} in {primary}: difference {found.value:+.4f}, 95 % interval "
        f"{found.lo:+.4f} to {found.hi:+.4f}, p {found.p_value:.3g}, {found.test}, "
        f"{found.n_patients} patients (positive: the other tool is better)."
    )


def _facts(
    ready: Ready,
    job: TrainingJob,
    ours: Measured | None,
    champion: Measured | None,
    uses: int,
    versus: Versus,
) -> ReportFacts:
    scenario, first = ready.scenario, ours or champion
    sides = {OTHER: ours, CHAMPION: champion}
    groups = groups_of_test(ready, first.scored.predictions, first.scored.threshold)
    judged = len(first.scored.predictions)
    missed = len(job.units("test")) - judged
    unjudged = f"{missed} test {job.unit_word} could not be judged and are in no figure"
    return ReportFacts(
        **scenario_facts(ready, job, uses),
        title=f"{scenario.title}: {first.what}",
        header_sentence=versus.sentence,
        sections=versus.sections,
        test={name: side.figures for name, side in sides.items() if side},
        subgroups=rows_of(groups, scenario.evaluate.primary),
        model={"name": first.what},
        hashes=ready.hashes,
        warnings=(*data_warnings(ready), *((unjudged,) if missed else ())),
    )


def _record(
    home: Home,
    ready: Ready,
    job: TrainingJob,
    tracker: tracking.Tracker,
    first: Measured,
    facts: ReportFacts,
    scratch: Path,
) -> tuple[str, Path]:
    """Write the run and the report; return the run's id and where the report is."""
    scores, threshold = first.scored.predictions, first.scored.threshold
    if threshold is None and isinstance(scores, Predictions) and scores.binary:
        threshold = USUAL_THRESHOLD
    probe = worth(scratch, scores, threshold, ready.scenario.evaluate, first.what)
    figures = (*draw(scratch, "test", scores, threshold, first.what, first.figures), *probe.figures)
    facts = replace(facts, figures=figures)
    tags, params = run_facts(ready, job)
    tags |= {"edition_uses": facts.edition["uses"], "note": first.what}
    run_id = tracking.start_training(
        tracker, ready.scenario.name, tags, params, title=first.what, kind="evaluation"
    )
    report = home.settings.home / "reports" / ready.scenario.name / f"{run_id}.html"
    write_report(report, facts)
    runlog.log_metrics(tracker, run_id, named("test", first.figures, tracker.names))
    runlog.log_table(tracker, run_id, "test_figures", figure_rows(first.figures))
    runlog.log_table(tracker, run_id, "test_cases", scores.to_table())
    for name, rows in probe.tables.items():
        runlog.log_table(tracker, run_id, name, rows)
    runlog.log_figures(tracker, run_id, [Path(one["path"]) for one in figures])
    copy = scratch / REPORT_HTML
    copy.write_bytes(report.read_bytes())
    runlog.log_file(tracker, run_id, copy)
    tracking.end(tracker, run_id)
    reports.link("report", report.as_uri(), f"report of {ready.scenario.name}")
    say(f"  {facts.header_sentence}" if facts.header_sentence else f"  {first.what} scored")
    return run_id, report
