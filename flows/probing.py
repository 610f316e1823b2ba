"""Asking a model that is to be registered more than its figures say: how it bears worse images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.cohorts import Ready
from flows.console import progress, say
from flows.home import Home
from flows.judging import predictions
from flows.orders import orders_of
from tasks.archive.orders import OrderCase
from tasks.errors import BadCase
from tasks.evaluate.config import STRESSED_IMAGES, STRESSED_MASKS, RobustnessConfig
from tasks.evaluate.robustness import Robustness, fitting, robustness
from tasks.evaluate.robustness_figure import draw_robustness
from tasks.evaluate.segmentation import mask_scores
from tasks.evaluate.stress import CORRUPTIONS, SEVERITIES, Corruption, kind_of
from tasks.imaging.recipe import FittedRecipe
from tasks.imaging.source import read_source
from tasks.learn.answer import POSITIVE
from tasks.learn.box_scores import finding_scores
from tasks.learn.boxes import rows_of
from tasks.learn.job import JobCase, TrainingJob
from tasks.learn.judge import needs_files
from tasks.learn.model import load_model
from tasks.learn.model_file import ModelSpec
from tasks.learn.stressed import judge_corrupted, sample_cases
from tasks.serve.probes import Probe


def stressed(home: Home, ready: Ready, job: TrainingJob, folder: Path, pictures: Path) -> Probe:
    """Corrupt the images of some test cases and measure what the model makes of them.

    Only images are corrupted: a model of a table's rows, or of headers, is not asked.
    """
    config = ready.scenario.evaluate
    model = load_model(folder, trusted=ready.scenario.networks)
    wanted = _wanted(config.robustness, job)
    if not wanted or not needs_files(model.spec):
        return Probe()
    sample = sample_cases(job.on("test"), wanted)
    reason = unasked(model.spec)
    if job.task == "detection" and not any(_counts(case) for case in sample):
        reason = "no test case of the sample has anything to find"
    if reason:
        say(f"  robustness not measured: {reason}")
        return Probe()
    kind, corruptions = wanted_corruptions(config.robustness, sample)
    orders = orders_of_cases(home, ready, sample)
    corruptions = fitting(corruptions, slices_of(model.spec.recipe, orders))
    if not corruptions:
        return Probe()
    images = len(sample) * (1 + len(corruptions) * len(SEVERITIES))
    say(
        f"  robustness: {len(sample)} test cases, {len(corruptions)} corruptions of kind {kind}, "
        f"{len(SEVERITIES)} severities: {images:,} images"
    )
    answers = {}
    with progress("corrupting", total=len(orders), unit="cases") as advance:
        judged = judge_corrupted(model, orders, corruptions, config, config.seed)
        for number, (case_id, found) in enumerate(judged, start=1):
            answers[case_id] = found
            advance(number, len(orders))
    truth = {case.case_id: case for case in sample}

    def collect(case_ids: Sequence[str], values: Sequence[Any]) -> Any:
        cases = [truth[case_id] for case_id in case_ids]
        if job.task == "segmentation":
            keys = [case.patient_key for case in cases]
            return mask_scores(list(case_ids), keys, job.measured, values)
        if job.task == "detection":
            keys, boxes = [case.patient_key for case in cases], {c.case_id: c.boxes for c in cases}
            iou = config.findings.settled(job.of_pictures).iou
            return finding_scores(case_ids, keys, job.classes, values, boxes, iou)
        return predictions(model.spec, cases, values)

    try:
        measured = robustness(
            answers,
            collect,
            corruptions,
            kind=kind,
            primary=config.primary,
            threshold=model.spec.thresholds.get(POSITIVE),
            replicates=config.bootstrap,
            seed=config.seed,
        )
    except ValueError as error:
        say(f"  robustness not measured: {error}")
        return Probe()
    say(f"  {measured.sentence()}")
    return shown(measured, pictures, model.spec.candidate)


def _wanted(config: RobustnessConfig, job: TrainingJob) -> int:
    """Return how many cases are asked about: fewer where each is many answers."""
    if config.cases is not None:
        return config.cases
    volumes = job.task == "segmentation" or (job.task == "detection" and not job.of_pictures)
    return STRESSED_MASKS if volumes else STRESSED_IMAGES


def _counts(case: JobCase) -> bool:
    """Say whether something is there that must be found."""
    return bool((rows_of(case.boxes)[:, 13] == 0).any())


def unasked(spec: ModelSpec) -> str:
    """Say why a model cannot be asked yet, or nothing."""
    if spec.kind == "fusion":
        return "the chosen model is a fusion, whose members are probed when they are chosen alone"
    return ""


def shown(found: Robustness, pictures: Path, candidate: str) -> Probe:
    """Return the picture and the tables of a robustness curve."""
    pictures.mkdir(parents=True, exist_ok=True)
    path = draw_robustness(
        pictures / "test-robustness.png", found, title=f"{candidate}, corrupted test images"
    )
    refused = sum(found.refused.values())
    left = f" {refused} pictures were refused by the recipe." if refused else ""
    caption = (
        f"{found.sentence()}{left} Kind of image: {found.kind}. Corruptions are done to the source "
        "before the recipe; 95 % limits over patients."
    )
    figure = {"path": str(path), "title": "Robustness, test", "caption": caption}
    lost = [
        {"corruption": name, "share of the skill lost": interval}
        for name, interval in {**found.lost, "all, balanced": found.balanced}.items()
    ]
    return Probe((figure,), {"robustness": found.to_rows()}, {"Robustness": tuple(lost)})


def wanted_corruptions(
    config: RobustnessConfig, cases: Sequence[JobCase]
) -> tuple[str, tuple[Corruption, ...]]:
    """Return the kind of image and its corruptions, as far as the scenario asks for them."""
    kind = config.kind or kind_of([case.facts.get("modality") for case in cases])
    chosen = config.corruptions
    return kind, tuple(one for one in CORRUPTIONS[kind] if not chosen or one.name in chosen)


def orders_of_cases(home: Home, ready: Ready, cases: Sequence[JobCase]) -> list[OrderCase]:
    """Return where the files of some cases of the job are."""
    by_id = {case.case_id: case for case in ready.cohort.cases}
    found = [by_id[case.case_id] for case in cases]
    masks, labels = dict(ready.cohort.masks), ready.scenario.labels
    return list(orders_of(home, found, masks, labels.numbers, named=labels.named))


def slices_of(recipe: Any, orders: Sequence[OrderCase]) -> int:
    """Return the slices of the first image that can be read; 1 when none can."""
    for order in orders:
        try:
            return len(read_source(FittedRecipe.from_dict(recipe), order).array)
        except BadCase:
            continue
    return 1
