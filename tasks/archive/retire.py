"""Take parts out of the catalog: those nobody refers to, and those a larger part replaces."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Engine, delete, func, select, update

from tasks.archive.commits import PartRow, insert_part
from tasks.archive.database import LOOKUP_ROWS, chunks, writing
from tasks.archive.leases import check_fence
from tasks.archive.tables import part_cases, recipe_generations, work
from tasks.archive.tables import parts as parts_table
from tasks.errors import StoreError


def newest_recipes(catalog: Engine) -> dict[str, str]:
    """Return scenario -> id of its newest generation's recipe."""
    with catalog.connect() as connection:
        return _newest(connection)


def known_recipes(catalog: Engine) -> frozenset[str]:
    """Return the recipes that are, or once were, some scenario's."""
    with catalog.connect() as connection:
        return frozenset(connection.scalars(select(recipe_generations.c.recipe_id)))


def _newest(connection: Connection) -> dict[str, str]:
    table = recipe_generations.c
    last = select(table.scenario, func.max(table.generation).label("last")).group_by(table.scenario)
    last = last.subquery()
    query = select(table.scenario, table.recipe_id).join(
        last, (table.scenario == last.c.scenario) & (table.generation == last.c.last)
    )
    return dict(connection.execute(query).all())


def forget_recipe(
    catalog: Engine, recipe_id: str, *, lease: tuple[str, int] | None = None
) -> tuple[str, ...]:
    """Take every part of a recipe out of the catalog, in one transaction; return their paths.

    The work they stood for goes too, so that the cases are made anew should a scenario come back
    to the recipe.

    Raises
    ------
    StoreError
        The recipe is the newest of a scenario.
    LeaseHeld
        The lease was taken over.
    """
    table = parts_table.c
    with writing(catalog) as connection:
        if lease is not None:
            check_fence(connection, *lease)
        if recipe_id in _newest(connection).values():
            raise StoreError(
                f"recipe {recipe_id} is in use by a scenario again: nothing of it was removed"
            )
        of_recipe = table.recipe_id == recipe_id
        paths = tuple(connection.scalars(select(table.path).where(of_recipe)))
        ids = select(table.part_id).where(of_recipe)
        connection.execute(delete(part_cases).where(part_cases.c.part_id.in_(ids)))
        # Labels first: they refer to the images on whose grid they lie.
        connection.execute(delete(parts_table).where(of_recipe, table.kind == "label"))
        connection.execute(delete(parts_table).where(of_recipe))
        connection.execute(delete(work).where(work.c.recipe_id == recipe_id))
    return paths


def replace_parts(
    catalog: Engine,
    old: Sequence[str],
    new: PartRow,
    *,
    lease: tuple[str, int] | None = None,
) -> None:
    """Let one part stand for several, in one transaction; readers see all of them or the one.

    Parameters
    ----------
    catalog : Engine
    old : sequence of str
        Ids of the parts it replaces.
    new : PartRow
        Written already, with exactly their cases.
    lease : (name, fencing number), optional

    Raises
    ------
    StoreError
        The new part does not hold exactly the cases of the old ones, as the catalog knows them.
    LeaseHeld
        The lease was taken over.
    """
    table = parts_table.c
    with writing(catalog) as connection:
        if lease is not None:
            check_fence(connection, *lease)
        held = _cases_of(connection, old)
        if sorted(held) != sorted(new.case_ids):
            raise StoreError(
                f"part {new.part_id} holds {len(new.case_ids)} cases and the {len(old)} parts it "
                f"should replace hold {len(held)}, or others: they stay as they are"
            )
        insert_part(connection, new)
        for chunk in chunks(sorted(old), LOOKUP_ROWS):
            connection.execute(
                update(parts_table)
                .where(table.image_part_id.in_(chunk))
                .values(image_part_id=new.part_id)
            )
            connection.execute(delete(part_cases).where(part_cases.c.part_id.in_(chunk)))
            connection.execute(delete(parts_table).where(table.part_id.in_(chunk)))


def _cases_of(connection: Connection, part_ids: Iterable[str]) -> list[str]:
    found: list[str] = []
    for chunk in chunks(sorted(set(part_ids)), LOOKUP_ROWS):
        query = select(part_cases.c.case_id).where(part_cases.c.part_id.in_(chunk))
        found += connection.scalars(query)
    return found
