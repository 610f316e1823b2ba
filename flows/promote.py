"""The gate and the registry: a challenger becomes champion, or does not, with the reason kept."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows import reports
from flows.cohorts import Ready
from flows.console import say
from flows.guarding import Guarded
from flows.home import Home
from flows.judging import judge_side
from flows.report_facts import (
    after_the_network,
    data_warnings,
    facts_of_scored,
    groups_of_test,
    judged_as,
    next_steps,
    not_done,
    operating_point,
    rule_facts,
    scenario_facts,
    start_of,
    step_line,
)
from tasks.archive.audit import append
from tasks.errors import BadCase, ModelRefused
from tasks.evaluate.estimates import quantity_words
from tasks.evaluate.intervals import Interval
from tasks.evaluate.subgroups import Group, rows_of
from tasks.evaluate.table import metric_table
from tasks.learn.answer import POSITIVE
from tasks.learn.job import TrainingJob
from tasks.learn.model_file import ModelSpec, read_spec
from tasks.scenario import scenario_hash
from tasks.serve import runlog, tracking
from tasks.serve.against_champion import against_champion
from tasks.serve.baseline import Baseline, held_against
from tasks.serve.beside import beside_members
from tasks.serve.card import REPORT_HTML, ReportFacts, write_card, write_report
from tasks.serve.comparing import run_url
from tasks.serve.gate import Scored, decide
from tasks.serve.manifest import write_manifest
from tasks.serve.outcome import CandidateOutcome, Scores
from tasks.serve.registry import (
    fetch,
    get_alias,
    register_model,
    set_alias,
    tag_version,
    write_mlmodel,
)
from tasks.serve.seeds import seed_sections
from tasks.serve.trials import trial_table


def decide_and_register(
    home: Home,
    ready: Ready,
    job: TrainingJob,
    tracker: tracking.Tracker,
    run_id: str,
    *,
    folder: Path,
    spec: ModelSpec,
    scores: Scores,
    test: Mapping[str, Interval],
    outcomes: Sequence[CandidateOutcome],
    chosen: CandidateOutcome,
    figures: Sequence[Mapping[str, str]],
    uses: int,
    header: str | None,
    baseline: Baseline | None,
    guards: Guarded,
    left_out: Sequence[Group],
    sections: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Compare with the present champion on the same edition, register, and move the aliases."""
    scenario = ready.scenario
    edition = str(ready.edition)
    champion, champion_test, unscored = champion_scores(home, ready, job, tracker)
    both = shared_cases(champion, Scored(scores, edition, chosen.threshold))
    verdict = decide(
        *both,
        scenario.gate,
        primary=scenario.evaluate.primary,
        facts=facts_of_scored(ready, both[1].predictions, rule_facts(ready)),
    )
    if unscored:
        verdict = replace(verdict, verdict="undecidable", action="ask", reason=unscored)
    verdict = held_against(verdict, scenario.gate, baseline)
    missed = len(job.units("test")) - len(scores.case_ids)
    warning = f"{missed} test {job.unit_word} could not be judged and are in no figure"
    facts = ReportFacts(
        **scenario_facts(ready, job, uses),
        title=scenario.title,
        header_sentence=header,
        candidates=tuple(
            {
                "name": outcome.name,
                "kind": outcome.kind,
                "chosen": outcome.name == chosen.name,
                "metrics": outcome.figures,
            }
            for outcome in outcomes
        ),
        trials=trial_table(outcomes),
        fusions=beside_members(job, outcomes, scenario.evaluate),
        judged=judged_as(spec),
        baseline=baseline and baseline.sentence,
        baselines=baseline.rows if baseline else (),
        test={"challenger": test, "champion": champion_test},
        gate=verdict.to_dict(),
        operating_point=operating_point(ready, spec),
        subgroups=rows_of(
            [*groups_of_test(ready, scores, chosen.threshold), *left_out], scenario.evaluate.primary
        ),
        sections={
            **seed_sections(outcomes, scenario.evaluate.primary),
            **against_champion(both[1], both[0], scenario.evaluate),
            **sections,
        },
        figures=tuple(figures),
        model={
            "name": scenario.name,
            "candidate": spec.candidate,
            "kind": spec.kind,
            "folds": spec.n_folds,
            **({"answers with": quantity_words(*spec.classes, spec.unit)} if spec.unit else {}),
            **start_of(spec),
            **after_the_network(spec),
        },
        hashes=spec.hashes | {"scenario_hash": scenario_hash(scenario)},
        recipe=tuple(step_line(step) for step in (spec.recipe or {}).get("steps", ())),
        checks=guards.checks,
        warnings=(
            *guards.warnings,
            *data_warnings(ready),
            *((warning,) if missed else ()),
            *not_done(spec),
        ),
        next_steps=next_steps(verdict, scenario.name),
    )
    write_card(folder, facts)
    write_mlmodel(
        folder, *signature(spec, job), metadata={"scenario": scenario.name, "run": run_id}
    )
    write_manifest(folder)
    tags = {"edition": edition, "candidate": chosen.name, "synthetic": scenario.synthetic}
    version = register_model(tracker, folder, scenario.name, run_id, tags)
    set_alias(tracker, scenario.name, "challenger", version.version)
    said = {"gate_verdict": verdict.verdict, "gate_reason": verdict.reason}
    tag_version(tracker, version, said)
    tracking.set_tags(tracker, run_id, said | {"edition_uses": uses})
    if verdict.action == "promote":
        set_alias(tracker, scenario.name, "champion", version.version)
    runlog.log_figures(tracker, run_id, [Path(one["path"]) for one in figures])
    known = {"version": version.version, "digest": version.digest}
    facts = replace(facts, model={**facts.model, **known})
    with tempfile.TemporaryDirectory() as scratch:
        report = write_report(Path(scratch) / REPORT_HTML, facts)
        runlog.log_file(tracker, run_id, report)
        kept = home.settings.home / "reports" / scenario.name / f"{run_id}.html"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(report.read_text())
    reports.link("report", kept.as_uri(), f"report of {scenario.name}")
    if tracker.uri.startswith("http"):
        reports.link("mlflow run", run_url(tracker.uri, tracker, run_id), "run in MLflow")
    say(f"  {verdict.verdict}: {verdict.reason}")
    reports.text("gate", f"**{verdict.verdict}** {verdict.reason}")
    append(
        home.settings.audit_path,
        "gate",
        scenario=scenario.name,
        run_id=run_id,
        verdict=verdict.verdict,
        version=version.version,
    )
    return {
        "run_id": run_id,
        "chosen": chosen.name,
        "verdict": verdict.verdict,
        "action": verdict.action,
        "reason": verdict.reason,
        "version": version.version,
        "test": {name: (i.value, i.lo, i.hi) for name, i in test.items()},
        "candidates": {
            o.name: {name: (i.value, i.lo, i.hi) for name, i in o.figures.items()} for o in outcomes
        },
        "report": str(kept),
        "baseline": baseline and baseline.sentence,
        "beats_baseline": baseline and baseline.beaten,
        "is_baseline": bool(baseline and baseline.itself),
        "network_refused": bool(baseline and baseline.refused),
    }


def champion_scores(
    home: Home, ready: Ready, job: TrainingJob, tracker: tracking.Tracker
) -> tuple[Scored | None, Mapping[str, Interval] | None, str]:
    """Score the present champion on the same cases.

    Returns
    -------
    Scored or None
        None when there is no champion, or it cannot be scored.
    mapping or None
        Its figures.
    str
        Why a champion that is there could not be scored: then a person decides, since a model
        must not be replaced by one that was never compared with it.
    """
    present = get_alias(tracker, job.scenario, "champion")
    if present is None:
        return None, None, ""
    # Not among what sets it aside: a champion whose files are away must not be replaced unseen.
    folder = fetch(tracker, present, home.settings.home / "models")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            scores, _ = judge_side(home, ready, job.on("test"), folder, Path(scratch))
    except (ModelRefused, BadCase, ValueError) as error:
        return (
            None,
            None,
            f"Undecidable: the champion, version {present.version}, cannot be scored on this "
            f"edition ({type(error).__name__}: {error}); a person has to decide.",
        )
    threshold = read_spec(folder).thresholds.get(POSITIVE)
    config = ready.scenario.evaluate
    figures = metric_table(scores, threshold, replicates=config.bootstrap, seed=config.seed)
    return Scored(scores, str(ready.edition), threshold), figures, ""


def shared_cases(champion: Scored | None, challenger: Scored) -> tuple[Scored | None, Scored]:
    """Return both on the cases both could judge; a paired comparison needs the same ones."""
    if champion is None:
        return None, challenger
    first, second = champion.predictions, challenger.predictions
    common = set(first.case_ids) & set(second.case_ids)
    left_out = len(set(first.case_ids) ^ set(second.case_ids))
    if left_out:
        say(f"  {left_out} test cases could be judged by one of the two only and are left out")
    return tuple(
        replace(one, predictions=p.take([i for i, c in enumerate(p.case_ids) if c in common]))
        for one, p in ((champion, first), (challenger, second))
    )


def signature(spec: ModelSpec, job: TrainingJob) -> tuple[Any, Any]:
    """Return inputs and outputs for MLflow's pages."""
    prefix = "" if spec.task == "regression" else "p/"
    names = [(f"{prefix}{name}", "double") for name in spec.classes]
    if spec.task == "detection":
        box = {"dtype": "float64", "shape": [-1, 2, 3]}
        return {"dtype": "float32", "shape": [-1, 1, -1, -1, -1]}, box
    if spec.plan is None:
        words = {name for case in job.cases for name, v in case.facts.items() if isinstance(v, str)}
        return [(name, "string" if name in words else "double") for name in spec.features], names
    shape = [-1, 1, *spec.plan.patch]
    if spec.task == "segmentation":
        out = {"dtype": "float32", "shape": [-1, spec.plan.n_classes, -1, -1, -1]}
        return {"dtype": "float32", "shape": [-1, 1, -1, -1, -1]}, out
    return {"dtype": "float32", "shape": shape}, names
