"""Catalog to Zarr: plan, do one part, finalise."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.futures import as_completed

from flows import reports
from flows.cohorts import Ready, need_of, settle
from flows.console import progress, say
from flows.home import Home, held_lease, lease
from flows.orders import orders_of
from flows.policy import PART_TAG, task
from flows.runners import least_memory, runner, workers
from flows.settings import load_settings
from tasks.archive.audit import append
from tasks.archive.catalog import Case
from tasks.archive.commits import (
    PartRow,
    commit_part,
    parts,
    pending_cases,
    put_recipe,
    recipe_for,
    want_cases,
)
from tasks.archive.orders import WorkOrder, seal, unseal
from tasks.cohort.fingerprint import merge
from tasks.errors import RadloopError
from tasks.hashing import digest_json
from tasks.imaging.recipe import FittedRecipe, fit, needs_fit
from tasks.store.fill import fingerprint_order, write_image_part, write_label_part
from tasks.store.plan import PartPlan, describe, plan_parts, waves
from tasks.store.schema import part_id, recipe_id
from tasks.store.write import PartRecord

FINGERPRINT_CASES = 200
"""Training cases measured for a fit; medians of more hardly move."""

FINGERPRINT_BATCH = 16


def _image_part(token: bytes, recipe: dict[str, Any]) -> PartRecord:
    settings = load_settings()
    order = unseal(token, settings.order_key)
    return write_image_part(settings.store_root, order, FittedRecipe.from_dict(recipe))


def _label_part(
    token: bytes, recipe: dict[str, Any], image_path: str, label_set: str
) -> PartRecord:
    settings = load_settings()
    order = unseal(token, settings.order_key)
    return write_label_part(
        settings.store_root, order, FittedRecipe.from_dict(recipe), image_path, label_set
    )


def _fingerprints(token: bytes) -> list[Any]:
    return fingerprint_order(unseal(token, load_settings().order_key))


make_image_part = task(_image_part, name="image part", tags=[PART_TAG], retries=1)
make_label_part = task(_label_part, name="label part", tags=[PART_TAG], retries=1)
measure_cases = task(_fingerprints, name="fingerprint", retries=1)


@flow(name="preprocess")
def preprocess(scenario: str, source: str | None = None) -> dict[str, Any]:
    """Bring every case of a scenario that is not yet processed into the store.

    Parameters
    ----------
    scenario : str
        Name of the scenario.
    source : str, optional
        Only this source's cases.

    Returns
    -------
    dict
        ``cases``, ``parts`` and ``quarantined`` made by this run, and the ``recipe_id``.
    """
    home = Home(load_settings())
    ready = settle(home, home.scenario(scenario), source)
    if ready.scenario.cohort.kind == "row":
        return {"cases": 0, "parts": 0, "quarantined": 0, "recipe_id": ""}
    with lease(home, f"store {scenario}", "preprocess"), workers(home.settings) as address:
        recipe_key, recipe = fitted_recipe(home, ready, address)
        records = _image_parts(home, ready, source, recipe_key, recipe, address)
        if ready.scenario.task == "segmentation":
            records += _label_parts(home, ready, source, recipe_key, address)
    images = [record for record in records if record.kind == "image"]
    failures = [failure for record in images for failure in record.failures]
    append(home.settings.audit_path, "preprocess", scenario=scenario, recipe_id=recipe_key)
    if records:
        reports.table("parts", [_row(record) for record in records], "parts committed by this run")
    if failures:
        reports.table("quarantine", [{"case": c[:12], "reason": r} for c, r, _ in failures])
    return {
        "cases": sum(len(record.case_ids) for record in images),
        "parts": len(records),
        "quarantined": len(failures),
        "recipe_id": recipe_key,
    }


def fitted_recipe(home: Home, ready: Ready, address: str) -> tuple[str, FittedRecipe]:
    """Return the scenario's frozen recipe, fitting it on training patients the first time.

    A recipe whose steps changed in the scenario is a new one; one whose steps stand is never
    refitted by itself, since parts and models rest on the fit.
    """
    steps = ready.scenario.recipe
    # With the defaults filled in: a default that is spelt out asks for nothing new.
    asked = digest_json([[s.step, s.parameters().model_dump(mode="json")] for s in steps])
    kept = recipe_for(home.catalog, ready.scenario.name)
    if kept and kept[1]["asked"] == asked:
        return kept[0], FittedRecipe.from_dict(kept[1]["recipe"])
    fingerprint = None
    if needs_fit(steps):
        cases = ready.cases_on("train")[:FINGERPRINT_CASES]
        fingerprint = merge(_measure(home, ready, cases, address))
        say(f"  recipe fitted on {fingerprint.n_cases} training cases")
    recipe = fit(steps, fingerprint)
    key = recipe_id(recipe)
    if kept and kept[0] == key:
        return key, recipe
    body = {"asked": asked, "recipe": recipe.to_dict()}
    put_recipe(home.catalog, key, ready.scenario.name, body, recipe.fitted_on)
    return key, recipe


def current_recipe(home: Home, scenario: str) -> tuple[str, dict[str, Any]]:
    """Return the id and body of the recipe a scenario's parts were made with.

    Raises
    ------
    RadloopError
        When nothing was preprocessed yet.
    """
    kept = recipe_for(home.catalog, scenario)
    if kept is None:
        msg = f"nothing of scenario {scenario} is in the store; run `radloop preprocess {scenario}`"
        raise RadloopError(msg)
    return kept[0], kept[1]["recipe"]


def _measure(home: Home, ready: Ready, cases: Sequence[Case], address: str) -> list[Any]:
    key = home.settings.order_key
    tokens = [
        seal(_order(home, ready, "fingerprint", "", cases[at : at + FINGERPRINT_BATCH]), key)
        for at in range(0, len(cases), FINGERPRINT_BATCH)
    ]
    return [
        found
        for batch in measure_wave.with_options(task_runner=runner(address))(tokens)
        for found in batch
    ]


@flow(name="fingerprint-wave", validate_parameters=False, persist_result=False)
def measure_wave(tokens: list[bytes]) -> list[Any]:
    """Measure training cases, a sealed order a task."""
    return [future.result() for future in [measure_cases.submit(token) for token in tokens]]


def _image_parts(
    home: Home,
    ready: Ready,
    source: str | None,
    recipe_key: str,
    recipe: FittedRecipe,
    address: str,
) -> list[PartRecord]:
    by_id = {case.case_id: case for case in ready.cohort.cases}
    want_cases(home.catalog, recipe_key, list(by_id))
    pending = [by_id[c] for c in pending_cases(home.catalog, recipe_key) if c in by_id]
    if not pending:
        say("  nothing new to preprocess")
        return []
    plan = _plan(home, ready.scenario.name, recipe_key, recipe, pending)
    for line in describe(plan, memory_limit=least_memory(address)):
        say(f"  {line}")
    records: list[PartRecord] = []
    for number, _ in enumerate(waves(plan)):
        records += image_wave.with_options(task_runner=runner(address))(
            ready.scenario.name, recipe_key, number, source
        )
    return records


def _label_parts(
    home: Home, ready: Ready, source: str | None, recipe_key: str, address: str
) -> list[PartRecord]:
    done = {
        row.image_part_id
        for row in parts(
            home.catalog, recipe_id=recipe_key, kind="label", label_set_id=ready.label_set
        )
    }
    wanted = [
        row.part_id
        for row in parts(home.catalog, recipe_id=recipe_key, kind="image")
        if row.part_id not in done and set(row.case_ids) & ready.cohort.masks.keys()
    ]
    if not wanted:
        return []
    return label_wave.with_options(task_runner=runner(address))(
        ready.scenario.name, recipe_key, wanted, source
    )


@flow(name="image-wave", persist_result=False)
def image_wave(
    scenario: str, recipe_key: str, number: int, source: str | None = None
) -> list[PartRecord]:
    """Make the image parts of one wave of the plan, at most 256, and commit each as it is done."""
    home = Home(load_settings())
    ready = settle(home, home.scenario(scenario), source)
    by_id = {case.case_id: case for case in ready.cohort.cases}
    _, body = recipe_for(home.catalog, scenario)
    futures = []
    for part in waves(_kept_plan(home, scenario, recipe_key))[number]:
        cases = [by_id[case_id] for case_id in part.case_ids]
        order = _order(home, ready, part.part_id, recipe_key, cases)
        token = seal(order, home.settings.order_key)
        futures.append(make_image_part.submit(token, body["recipe"]))
    return _finalise(home, futures, scenario, recipe_key, None, {})


@flow(name="label-wave", persist_result=False)
def label_wave(
    scenario: str, recipe_key: str, image_parts: list[str], source: str | None = None
) -> list[PartRecord]:
    """Make the label parts that belong to image parts, and commit each as it is done."""
    home = Home(load_settings())
    ready = settle(home, home.scenario(scenario), source)
    by_id = {case.case_id: case for case in ready.cohort.cases}
    _, body = recipe_for(home.catalog, scenario)
    rows = {r.part_id: r for r in parts(home.catalog, recipe_id=recipe_key, kind="image")}
    futures, images = [], {}
    for image_id in image_parts:
        row = rows[image_id]
        labelled = tuple(c for c in row.case_ids if c in ready.cohort.masks and c in by_id)
        key = part_id(labelled, recipe_key, "label", ready.label_set)
        images[key] = image_id
        order = _order(home, ready, key, recipe_key, [by_id[c] for c in labelled])
        token = seal(order, home.settings.order_key)
        futures.append(make_label_part.submit(token, body["recipe"], row.path, ready.label_set))
    return _finalise(home, futures, scenario, recipe_key, ready.label_set, images)


def _finalise(
    home: Home,
    futures: Sequence[Any],
    scenario: str,
    recipe_key: str,
    label_set: str | None,
    images: dict[str, str],
) -> list[PartRecord]:
    """Commit parts as they come; only the coordinator writes the catalog.

    A part whose task failed stays uncommitted and is named; the others land first.
    """
    records, lost = [], []
    with progress("parts", total=len(futures), unit="parts") as advance:
        for future in as_completed(futures):
            try:
                record = future.result()
            except Exception as error:
                # Our own errors name the remedy; others may quote anything.
                known = isinstance(error, RadloopError)
                lost.append(str(error) if known else type(error).__name__)
                continue
            row = PartRow(
                part_id=record.part_id,
                kind=record.kind,
                recipe_id=recipe_key,
                label_set_id=label_set,
                image_part_id=images.get(record.part_id),
                path=record.path,
                case_ids=record.case_ids,
                bytes=record.bytes,
                digest=record.digest,
            )
            commit_part(home.catalog, row, record.failures, lease=held_lease(f"store {scenario}"))
            records.append(record)
            advance(len(records), len(futures))
    if lost:
        msg = (
            f"{len(lost)} of {len(futures)} parts were not made ({'; '.join(sorted(set(lost)))}); "
            f"the other {len(records)} are committed, run the same command again to go on"
        )
        raise RadloopError(msg)
    return records


def _order(
    home: Home, ready: Ready, part: str, recipe_key: str, cases: Sequence[Case]
) -> WorkOrder:
    """Gather everything a worker may know about its cases: places, digests, masks."""
    return WorkOrder(part, recipe_key, tuple(orders_of(home, cases, ready.cohort.masks)))


def _plan(
    home: Home, scenario: str, recipe_key: str, recipe: FittedRecipe, pending: Sequence[Case]
) -> tuple[PartPlan, ...]:
    """Plan the pending cases, taking up the parts an interrupted run had planned.

    Staging and part ids hang on which cases a part holds, so a plan once made is kept until its
    parts are committed: another cut of the same cases would leave half-made parts behind.
    """
    left = {case.case_id: case for case in pending}
    kept = []
    for part in _kept_plan(home, scenario, recipe_key):
        if part.case_ids and left.keys() >= set(part.case_ids):
            kept.append(part)
            for case_id in part.case_ids:
                del left[case_id]
    fresh = (
        plan_parts([need_of(case) for case in left.values()], recipe, recipe_key) if left else ()
    )
    plan = (*kept, *fresh)
    path = _plan_path(home, scenario, recipe_key)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps([asdict(part) for part in plan]))
    beside.replace(path)
    return plan


def _kept_plan(home: Home, scenario: str, recipe_key: str) -> tuple[PartPlan, ...]:
    """Return the parts of a scenario's last plan under a recipe, done or not."""
    try:
        rows = json.loads(_plan_path(home, scenario, recipe_key).read_text())
    except FileNotFoundError:
        return ()
    return tuple(PartPlan(**{**row, "case_ids": tuple(row["case_ids"])}) for row in rows)


def _plan_path(home: Home, scenario: str, recipe_key: str) -> Path:
    # Two scenarios with one recipe share its key and may run at once.
    return home.settings.home / "plans" / scenario / f"{recipe_key}.json"


def _row(record: PartRecord) -> dict[str, Any]:
    return {
        "part": record.part_id[:12],
        "kind": record.kind,
        "cases": len(record.case_ids),
        "bytes": record.bytes,
        "failed": len(record.failures),
        "resumed": record.resumed,
        "seconds": round(record.seconds, 1),
    }
