"""Studies whose series do not make a case: rows of quarantine that follow the archive."""

from collections.abc import Collection, Iterable

from sqlalchemy import Engine, delete

from tasks.archive.commits import STAGES
from tasks.archive.database import writing
from tasks.archive.quarantine import insert_quarantine, quarantine_values
from tasks.archive.tables import quarantine


def put_refused(
    catalog: Engine,
    recipe_id: str,
    reasons: Collection[str],
    rows: Iterable[tuple[str, str, str]],
) -> None:
    """Make these the studies that are refused under a recipe; others of these reasons go.

    Parameters
    ----------
    catalog : Engine
    recipe_id : str
    reasons : collection of str
        Those for which a study may be refused.
    rows : iterable of (case id, reason, detail)
    """
    values = [
        quarantine_values(
            stage=STAGES["image"], reason=why, detail=detail, case_id=case_id, recipe_id=recipe_id
        )
        for case_id, why, detail in rows
    ]
    with writing(catalog) as connection:
        connection.execute(
            delete(quarantine).where(
                quarantine.c.recipe_id == recipe_id,
                quarantine.c.stage == STAGES["image"],
                quarantine.c.reason.in_(sorted(reasons)),
            )
        )
        insert_quarantine(connection, values)
