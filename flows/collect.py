"""What of the store can go, and taking it away: references from catalog and MLflow, then deeds."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flows.console import progress
from flows.home import Home, held_lease, lease, store_lease
from tasks.archive.audit import append
from tasks.archive.commits import PartRow, all_parts
from tasks.archive.leases import live_leases
from tasks.archive.retire import forget_recipe, known_recipes, newest_recipes, replace_parts
from tasks.archive.work import asked_for
from tasks.errors import LeaseHeld
from tasks.store.collect import (
    Removal,
    remove_staging,
    stale_staging,
    superseded,
    touch,
    unnamed,
)
from tasks.store.commit import remove
from tasks.store.compact import Merge, merge_parts, plan_merges
from tasks.store.places import is_url
from tasks.store.write import PartRecord

LEASE = "gc"


@dataclass(frozen=True)
class Plan:
    """What can go, which parts become one, and what stays since another catalog may need it."""

    removals: tuple[Removal, ...]
    merges: tuple[Merge, ...]
    foreign: tuple[Removal, ...] = ()


def plan_collection(home: Home, *, compact: bool) -> Plan:
    """Look at the store, the catalog and every run; changes nothing."""
    settings, rows, now = home.settings, all_parts(home.catalog), time.time()
    recipes = known_recipes(home.catalog)
    newest = frozenset(newest_recipes(home.catalog).values())
    gone = superseded(rows, newest, recipes, _recipes_of_runs(home))
    going = {removal.recipe_id for removal in gone}

    def ours(recipe_id: str, case_ids: Collection[str]) -> bool:
        return recipe_id in recipes and asked_for(home.catalog, case_ids)

    lost = unnamed(settings.store_root, frozenset(row.path for row in rows), ours, now)
    return Plan(
        removals=(
            *stale_staging(staging_place(home), now),
            *(one for one in lost if one.kind == "uncommitted"),
            *gone,
        ),
        merges=plan_merges(row for row in rows if row.recipe_id not in going) if compact else (),
        foreign=tuple(one for one in lost if one.kind == "foreign"),
    )


def staging_place(home: Home) -> str:
    """Return the local folder that holds the staging of the home's store."""
    settings = home.settings
    return settings.scratch if is_url(settings.store_root) else settings.store_root


def _recipes_of_runs(home: Home) -> frozenset[str]:
    if not home.has_runs:
        return frozenset()
    from flows.evidence import tracker_for
    from tasks.serve.registry import recipes_in_use

    return recipes_in_use(tracker_for(home, "any"))


def collect(home: Home, *, compact: bool) -> Plan:
    """Merge small parts if asked to, then take away what can go; return what was done.

    Raises
    ------
    LeaseHeld
        When any run is at work: it may be about to need what looks forgotten.
    """
    if busy := [name for name in live_leases(home.catalog) if name != LEASE]:
        raise LeaseHeld(f"{', '.join(busy)} is at work: let it end, then run `radloop gc` again")
    with lease(home, LEASE, "gc"):
        merges = merge_all(home) if compact else ()
        plan = plan_collection(home, compact=False)
        removals = _remove_all(home, plan.removals)
    return Plan(removals, merges, plan.foreign)


def merge_all(home: Home) -> tuple[Merge, ...]:
    """Merge small image parts, then the small label parts on the grids of merged ones."""
    done: list[Merge] = []
    for kind in ("image", "label"):
        going = _superseded_recipes(home)
        rows = [row for row in all_parts(home.catalog) if row.kind == kind]
        merges = plan_merges(row for row in rows if row.recipe_id not in going)
        with progress(f"merging {kind} parts", total=len(merges), unit="parts") as advance:
            for number, merge in enumerate(merges, start=1):
                _merge(home, merge)
                advance(number, len(merges))
        done += merges
    return tuple(done)


def _superseded_recipes(home: Home) -> set[str]:
    newest = frozenset(newest_recipes(home.catalog).values())
    rows, known = all_parts(home.catalog), known_recipes(home.catalog)
    return {one.recipe_id for one in superseded(rows, newest, known, _recipes_of_runs(home))}


def _merge(home: Home, merge: Merge) -> None:
    root, first = home.settings.store_root, merge.parts[0]
    with lease(home, store_lease(first.recipe_id), "gc"):
        record = merge_parts(root, merge, home.settings.scratch)
        held = held_lease(store_lease(first.recipe_id))
        old = [part.part_id for part in merge.parts]
        replace_parts(home.catalog, old, _row(record, first), lease=held)
        # Their bytes go a day later: whoever opened one before this moment reads on.
        for part in merge.parts:
            touch(root, part.path)
    append(home.settings.audit_path, "compact", part_id=record.part_id, parts=len(old))


def _row(record: PartRecord, like: PartRow) -> PartRow:
    return PartRow(
        part_id=record.part_id,
        kind=record.kind,
        recipe_id=like.recipe_id,
        label_set_id=like.label_set_id,
        image_part_id=like.image_part_id,
        path=record.path,
        case_ids=record.case_ids,
        bytes=record.bytes,
        digest=record.digest,
    )


def _remove_all(home: Home, removals: Sequence[Removal]) -> tuple[Removal, ...]:
    done: list[Removal] = []
    for removal in removals:
        if removal.kind == "staging":
            remove_staging(staging_place(home), removal)
            done.append(removal)
    parts = [removal for removal in removals if removal.kind != "staging"]
    for recipe_id in sorted({removal.recipe_id for removal in parts}):
        of_recipe = [removal for removal in parts if removal.recipe_id == recipe_id]
        # No writer of this recipe while its parts go.
        with lease(home, store_lease(recipe_id), "gc"):
            done += _remove_parts(home, recipe_id, of_recipe)
    if done:
        total = sum(removal.bytes for removal in done)
        append(home.settings.audit_path, "gc", removed=len(done), bytes=total)
    return tuple(done)


def _remove_parts(home: Home, recipe_id: str, removals: Sequence[Removal]) -> list[Removal]:
    if any(removal.kind == "superseded" for removal in removals):
        # The catalog first: what it names must be there, what is there need not be named.
        forget_recipe(home.catalog, recipe_id, lease=held_lease(store_lease(recipe_id)))
    named = {row.path for row in all_parts(home.catalog)}
    going = [removal for removal in removals if removal.path not in named]
    for removal in going:
        remove(home.settings.store_root, removal.path)
    return going
