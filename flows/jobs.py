"""What a training depends on, gathered from catalog, store and scenario."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from flows.cohorts import Ready
from flows.fitting import current_recipe
from flows.home import Home
from flows.starting import candidate_body
from flows.studies import first_of_study
from tasks.archive.commits import PartRow, features, part_of_case, parts
from tasks.errors import ScenarioError
from tasks.evaluate.config import EvaluateConfig, MaskConfig
from tasks.evaluate.leakage import check_disjoint
from tasks.hashing import digest_json
from tasks.imaging.recipe import FittedRecipe
from tasks.learn.dataset import OPEN_PARTS
from tasks.learn.detector_plan import box_sizes
from tasks.learn.job import JobCase, TrainingJob, typical_image
from tasks.store.read import open_part
from tasks.store.schema import recipe_id


def check_sides(job: TrainingJob) -> None:
    """Refuse a job in which a patient stands on two sides, or in two folds.

    It looks at the very cases that will be trained on and scored, not at the assignments, which
    hold one side a patient by their form.
    """
    cases: dict[str, list[str]] = {}
    for case in job.cases:
        cases.setdefault(case.patient_key, []).append(case.case_id)
    check_disjoint(
        {side: {case.patient_key for case in job.on(side)} for side in ("train", "test")}, cases
    )
    folds: dict[str, set[str]] = {}
    for case in job.on("train"):
        folds.setdefault(f"fold {case.fold}", set()).add(case.patient_key)
    check_disjoint(folds, cases)


def places_of(job: TrainingJob) -> dict[str, str]:
    """Return where each case stands: ``test``, or its fold."""
    return {c.case_id: "test" if c.side == "test" else f"fold {c.fold}" for c in job.cases}


def write_job(home: Home, ready: Ready) -> TrainingJob:
    """Gather everything the training depends on.

    Raises
    ------
    ScenarioError
        When cases are not in the store yet, or a side is empty.
    """
    scenario = ready.scenario
    cases = job_cases(home, ready)
    for side in ("train", "test"):
        if not any(case.side == side for case in cases):
            msg = f"scenario {scenario.name} has no case on the {side} side; see `radloop check`"
            raise ScenarioError(msg)
    images = scenario.cohort.kind != "row"
    recipe = current_recipe(home, scenario.name)[1] if images else None
    shape, spacing, sizes = (1, 1, 1), (1.0, 1.0, 1.0), ()
    if images:
        training = [case for case in cases if case.side == "train"]
        shape, spacing = typical_image(home.settings.store_root, training)
        if scenario.task == "detection":
            sizes = box_sizes(home.settings.store_root, training)
    return TrainingJob(
        scenario=scenario.name,
        task=scenario.task,
        classes=scenario.labels.answers,
        positive=scenario.labels.positive,
        primary=scenario.evaluate.primary,
        candidates=tuple(candidate_body(home, c) for c in scenario.candidates),
        cases=tuple(cases),
        shape=shape,
        spacing=spacing,
        recipe=recipe,
        leave_out=leave_out(scenario),
        seed=scenario.seed,
        masks=mask_config(scenario.evaluate) if scenario.task == "segmentation" else None,
        box_sizes=sizes,
        regions=scenario.labels.parts,
        views=scenario.evaluate.join,
        unit=scenario.labels.unit or "",
    )


def mask_config(config: EvaluateConfig) -> dict[str, Any]:
    """Return what a scenario says of measuring masks."""
    return config.model_dump(mode="json", include=set(MaskConfig.model_fields))


def job_cases(home: Home, ready: Ready) -> list[JobCase]:
    """Return the training and test cases with their prepared images."""
    images: Mapping[str, PartRow] = {}
    labels: dict[str, PartRow] = {}
    measured: Mapping[str, Mapping[str, float | None]] = {}
    if ready.scenario.cohort.kind != "row":
        key, _ = current_recipe(home, ready.scenario.name)
        ids = [case.case_id for case in ready.cohort.cases]
        rows = {row.part_id: row for row in parts(home.catalog, recipe_id=key)}
        images = {c: rows[p] for c, p in part_of_case(home.catalog, key, ids).items()}
        if any(candidate.kind == "tabular" for candidate in ready.scenario.candidates):
            measured = features(home.catalog, key, ids)
        if ready.scenario.draws_labels:
            for label_set in ready.label_sets.values():
                found = part_of_case(home.catalog, key, ids, label_set)
                labels |= {c: rows[p] for c, p in found.items()}
    target_of = _target_of(ready)
    finds = ready.scenario.task == "detection"
    opened = lru_cache(OPEN_PARTS)(partial(open_part, home.settings.store_root))
    firsts = first_of_study(ready.cohort.cases) if ready.scenario.evaluate.join else {}
    cases = []
    for case in ready.cohort.cases:
        side = ready.sides[case.patient_key]
        current = side.side == "train" or (side.side == "test" and side.edition == ready.edition)
        stored = ready.scenario.cohort.kind == "row" or case.case_id in images
        if ready.scenario.draws_labels:
            # A mask that could not be read is in quarantine; its image teaches nothing.
            stored = stored and case.case_id in labels
        if not current or not stored:
            continue
        image, label = images.get(case.case_id), labels.get(case.case_id)
        cases.append(
            JobCase(
                case_id=case.case_id,
                patient_key=case.patient_key,
                side=side.side,
                fold=side.fold,
                target=target_of(case.case_id),
                part_path=image and image.path,
                part_digest=image and image.digest,
                label_part_path=label and label.path,
                label_part_digest=label and label.digest,
                facts=dict(case.facts),
                features=measured.get(case.case_id, {}),
                boxes=opened(label.path, label.digest).boxes(case.case_id) if finds else (),
                study=firsts.get(case.case_id),
            )
        )
    return cases


def _target_of(ready: Ready) -> Callable[[str], float | None]:
    """Return how a case's label becomes what a model learns: a class number, or the number."""
    targets, classes = ready.cohort.targets, list(ready.scenario.labels.classes)
    if ready.scenario.task == "regression":
        return lambda case_id: float(targets[case_id])
    if ready.scenario.task != "classification":
        return lambda case_id: None
    numbers = {name: number for number, name in enumerate(classes)}
    return lambda case_id: numbers.get(targets.get(case_id))


def leave_out(scenario: Any) -> tuple[str, ...]:
    """Return the columns of a table that say the answer: the label's and the split's."""
    names = (scenario.labels.column, scenario.split.column)
    return tuple(name for name in names if name)


def recipe_hash(job: TrainingJob) -> str:
    """Return the id of the fitted recipe, as the catalog knows it, or of the table's columns."""
    if job.recipe:
        return recipe_id(FittedRecipe.from_dict(job.recipe))
    return digest_json(["columns", job.leave_out])
