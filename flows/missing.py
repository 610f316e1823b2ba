"""What a model of several series loses when one of them is missing: the same cases, without it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flows.cohorts import Ready
from flows.console import progress, say
from flows.home import Home
from flows.judging import predictions, raw_answer
from flows.probing import orders_of_cases
from tasks.archive.orders import OrderCase
from tasks.cohort.channels import ChannelSet
from tasks.errors import BadCase
from tasks.evaluate.compare import paired_primary
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.intervals import Interval
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.segmentation import mask_figures, mask_scores
from tasks.evaluate.table import metric_table
from tasks.imaging.recipe import FittedRecipe
from tasks.imaging.source import read_source
from tasks.labels.case_mask import case_mask
from tasks.labels.regions import values_of
from tasks.learn.answer import POSITIVE
from tasks.learn.dataset import spacing_of
from tasks.learn.job import JobCase, TrainingJob
from tasks.learn.judge import judge_files
from tasks.learn.judgement import Judgement
from tasks.learn.model import Model, load_model
from tasks.learn.stressed import sample_cases
from tasks.learn.zoo import OF_WHOLE_IMAGES
from tasks.serve.probes import Probe

MOST_CASES = 24
"""Test cases that are judged again without each sequence; all at most twice the test side's work
of three optional ones."""

FEWEST = 2
"""Patients below whom a difference has no interval."""


def without_sequences(home: Home, ready: Ready, job: TrainingJob, folder: Path) -> Probe:
    """Judge test cases that have every sequence again without each that may be missing.

    Nothing where no sequence may be missing, or robustness is turned off.
    """
    config = ready.scenario.evaluate
    chosen = (job.recipe or {}).get("channels")
    optional = ChannelSet.from_dict(chosen).optional if chosen else ()
    if not optional or config.robustness.cases == 0:
        return Probe()
    model = load_model(folder, trusted=ready.scenario.networks)
    if model.spec.kind == "fusion":
        return Probe()
    if model.spec.task == "detection":
        say("  missing sequences not measured: for a detection it is not done yet")
        return Probe()
    sample = sample_cases(job.on("test"), config.robustness.cases or MOST_CASES)
    orders = [
        order
        for order in orders_of_cases(home, ready, sample)
        if {one.channel for one in order.series} >= set(optional)
    ]
    if len(orders) < FEWEST:
        names = ", ".join(optional)
        say(f"  missing sequences not measured: {len(orders)} test cases have {names}")
        return Probe()
    ways = [(), *((name,) for name in optional), *([optional] if len(optional) > 1 else [])]
    truth = {case.case_id: case for case in sample}
    scores = {}
    with progress("without sequences", total=len(ways), unit="ways") as advance:
        for number, way in enumerate(ways, start=1):
            scores[way] = _scores(model, ready, truth, [_without(one, way) for one in orders])
            advance(number, len(ways))
    scores = _of_all(scores)
    if any(found.n_patients < FEWEST for found in scores.values()):
        say("  missing sequences not measured: too few cases could be judged in every way")
        return Probe()
    rows = _rows(scores, config.primary, model.spec.thresholds.get(POSITIVE), config)
    for row in rows[1:]:
        say(f"  without {row['without']}: {config.primary} {row[config.primary].value:.3f}")
    table = [
        {"without": row["without"], "figure": name, **row[name].to_dict()}
        for row in rows
        for name in row
        if isinstance(row[name], Interval)
    ]
    return Probe((), {"missing_sequences": table}, {"Missing sequences": tuple(rows)})


def _without(order: OrderCase, names: Sequence[str]) -> OrderCase:
    return replace(order, series=tuple(one for one in order.series if one.channel not in names))


def _scores(
    model: Model, ready: Ready, truth: dict[str, JobCase], orders: Sequence[OrderCase]
) -> Predictions | MaskScores | Estimates:
    judged = [(truth[order.case_id], order, one) for order, one in _judged(model, orders)]
    cases = [case for case, *_ in judged]
    if model.spec.task in OF_WHOLE_IMAGES:
        return predictions(model.spec, cases, [raw_answer(one) for *_, one in judged])
    labels, recipe = ready.scenario.labels, FittedRecipe.from_dict(model.spec.recipe)
    how = len(labels.classes), ready.scenario.evaluate, values_of(labels.parts)
    rows = [
        mask_figures(
            case_mask(order, read_source(recipe, order)), one.mask, spacing_of(one.affine), *how
        )
        for _, order, one in judged
    ]
    ids, patients = [c.case_id for c in cases], [c.patient_key for c in cases]
    return mask_scores(ids, patients, labels.measured, rows)


def _judged(model: Model, orders: Sequence[OrderCase]) -> Iterator[tuple[OrderCase, Judgement]]:
    for order, one in judge_files(model, orders):
        if not isinstance(one, BadCase):
            yield order, one


def _rows(scores, primary: str, threshold: float | None, config) -> list[dict]:
    """Return a row a way: the primary figure, and its difference from that with every sequence."""
    complete = scores[()]
    rows = []
    for way, found in scores.items():
        table = metric_table(found, threshold, replicates=config.bootstrap, seed=config.seed)
        row = {"without": " and ".join(way) or "nothing", primary: table[primary]}
        if way:
            told = paired_primary(found, complete, (threshold, threshold), config)
            change = Interval(told.value, told.lo, told.hi, told.test, told.n_patients)
        else:
            change = ""
        rows.append(row | {"difference (positive: better)": change})
    return rows


def _of_all(scores):
    """Return the scores of the cases that could be judged in every way."""
    shared = set.intersection(*(set(found.case_ids) for found in scores.values()))
    return {
        way: found.take([i for i, case_id in enumerate(found.case_ids) if case_id in shared])
        for way, found in scores.items()
    }
