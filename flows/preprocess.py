"""Catalog to Zarr: plan, do one part, finalise."""

from collections.abc import Mapping, Sequence
from typing import Any

from prefect import flow
from prefect.futures import as_completed

from flows import reports
from flows.cohorts import Ready, cases_named, settle
from flows.console import say
from flows.fitting import fitted_recipe
from flows.home import Home, held_lease, lease, store_lease
from flows.live import landed, telling, watching
from flows.orders import orders_of
from flows.pending import all_made, nothing_new, take_up
from flows.plans import LabelPart, kept_plan, plan_images, plan_labels
from flows.policy import task
from flows.runners import bounded_memory, crew, runner, workers
from flows.settings import load_settings
from tasks.archive.audit import append
from tasks.archive.commits import PartRow, commit_part, recipe_for
from tasks.archive.orders import WorkOrder, seal, unseal
from tasks.errors import RadloopError, StoreError
from tasks.imaging.recipe import FittedRecipe
from tasks.store.fill import write_image_part, write_label_part
from tasks.store.measured import measured_in
from tasks.store.outlook import describe, outlook, refuse_what_cannot_fit
from tasks.store.plan import WAVE, waves
from tasks.store.read import open_part
from tasks.store.write import PartRecord


def _image_part(token: bytes, recipe: dict[str, Any]) -> PartRecord:
    settings = load_settings()
    order = unseal(token, settings.order_key)
    fitted = FittedRecipe.from_dict(recipe)
    told = telling(order.part_id)
    with bounded_memory():
        return write_image_part(settings.store_root, order, fitted, told, scratch=settings.scratch)


def _label_part(
    token: bytes, recipe: dict[str, Any], image_path: str, label_set: str
) -> PartRecord:
    settings = load_settings()
    order = unseal(token, settings.order_key)
    fitted = FittedRecipe.from_dict(recipe)
    told = telling(order.part_id)
    with bounded_memory():
        return write_label_part(
            settings.store_root,
            order,
            fitted,
            image_path,
            label_set,
            told,
            scratch=settings.scratch,
        )


make_image_part = task(_image_part, name="image part", retries=1)
make_label_part = task(_label_part, name="label part", retries=1)


@flow(name="preprocess")
def preprocess(scenario: str, source: str | None = None, refit: bool = False) -> dict[str, Any]:
    """Bring every case of a scenario that is not yet processed into the store.

    Parameters
    ----------
    scenario : str
        Name of the scenario.
    source : str, optional
        Only this source's cases.
    refit : bool
        Fit the recipe on the training patients there are today.  The parts of the old fit stay
        beside the new ones until `radloop gc` finds that no run or model needs them.

    Returns
    -------
    dict
        ``cases``, ``parts`` and ``quarantined`` (by image or label) made by this run, and the
        ``recipe_id``.
    """
    home = Home(load_settings())
    ready = settle(home, home.scenario(scenario), source)
    if not refit and (made := all_made(home, ready)) is not None:
        return nothing_new(home, scenario, made)
    with lease(home, f"preprocess {scenario}", "preprocess"), workers(home.settings) as address:
        recipe_key, recipe = fitted_recipe(home, ready, address, refit=refit)
        # Two scenarios with one recipe may share parts: only one of them writes at a time.
        with lease(home, store_lease(recipe_key), "preprocess"):
            records, aside = _image_parts(home, ready, recipe_key, recipe, address)
            if ready.scenario.draws_labels:
                records += _label_parts(home, ready, source, recipe_key, address)
    images = [record for record in records if record.kind == "image"]
    refused = reasons_by_case(records)
    append(home.settings.audit_path, "preprocess", scenario=scenario, recipe_id=recipe_key)
    if records:
        reports.table("parts", [_row(record) for record in records], "parts committed by this run")
    if refused:
        rows = [{"case": case_id[:12], "reason": reason} for case_id, reason in refused.items()]
        reports.table("quarantine", rows)
    return {
        "cases": sum(len(record.case_ids) for record in images),
        "parts": sum(bool(record.case_ids) for record in records),
        "quarantined": len(refused) + aside,
        "recipe_id": recipe_key,
    }


def reasons_by_case(records: Sequence[PartRecord]) -> dict[str, str]:
    """Return case id -> reason of what the parts of images and of labels lack."""
    return {case_id: reason for record in records for case_id, reason, _ in record.failures}


def _image_parts(
    home: Home,
    ready: Ready,
    recipe_key: str,
    recipe: FittedRecipe,
    address: str,
) -> tuple[list[PartRecord], int]:
    """Make the image parts; return them and how many cases were set aside."""
    count, memory = crew(address)
    pending, aside = take_up(home, ready, recipe_key, recipe, memory)
    if not pending:
        say("  no new image to preprocess")
        return [], aside
    plan = plan_images(home, ready.scenario.name, recipe_key, recipe, pending)
    for line in describe(outlook(plan, count)):
        say(f"  {line}")
    settings = home.settings
    refuse_what_cannot_fit(plan, settings.store_free_bytes, settings.scratch_free_bytes)
    records: list[PartRecord] = []
    planned = {part.part_id: (len(part.case_ids), float(part.seconds)) for part in plan}
    with watching(address, "images", planned):
        for number, _ in enumerate(waves(plan)):
            records += image_wave.with_options(task_runner=runner(address))(
                ready.scenario.name, recipe_key, number
            )
    return records, aside


def _label_parts(
    home: Home, ready: Ready, source: str | None, recipe_key: str, address: str
) -> list[PartRecord]:
    plan = plan_labels(home, ready, recipe_key)
    wanted = [part.part_id for part in plan]
    records: list[PartRecord] = []
    planned = {part.part_id: (len(part.case_ids), float(len(part.case_ids))) for part in plan}
    with watching(address, "masks", planned):
        for at in range(0, len(wanted), WAVE):
            records += label_wave.with_options(task_runner=runner(address))(
                ready.scenario.name, recipe_key, wanted[at : at + WAVE], source
            )
    return records


@flow(name="image-wave", persist_result=False)
def image_wave(scenario: str, recipe_key: str, number: int) -> list[PartRecord]:
    """Make the image parts of one wave of the plan, at most 256, and commit each as it is done.

    The longest part is handed out first: the last one to end is then a short one.
    """
    home = Home(load_settings())
    _, body = recipe_for(home.catalog, scenario)
    futures = []
    wave = waves(kept_plan(home, scenario, recipe_key))[number]
    ids = [case_id for part in wave for case_id in part.case_ids]
    by_id = {case.case_id: case for case in cases_named(home, home.scenario(scenario), ids)}
    for part in sorted(wave, key=lambda part: (-part.seconds, part.part_id)):
        chosen = [by_id[case_id] for case_id in part.case_ids if case_id in by_id]
        order = WorkOrder(part.part_id, recipe_key, tuple(orders_of(home, chosen)))
        token = seal(order, home.settings.order_key)
        futures.append(make_image_part.submit(token, body["recipe"]))
    return _finalise(home, futures, recipe_key, {})


@flow(name="label-wave", persist_result=False)
def label_wave(
    scenario: str, recipe_key: str, wanted: list[str], source: str | None = None
) -> list[PartRecord]:
    """Make label parts, at most 256, and commit each as it is done."""
    home = Home(load_settings())
    ready = settle(home, home.scenario(scenario), source)
    by_id = {case.case_id: case for case in ready.cohort.cases}
    _, body = recipe_for(home.catalog, scenario)
    plan = {p.part_id: p for p in plan_labels(home, ready, recipe_key) if p.part_id in set(wanted)}
    futures = []
    for part in plan.values():
        chosen = [by_id[case_id] for case_id in part.case_ids]
        labels, cohort = ready.scenario.labels, ready.cohort
        told = (cohort.masks, labels.numbers, cohort.boxes, labels.classes, labels.named)
        files = tuple(orders_of(home, chosen, *told))
        token = seal(WorkOrder(part.part_id, recipe_key, files), home.settings.order_key)
        futures.append(
            make_label_part.submit(token, body["recipe"], part.image_path, part.label_set_id)
        )
    return _finalise(home, futures, recipe_key, plan)


def _finalise(
    home: Home,
    futures: Sequence[Any],
    recipe_key: str,
    labels: Mapping[str, LabelPart],
) -> list[PartRecord]:
    """Commit parts as they come; only the coordinator writes the catalog.

    A part whose task failed stays uncommitted and is named; the others land first.
    """
    records, lost = [], []
    for future in as_completed(futures):
        try:
            record = future.result()
            measured = _arrived(home, record)
        except Exception as error:
            # Our own errors name the remedy; others may quote anything.
            known = isinstance(error, RadloopError)
            lost.append(str(error) if known else type(error).__name__)
            continue
        label = labels.get(record.part_id)
        row = PartRow(
            part_id=record.part_id,
            kind=record.kind,
            recipe_id=recipe_key,
            label_set_id=label.label_set_id if label else None,
            image_part_id=label.image_part_id if label else None,
            path=record.path,
            case_ids=record.case_ids,
            bytes=record.bytes,
            digest=record.digest,
        )
        held = held_lease(store_lease(recipe_key))
        commit_part(home.catalog, row, record.failures, measured=measured, lease=held)
        records.append(record)
        landed(record)
    if lost:
        msg = (
            f"{len(lost)} of {len(futures)} parts were not made ({'; '.join(sorted(set(lost)))}); "
            f"the other {len(records)} are committed, run the same command again to go on"
        )
        raise RadloopError(msg)
    return records


def _arrived(home: Home, record: PartRecord) -> dict[str, dict[str, float | None]]:
    """Return what the features steps found in a new part, which has to be in our own store.

    Raises
    ------
    RadloopError
        When it is not: the catalog must not name what only another host can see.
    """
    try:
        part = open_part(home.settings.store_root, record.path, record.digest)
    except StoreError:
        msg = (
            "the coordinator does not see a part where its worker wrote it: give RADLOOP_STORE of "
            "every host the same folder or bucket"
        )
        raise RadloopError(msg) from None
    if record.kind != "image" or not record.case_ids:
        return {}
    return measured_in(part)


def _row(record: PartRecord) -> dict[str, Any]:
    return {
        "part": record.part_id[:12],
        "kind": record.kind,
        "cases": len(record.case_ids),
        "bytes": record.bytes,
        "failed": len(record.failures),
        "resumed": record.resumed,
        "seconds": round(record.seconds, 2),
        "core_seconds": round(record.core_seconds, 2),
        **{stage: round(seconds, 2) for stage, seconds in record.spent.items()},
    }
