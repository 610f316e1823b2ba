"""The gate: may the challenger take the champion's place?

Non-inferiority on the same patients of the same test edition. The difference is challenger minus
champion, positive when the challenger is better, and its interval decides:

* promote: the lower bound lies above -margin (worse by the margin or more is ruled out);
* refuse: the upper bound lies below -margin, or below 0 with the lower one beyond the margin;
* undecidable: the test side is too small to say; the verdict tells how many patients it takes.

Without a champion the challenger alone is held against a floor that stands for no skill.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from tasks.errors import EditionMismatch
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.known import METRICS
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.noninferior import NonInferiority, noninferiority
from tasks.evaluate.predictions import align
from tasks.evaluate.table import metric_table
from tasks.serve.floor import floor_of
from tasks.serve.verdict import Check, GateConfig, Scored, Verdict, action


def decide(
    champion: Scored | None,
    challenger: Scored,
    config: GateConfig,
    *,
    primary: str | None = None,
    facts: Mapping[str, Sequence[Any]] | None = None,
) -> Verdict:
    """Compare the challenger with the champion, or with the floor when there is none.

    Parameters
    ----------
    champion, challenger : Scored
        The same cases of the same test edition.
    config : GateConfig
    primary : str, optional
        Metric used when the config names none; else "auroc", "dice", "cpm" or "mae".
    facts : mapping fact name -> values, optional
        For subgroup rules: one value a case, in the order of the challenger's cases.

    Raises
    ------
    EditionMismatch
        When editions, cases or labels differ.
    """
    metric = config.primary or primary or _usual(challenger.predictions)
    if champion is None:
        return _against_floor(challenger, config, metric)
    if champion.edition != challenger.edition:
        raise EditionMismatch(
            f"the champion was scored on test edition {champion.edition} and the challenger on "
            f"{challenger.edition}; score both on one edition"
        )
    try:
        align(challenger.predictions, champion.predictions)
    except ValueError as error:
        raise EditionMismatch(f"both say edition {champion.edition}, but {error}") from error
    found = _compare(challenger, champion, metric, config.margin, config)
    checks = (
        *_guard_checks(challenger, champion, config),
        *_subgroup_checks(challenger, champion, metric, config, facts or {}),
    )
    return _judge(found, checks, config, metric, challenger.edition)


def _usual(scores) -> str:
    if isinstance(scores, Estimates):
        return "mae"
    if isinstance(scores, FindingScores):
        return "cpm"
    return "dice" if isinstance(scores, MaskScores) else "auroc"


def _compare(challenger, champion, metric, margin, config, chosen=None) -> NonInferiority:
    ours, theirs = align(challenger.predictions, champion.predictions)
    if chosen is not None:
        kept = np.array([case_id in chosen for case_id in ours.case_ids])
        ours, theirs = ours.take(kept), theirs.take(kept)
    return noninferiority(
        ours,
        theirs,
        metric,
        margin,
        thresholds=(challenger.threshold, champion.threshold),
        replicates=config.bootstrap,
        seed=config.seed,
        level=config.confidence,
    )


def _guard_checks(challenger, champion, config) -> list[Check]:
    checks = []
    for guard in config.guards:
        found = _compare(challenger, champion, guard.metric, guard.margin or 1e-9, config)
        checks.append(_check(guard.metric, found, -guard.margin))
    return checks


def _subgroup_checks(challenger, champion, metric, config, facts) -> list[Check]:
    checks = []
    for rule in config.subgroups:
        if rule.fact not in facts:
            raise ValueError(
                f"the gate has a rule for subgroups of {rule.fact!r}, but only "
                f"{sorted(facts)} are known of the cases; give that fact or drop the rule"
            )
        values, limit = facts[rule.fact], rule.margin_factor * config.margin
        pred = challenger.predictions
        if len(values) != len(pred):
            raise ValueError(f"{len(values)} values of {rule.fact!r} for {len(pred)} cases")
        for value in sorted({str(v) for v in values if v is not None and v != ""}):
            member = np.array([str(v) == value for v in values])
            group = pred.take(member)
            if group.n_patients < rule.min_patients or not _measurable(group, metric):
                continue
            found = _compare(
                challenger, champion, metric, limit, config, chosen=set(group.case_ids)
            )
            checks.append(_check(f"{metric} for {rule.fact} {value}", found, -limit))
    return checks


def _measurable(group, metric: str) -> bool:
    """Return whether a subgroup holds every class; an AUROC or a recall needs them."""
    if isinstance(group, FindingScores):
        return any((~one.irrelevant).any() for one in group.cases)
    if isinstance(group, Estimates):
        return len(np.unique(group.target)) > 1
    return isinstance(group, MaskScores) or len(set(group.target.tolist())) == len(group.classes)


def _check(name: str, found: NonInferiority, limit: float) -> Check:
    # Clearly worse than the champion and by more than the limit: neither noise nor a trifle.
    failed = found.hi < 0 and found.estimate < limit
    return Check(name, found.n_patients, found.estimate, found.lo, found.hi, limit, bool(failed))


def _judge(found: NonInferiority, checks, config: GateConfig, metric: str, edition) -> Verdict:
    verdict, reason = _primary_verdict(found, config, metric)
    failed = [check for check in checks if check.failed]
    if failed:
        worst = failed[0]
        verdict = "refuse"
        reason = (
            f"Refused: {worst.name} is clearly worse, by {-worst.estimate:.4f} where "
            f"{-worst.limit:.4f} is allowed ({worst.n_patients} patients, {config.confidence:.0%} "
            f"interval {worst.lo:+.4f} to {worst.hi:+.4f})."
        )
    needed = None
    if verdict == "undecidable":
        needed = _needed(found, config)
        reason += _need_in_words(needed, found, config)
    return Verdict(
        verdict,
        action(verdict, config),
        reason,
        metric,
        found.estimate,
        found.lo,
        found.hi,
        config.margin,
        found.n_patients,
        needed,
        found.power,
        found.test,
        edition,
        "champion",
        tuple(checks),
    )


def _primary_verdict(found: NonInferiority, config: GateConfig, metric: str) -> tuple[str, str]:
    margin = config.margin
    words = (
        f"challenger minus champion in {_meaning(metric)} is {found.estimate:+.4f} "
        f"({config.confidence:.0%} interval {found.lo:+.4f} to {found.hi:+.4f}, {found.test}, "
        f"{found.n_patients} patients)"
    )
    if found.n_patients < config.min_patients or not isfinite(found.lo):
        return "undecidable", f"Undecidable: {words}; too few patients to measure an error."
    if found.lo > -margin:
        if found.lo > 0:
            return "promote", f"Promoted: the challenger is better: {words}."
        note = " It is worse, but by less than the margin." if found.hi < 0 else ""
        return "promote", f"Promoted: worse by {margin:g} or more is ruled out: {words}.{note}"
    if found.hi < -margin:
        return "refuse", f"Refused: the challenger is worse by more than {margin:g}: {words}."
    if found.hi < 0:
        return "refuse", (
            f"Refused: the challenger is clearly worse, and worse by {margin:g} or more is not "
            f"ruled out: {words}."
        )
    return "undecidable", f"Undecidable: neither is shown at a margin of {margin:g}: {words}."


def _needed(found: NonInferiority, config: GateConfig) -> int | None:
    if found.n_patients < config.min_patients:
        return max(config.min_patients, found.patients_if_equal or 0)
    # An equal challenger would have passed by now: plan with the difference seen instead.
    if found.patients_if_equal is not None and found.patients_if_equal > found.n_patients:
        return found.patients_if_equal
    return found.patients_as_seen


def _need_in_words(needed: int | None, found: NonInferiority, config: GateConfig) -> str:
    policy = {"refuse": "keeps the champion", "promote": "promotes", "ask": "asks a person"}
    if needed is None:
        need = " No number of patients can be named: the difference lies on the limit"
    elif needed == found.patients_as_seen and needed != found.patients_if_equal:
        need = f" It would take about {needed} patients if the difference stays as it is"
    else:
        need = f" It would take about {needed} patients to pass an equally good challenger (4 in 5)"
    return f"{need}; the policy {policy[config.undecidable]}."


def _against_floor(challenger: Scored, config: GateConfig, metric: str) -> Verdict:
    pred = challenger.predictions
    floor = floor_of(pred, metric) if config.floor is None else config.floor
    table = metric_table(
        pred,
        challenger.threshold,
        replicates=config.bootstrap,
        seed=config.seed,
        level=config.confidence,
    )
    if metric not in table:
        raise ValueError(f"{metric!r} is not measured here; choose one of {sorted(table)}")
    found = table[metric]
    sign = 1 if METRICS[metric.partition("/")[0]].direction == "higher" else -1
    worst, best = sorted((sign * (found.lo - floor), sign * (found.hi - floor)))
    words = (
        f"{metric} is {found.value:.4f} ({config.confidence:.0%} interval "
        f"{found.lo:.4f} to {found.hi:.4f}, {found.method}, {found.n_patients} patients)"
    )
    needed = None
    if found.n_patients < config.min_patients or not isfinite(worst):
        verdict = "undecidable"
        needed = config.min_patients
        reason = f"Undecidable: there is no champion, and {words}; too few patients to judge."
    elif worst > 0:
        verdict = "promote"
        reason = f"Promoted: there is no champion, and {words}, clearly beyond {floor:g}."
    elif isinstance(pred, FindingScores) and found.value <= floor:
        # Its upper limit stands for what few patients could not show, not for any skill.
        verdict, reason = "refuse", f"Refused: {words}: it finds nothing beyond {floor:g}."
    elif best < 0:
        verdict, reason = "refuse", f"Refused: {words}, clearly short of the floor {floor:g}."
    else:
        verdict = "undecidable"
        gap = sign * (found.value - floor)
        reach = gap - worst if gap > 0 else best - gap
        needed = int(np.ceil((reach / gap) ** 2 * found.n_patients)) if gap else None
        reason = f"Undecidable: there is no champion, and {words}, not clear of {floor:g}."
    return Verdict(
        verdict,
        action(verdict, config),
        reason,
        metric,
        found.value,
        found.lo,
        found.hi,
        config.margin,
        found.n_patients,
        needed,
        float("nan"),
        found.method,
        challenger.edition,
        f"floor {floor:g}",
    )


def _meaning(metric: str) -> str:
    lower = METRICS[metric.partition("/")[0]].direction == "lower"
    return f"{metric} (turned so that higher is better)" if lower else metric
