"""Subgroups of which no header says anything, such as casts: from a table beside the images."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import ScenarioError

if TYPE_CHECKING:
    from tasks.archive.catalog import Case
    from tasks.archive.pseudonyms import Pseudonymiser
    from tasks.archive.sources import Source
    from tasks.archive.tablefile import TableFile

MOST_GROUPS = 12
"""Different values of a column: with more it tells patients and not groups of them."""

LONGEST = 32
"""Characters of a value: what stands in a report must not be prose, which names people."""

DIFFER = "rows differ"
"""Group of a case of which two rows say different things."""


class GroupTable(BaseModel):
    """A table beside the images by which the report tells patients apart, such as by casts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    """CSV, TSV or Parquet file, relative to the source, or absolute."""
    join: Literal["accession", "study", "series", "patient", "case"]
    """What a row speaks about."""
    columns: tuple[str, ...] = Field(min_length=1)
    """Each tells groups apart by its values."""
    key_column: str | None = None
    """Column with the key; by default one with a usual name such as accession_number."""
    issuer: str | None = None
    """For join patient: who gave the ids, when the headers name an issuer."""


def told_groups(
    source: "Source", config: GroupTable, cases: Sequence["Case"], names: "Pseudonymiser"
) -> dict[str, dict[str, str]]:
    """Return what a table says of a source's cases: column -> case id -> group.

    Parameters
    ----------
    source : Source
        Beside which the table stands.
    config : GroupTable
    cases : sequence of Case
        The source's own; rows about others are left aside, cases without a row have no group.
    names : Pseudonymiser

    Raises
    ------
    FileNotFoundError, ValueError
        The table is not there, is none, or lacks a column.
    ScenarioError
        A column is a fact of the headers already, or its values are no groups; none is told.
    """
    from tasks.archive.tablefile import read_table
    from tasks.labels.keys import read_beside

    table = read_table(*read_beside(source, config.file))
    facts = {name for case in cases for name in case.facts}
    if known := sorted(facts & set(config.columns)):
        raise ScenarioError(
            f"evaluate.groups names the column {known[0]}, which the cases have as a fact already: "
            "leave it out, or give the column another name"
        )
    issuer = config.issuer or source.alias
    keys = "case_id" if config.join == "case" else f"{config.join}_key"
    owners: dict[str | None, list[str]] = {}
    for case in cases:
        owners.setdefault(getattr(case, keys), []).append(case.case_id)
    return {name: _column(table, config, name, owners, issuer, names) for name in config.columns}


def _column(
    table: "TableFile",
    config: GroupTable,
    name: str,
    owners: Mapping[str | None, Sequence[str]],
    issuer: str,
    names: "Pseudonymiser",
) -> dict[str, str]:
    from tasks.labels.keys import label_key
    from tasks.labels.tables import parse_label_table

    told: dict[str, set[str]] = {}
    for row in parse_label_table(table, config.join, name, key_column=config.key_column).rows:
        try:
            key = label_key(row.key, config.join, issuer, names)
        except ValueError:
            # A placeholder is nobody's key, and so the row is about none of the cases.
            continue
        for case_id in owners.get(key, ()):
            told.setdefault(case_id, set()).add(row.value)
    different = set().union(*told.values())
    longest = max(map(len, different), default=0)
    if len(different) > MOST_GROUPS or longest > LONGEST:
        raise ScenarioError(
            f"evaluate.groups: column {name} has {len(different)} different values of up to "
            f"{longest} characters; groups are at most {MOST_GROUPS}, of at most {LONGEST} "
            "characters: name a column of few words"
        )
    return {case_id: one.pop() if len(one) == 1 else DIFFER for case_id, one in told.items()}
