"""What one file of an intake is: read, judged, and on its way into the catalog."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tasks.archive.catalog import InstanceRow, SeriesRow
from tasks.archive.vault_files import KnownFile
from tasks.archive.walk import Entry
from tasks.errors import BadCase


@dataclass(frozen=True)
class Image:
    """One instance on its way into the catalog."""

    series_key: str
    study_key: str
    patient_key: str
    accession_key: str | None
    kind: str
    sop_key: str
    position: float | None
    facts: Callable[[str], dict] = field(repr=False)
    """Makes the kept fields for a patient key, which decides the shift of dates."""
    patient_id: str = field(default="", repr=False)
    """Normalised; empty for a placeholder."""


@dataclass(frozen=True)
class Item:
    """One file that was read in this batch."""

    entry: Entry
    known: KnownFile | None
    digest: bytes
    outcome: str
    problem: BadCase | None = None
    image: Image | None = None


def as_recorded(item: Item) -> str:
    """Return the outcome a file has until its own is known."""
    return item.known.outcome if item.outcome == "unchanged" else item.outcome


def final_outcome(
    item: Item, locator: int, refused: set[int], kept: frozenset[int]
) -> tuple[str, BadCase | None]:
    """Return what became of a file once the catalog has seen its batch, and why not more.

    Parameters
    ----------
    item : Item
    locator : int
    refused, kept : set of int
        Locators that lost their SOP instance to another file, and those that hold it.
    """
    if item.image is None or item.problem is not None:
        return item.outcome, item.problem
    if locator in refused:
        return "quarantine", conflict()
    return ("instance" if locator in kept else "duplicate"), None


def conflict() -> BadCase:
    """Return why one of two files that contradict each other is kept out."""
    return BadCase(
        "sop_conflict",
        "another file holds this SOP instance with other content, or this series belongs to "
        "another patient or study: find out which one is right",
    )


def series_rows(images: list[tuple[Image, bytes, int]], alias: str) -> list[SeriesRow]:
    """Return (image, digest, locator) of a batch grouped into series, facts made once for each."""
    groups: dict[tuple[str, str, str], list[tuple[Image, bytes, int]]] = {}
    for one in images:
        image = one[0]
        groups.setdefault((image.series_key, image.study_key, image.patient_key), []).append(one)
    rows = []
    for group in groups.values():
        # The instance that decides the facts must not depend on the order of reading.
        first = min(group, key=lambda one: one[0].sop_key)[0]
        rows.append(
            SeriesRow(
                series_key=first.series_key,
                study_key=first.study_key,
                patient_key=first.patient_key,
                accession_key=first.accession_key,
                kind=first.kind,
                source=alias,
                facts=first.facts(first.patient_key),
                instances=tuple(
                    InstanceRow(image.sop_key, image.position, digest.hex(), locator)
                    for image, digest, locator in group
                ),
            )
        )
    return rows
