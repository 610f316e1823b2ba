"""Cases that wait for larger workers: pending as ever, with a row of quarantine that says why."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, Engine, delete, select

from tasks.archive.database import LOOKUP_ROWS, chunks, writing
from tasks.archive.quarantine import insert_quarantine, quarantine_values
from tasks.archive.tables import quarantine
from tasks.archive.work import STAGES

REASON = "too_large_for_workers"


def set_aside(
    catalog: Engine, recipe_id: str, asked: Iterable[str], details: Mapping[str, str]
) -> None:
    """Record which of the asked cases no worker can hold, in place of what was recorded of them.

    Their work stays pending, so the next run asks again, and with larger workers does it.

    Parameters
    ----------
    catalog : Engine
    recipe_id : str
    asked : iterable of str
        Cases that a run is about to take up.
    details : mapping of case id to str
        Those of them that are too large, and what was found.
    """
    with writing(catalog) as connection:
        back = (_held(connection, recipe_id).keys() & set(asked)) - details.keys()
        for chunk in chunks(sorted(back), LOOKUP_ROWS):
            connection.execute(
                delete(quarantine).where(
                    quarantine.c.recipe_id == recipe_id,
                    quarantine.c.reason == REASON,
                    quarantine.c.case_id.in_(chunk),
                )
            )
        insert_quarantine(
            connection,
            [
                quarantine_values(
                    stage=STAGES["image"],
                    reason=REASON,
                    detail=detail,
                    case_id=case_id,
                    recipe_id=recipe_id,
                )
                for case_id, detail in sorted(details.items())
            ],
        )


def cases_aside(catalog: Engine, recipe_id: str) -> dict[str, str]:
    """Return case id -> detail of the cases that are set aside under a recipe."""
    with catalog.connect() as connection:
        return _held(connection, recipe_id)


def _held(connection: Connection, recipe_id: str) -> dict[str, str]:
    query = select(quarantine.c.case_id, quarantine.c.detail).where(
        quarantine.c.recipe_id == recipe_id, quarantine.c.reason == REASON
    )
    return dict(connection.execute(query).all())
