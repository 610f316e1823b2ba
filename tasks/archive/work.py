"""Recipes and the work they ask for: which case is not yet processed under which recipe."""

import json
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, Engine, Row, Select, delete, func, literal_column, select, update

from tasks.archive.database import LOOKUP_ROWS, chunks, insert, now, writing
from tasks.archive.tables import quarantine as quarantine_table
from tasks.archive.tables import recipe_generations, recipes, work
from tasks.hashing import canonical_json

STAGES: Mapping[str, str] = {"image": "preprocess", "label": "label"}
"""Stage a failed case is quarantined under, by kind of part."""


def put_recipe(
    catalog: Engine,
    recipe_id: str,
    scenario: str,
    body: Mapping,
    fitted_on: str,
    patients: Mapping[str, str] | None = None,
) -> None:
    """Make a fitted recipe the newest generation of a scenario; the newest again is a no-op.

    Parameters
    ----------
    fitted_on : str
        Hash of the cases it was fitted on.
    patients : mapping of case id to patient key, optional
        These cases; kept in place of their hash, which the body holds, so that they can be held
        against a split.

    Raises
    ------
    ValueError
        The id is known with another body.
    """
    text = canonical_json(dict(body))
    learnt = fitted_on if patients is None else canonical_json(dict(patients))
    with writing(catalog) as connection:
        connection.execute(
            insert(connection, recipes).on_conflict_do_nothing(),
            {"recipe_id": recipe_id, "body": text, "fitted_on": learnt, "at": now()},
        )
        held = connection.execute(select(recipes).filter_by(recipe_id=recipe_id)).one()
        if held.body != text:
            raise ValueError(
                f"Recipe {recipe_id} is known with another content: an id is the hash of what it "
                "names, so compute it from the fitted recipe."
            )
        if patients is not None and not held.fitted_on.startswith("{"):
            # The row of an older radloop, which kept the hash alone.
            known = recipes.c.recipe_id == recipe_id
            connection.execute(update(recipes).where(known).values(fitted_on=learnt))
        newest = _newest_generation(connection, scenario)
        if newest is None or newest.recipe_id != recipe_id:
            generation = 1 if newest is None else newest.generation + 1
            connection.execute(
                recipe_generations.insert(),
                {
                    "scenario": scenario,
                    "generation": generation,
                    "recipe_id": recipe_id,
                    "at": now(),
                },
            )


def _newest_generation(connection: Connection, scenario: str) -> Row | None:
    query = (
        select(recipe_generations.c.generation, recipes.c.recipe_id, recipes.c.body)
        .join_from(recipe_generations, recipes)
        .where(recipe_generations.c.scenario == scenario)
        .order_by(recipe_generations.c.generation.desc())
    )
    return connection.execute(query).first()


def recipe_for(catalog: Engine, scenario: str) -> tuple[str, dict] | None:
    """Return (recipe id, body) of a scenario's newest generation, or None."""
    with catalog.connect() as connection:
        newest = _newest_generation(connection, scenario)
    return None if newest is None else (newest.recipe_id, json.loads(newest.body))


def fitting_cases(catalog: Engine, recipe_id: str) -> dict[str, str] | None:
    """Return the cases a recipe was fitted on with their patients; None where they are not known.

    A recipe with nothing to fit has none; one that an older radloop fitted does not say.
    """
    query = select(recipes.c.fitted_on).filter_by(recipe_id=recipe_id)
    with catalog.connect() as connection:
        text = connection.scalar(query)
    if not text:
        return {}
    return json.loads(text) if text.startswith("{") else None


def want_cases(catalog: Engine, recipe_id: str, case_ids: Iterable[str]) -> int:
    """Ask for cases under a recipe and return how many were not asked for before.

    A case that is done or in quarantine stays so.

    Raises
    ------
    ValueError
        There is no such recipe.
    """
    wanted = sorted(set(case_ids))
    with writing(catalog) as connection:
        require_recipe(connection, recipe_id)
        count = select(func.count()).select_from(work).filter_by(recipe_id=recipe_id)
        before = connection.scalar(count)
        if wanted:
            connection.execute(
                insert(connection, work).on_conflict_do_nothing(),
                [
                    {"recipe_id": recipe_id, "case_id": case_id, "state": "pending"}
                    for case_id in wanted
                ],
            )
        return connection.scalar(count) - before


def require_recipe(connection: Connection, recipe_id: str) -> None:
    """Refuse a recipe the catalog does not know with a sentence."""
    if connection.scalar(select(recipes.c.recipe_id).filter_by(recipe_id=recipe_id)) is None:
        raise ValueError(f"Recipe {recipe_id} is not in the catalog: put it there first.")


def pending_cases(catalog: Engine, recipe_id: str) -> list[str]:
    """Return the cases not yet processed under a recipe, in order."""
    with catalog.connect() as connection:
        return list(connection.scalars(pending_query(recipe_id)))


def settled_cases(catalog: Engine, recipe_id: str) -> set[str]:
    """Return the cases that are done under a recipe or in quarantine."""
    query = select(work.c.case_id).where(work.c.recipe_id == recipe_id, work.c.state != "pending")
    with catalog.connect() as connection:
        return set(connection.scalars(query))


def asked_for(catalog: Engine, case_ids: Iterable[str]) -> bool:
    """Say whether every one of these cases was asked for, under whichever recipe."""
    wanted = sorted(set(case_ids))
    with catalog.connect() as connection:
        found = [
            connection.scalar(
                select(func.count(work.c.case_id.distinct())).where(work.c.case_id.in_(chunk))
            )
            for chunk in chunks(wanted, LOOKUP_ROWS)
        ]
    return sum(found) == len(wanted)


def pending_query(recipe_id: str) -> Select:
    """Return the query for the cases not yet processed under a recipe."""
    # A literal, because SQLite uses a partial index only when it can see its condition.
    state = work.c.state == literal_column("'pending'")
    return select(work.c.case_id).where(work.c.recipe_id == recipe_id, state).order_by("case_id")


def work_states(catalog: Engine, recipe_id: str) -> dict[str, int]:
    """Return how many cases of a recipe are in each state."""
    query = select(work.c.state, func.count()).filter_by(recipe_id=recipe_id)
    with catalog.connect() as connection:
        return dict(connection.execute(query.group_by(work.c.state).order_by("state")).all())


def retry_cases(catalog: Engine, recipe_id: str | None = None) -> int:
    """Forget that cases failed, so that they can be wanted again; return how many.

    A person asks for this after the cause is gone. States still move one way: the rows of work
    and quarantine are removed, not turned back.
    """
    of_recipe = [] if recipe_id is None else [work.c.recipe_id == recipe_id]
    failed = [] if recipe_id is None else [quarantine_table.c.recipe_id == recipe_id]
    with writing(catalog) as connection:
        connection.execute(
            delete(quarantine_table).where(
                quarantine_table.c.recipe_id.is_not(None),
                quarantine_table.c.stage.in_(STAGES.values()),
                *failed,
            )
        )
        return connection.execute(
            delete(work).where(work.c.state == "quarantined", *of_recipe)
        ).rowcount


def move_work(connection: Connection, recipe_id: str, case_ids: Sequence[str], state: str) -> None:
    """Set cases of a recipe that are still pending to another state; others stay as they are."""
    for chunk in chunks(sorted(set(case_ids)), LOOKUP_ROWS):
        connection.execute(
            update(work)
            .where(
                work.c.recipe_id == recipe_id,
                work.c.case_id.in_(chunk),
                work.c.state == "pending",
            )
            .values(state=state)
        )
