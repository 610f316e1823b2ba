"""Where a case's files are: asked by the coordinator, told to whoever works on the case."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.archive.catalog import Case, files_of
from tasks.archive.orders import OrderCase, OrderSeries
from tasks.archive.vault_files import file_refs

LOOKED_UP_TOGETHER = 1000
"""Cases whose files are looked up in one go: bounds memory, whatever the archive."""


def orders_of(
    place: Any,
    cases: Sequence[Case],
    masks: Mapping[str, int] | None = None,
    numbers: tuple[tuple[int, int], ...] | None = None,
    boxes: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
    named: str | None = None,
) -> Iterator[OrderCase]:
    """Give each case with the files of its series, its modality and, where there is one, its mask.

    Parameters
    ----------
    place : Home or Desk
        Whose catalog and vault know the cases.
    cases : sequence of Case
    masks : mapping of case id to locator, optional
    numbers : tuple of (value in the file, value here), optional
        What the values in the masks' files mean, where the scenario's labels say so.
    boxes : mapping of case id to text, optional
        Of a detection, see `tasks.cohort.select.Cohort`.
    classes : sequence of str
        Of those boxes, in the order of their numbers.
    named : str, optional
        How segments are told by name, where the scenario's labels say so.
    """
    masks, boxes = masks or {}, boxes or {}
    for at in range(0, len(cases), LOOKED_UP_TOGETHER):
        chunk = cases[at : at + LOOKED_UP_TOGETHER]
        members = [one.case_id for case in chunk for one in case.members]
        located = files_of(place.catalog, members)
        wanted = {locator for found in located.values() for locator in found}
        wanted |= {masks[case.case_id] for case in chunk if case.case_id in masks}
        refs = file_refs(place.vault, sorted(wanted))
        for case in chunk:
            files = {
                one.case_id: tuple(refs[locator] for locator in located[one.case_id])
                for one in case.members
            }
            series = tuple(
                OrderSeries(name, files[one.case_id], one.facts.get("modality"))
                for name, one in case.series
            )
            mask = refs[masks[case.case_id]] if case.case_id in masks else None
            own, modality = files[case.lead.case_id], case.facts.get("modality")
            labels = numbers, boxes.get(case.case_id), tuple(classes), named
            yield OrderCase(case.case_id, case.kind, own, mask, modality, series, *labels)
