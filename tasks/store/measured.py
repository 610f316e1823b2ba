"""What a recipe measured in the cases of a part, from the part itself."""

from tasks.imaging.columns import numbers_of
from tasks.store.read import Part


def measured_in(part: Part) -> dict[str, dict[str, float | None]]:
    """Return case id -> column -> number of a committed part; empty where nothing was measured."""
    found = {case_id: numbers_of(part.info(case_id).traces) for case_id in part.case_ids}
    return {case_id: numbers for case_id, numbers in found.items() if numbers}
