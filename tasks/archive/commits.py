"""What the loop has decided and made: recipes, work, parts; with splits and leases beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, select

from tasks.archive.database import LOOKUP_ROWS, insert, now, writing
from tasks.archive.featuretable import Numbers, features, put_features
from tasks.archive.leases import acquire_lease, check_fence, heartbeat_lease, release_lease
from tasks.archive.quarantine import insert_quarantine, quarantine_values
from tasks.archive.splits import (
    Assignment,
    Edition,
    assign,
    assignments,
    editions,
    open_edition,
    sides_of_patient,
    use_edition,
)
from tasks.archive.tables import part_cases
from tasks.archive.tables import parts as parts_table
from tasks.archive.work import (
    STAGES,
    fitting_cases,
    move_work,
    pending_cases,
    put_recipe,
    recipe_for,
    require_recipe,
    retry_cases,
    settled_cases,
    want_cases,
    work_states,
)
from tasks.errors import StoreError

__all__ = [
    "Assignment",
    "Edition",
    "PartRow",
    "acquire_lease",
    "all_parts",
    "assign",
    "assignments",
    "commit_part",
    "editions",
    "features",
    "fitting_cases",
    "heartbeat_lease",
    "open_edition",
    "part_of_case",
    "parts",
    "pending_cases",
    "put_recipe",
    "recipe_for",
    "release_lease",
    "retry_cases",
    "settled_cases",
    "sides_of_patient",
    "use_edition",
    "want_cases",
    "work_states",
]


@dataclass(frozen=True)
class PartRow:
    """One committed part of the store."""

    part_id: str
    kind: str
    """``image`` or ``label``."""
    recipe_id: str
    label_set_id: str | None
    image_part_id: str | None
    path: str
    """Relative to the store's root."""
    case_ids: tuple[str, ...]
    bytes: int
    digest: str


def commit_part(
    catalog: Engine,
    part: PartRow,
    failures: Sequence[tuple[str, str, str]] = (),
    *,
    measured: Mapping[str, Numbers] | None = None,
    lease: tuple[str, int] | None = None,
) -> None:
    """Make a written part exist, in one transaction; the same part again is a no-op.

    Writes the part's row and its cases, moves their work from pending to done and that of the
    failures to quarantined (for image parts), and quarantines the failures. A part of which every
    case failed leaves only its failures: nothing of it exists.

    Parameters
    ----------
    catalog : Engine
        The catalog.
    part : PartRow
        The part as written.
    failures : sequence of (case id, reason, detail)
        Cases that could not be written.
    measured : mapping of case id to mapping of column to number or None, optional
        What the recipe's features steps found in the cases, for the catalog's table.
    lease : (name, fencing number), optional
        Refuse when this lease is no longer held with this number.

    Raises
    ------
    StoreError
        The part is committed with another digest or other cases, or its cases were measured
        before with other numbers.
    LeaseHeld
        The lease was taken over.
    ValueError
        Another kind than ``image`` and ``label``, or an unknown recipe.
    """
    if part.kind not in STAGES:
        raise ValueError(f"A part is one of {', '.join(STAGES)}, not {part.kind!r}.")
    with writing(catalog) as connection:
        if lease is not None:
            check_fence(connection, *lease)
        require_recipe(connection, part.recipe_id)
        if part.case_ids:
            insert_part(connection, part)
        put_features(connection, part.recipe_id, measured or {})
        if part.kind == "image":
            move_work(connection, part.recipe_id, part.case_ids, "done")
            move_work(
                connection, part.recipe_id, [case_id for case_id, _, _ in failures], "quarantined"
            )
        insert_quarantine(
            connection,
            [
                quarantine_values(
                    stage=STAGES[part.kind],
                    reason=reason,
                    detail=detail,
                    case_id=case_id,
                    recipe_id=part.recipe_id,
                )
                for case_id, reason, detail in failures
            ],
        )


def insert_part(connection: Connection, part: PartRow) -> None:
    """Write a part's row and its cases; refuse another part of the same id."""
    inserted = connection.execute(
        insert(connection, parts_table).on_conflict_do_nothing(index_elements=["part_id"]),
        {
            "part_id": part.part_id,
            "kind": part.kind,
            "recipe_id": part.recipe_id,
            "label_set_id": part.label_set_id,
            "image_part_id": part.image_part_id,
            "path": part.path,
            "bytes": part.bytes,
            "digest": part.digest,
            "at": now(),
        },
    ).rowcount
    if inserted:
        connection.execute(
            part_cases.insert(),
            [
                {"part_id": part.part_id, "number": number, "case_id": case_id}
                for number, case_id in enumerate(part.case_ids)
            ],
        )
        return
    (held,) = _read_parts(connection, [parts_table.c.part_id == part.part_id])
    if (held.digest, held.case_ids) != (part.digest, part.case_ids):
        raise StoreError(
            f"Part {part.part_id} is committed with digest {held.digest} and {len(held.case_ids)} "
            f"cases, and was written again with {part.digest} and {len(part.case_ids)}: the same "
            "input must give the same bytes; run `radloop verify` and check what changed."
        )


def _read_parts(connection: Connection, conditions: Sequence) -> list[PartRow]:
    table = parts_table
    chosen = select(table).where(*conditions).order_by(table.c.part_id)
    held = (
        select(part_cases.c.part_id, part_cases.c.case_id)
        .join_from(part_cases, table, part_cases.c.part_id == table.c.part_id)
        .where(*conditions)
        .order_by(part_cases.c.part_id, part_cases.c.number)
    )
    case_ids: dict[str, list[str]] = {}
    for part_id, case_id in connection.execute(held):
        case_ids.setdefault(part_id, []).append(case_id)
    return [
        PartRow(
            part_id=row.part_id,
            kind=row.kind,
            recipe_id=row.recipe_id,
            label_set_id=row.label_set_id,
            image_part_id=row.image_part_id,
            path=row.path,
            case_ids=tuple(case_ids.get(row.part_id, ())),
            bytes=row.bytes,
            digest=row.digest,
        )
        for row in connection.execute(chosen)
    ]


def parts(
    catalog: Engine,
    *,
    recipe_id: str | None = None,
    kind: str | None = None,
    label_set_id: str | None = None,
) -> list[PartRow]:
    """Return the committed parts that meet every given condition, ordered by part id."""
    named = {"recipe_id": recipe_id, "kind": kind, "label_set_id": label_set_id}
    conditions = [parts_table.c[k] == v for k, v in named.items() if v is not None]
    with catalog.connect() as connection:
        return _read_parts(connection, conditions)


def all_parts(catalog: Engine) -> list[PartRow]:
    """Return every committed part, images before the labels on their grid."""
    return sorted(parts(catalog), key=lambda part: (part.kind, part.part_id))


def part_of_case(
    catalog: Engine, recipe_id: str, case_ids: Iterable[str], label_set_id: str | None = None
) -> dict[str, str]:
    """Return case id -> part id of the image parts (or of a label set's parts) under a recipe."""
    table = parts_table.c
    kind = "image" if label_set_id is None else "label"
    query = (
        select(part_cases.c.case_id, part_cases.c.part_id)
        .join_from(part_cases, parts_table, part_cases.c.part_id == table.part_id)
        .where(table.recipe_id == recipe_id, table.kind == kind)
        .order_by(part_cases.c.part_id)
    )
    if label_set_id is not None:
        query = query.where(table.label_set_id == label_set_id)
    wanted = set(case_ids)
    with catalog.connect() as connection:
        if len(wanted) > LOOKUP_ROWS:
            # One pass over the recipe's parts: list by list, each list would pass over them anew.
            pairs = connection.execute(query).all()
            return {case_id: part for case_id, part in pairs if case_id in wanted}
        return dict(connection.execute(query.where(part_cases.c.case_id.in_(sorted(wanted)))).all())
