"""What a recipe measured in the cases of a part, from the part itself."""

from tasks.imaging.columns import numbers_of
from tasks.store.read import open_part


def measured_in(root: str, path: str, digest: str) -> dict[str, dict[str, float | None]]:
    """Return case id -> column -> number of a committed part; empty where nothing was measured.

    Parameters
    ----------
    root : str
        Store root.
    path, digest : str
        Of the part, as in its record.

    Raises
    ------
    StoreError
        When the part is not there or not the one of ``digest``.
    """
    part = open_part(root, path, digest)
    found = {case_id: numbers_of(part.info(case_id).traces) for case_id in part.case_ids}
    return {case_id: numbers for case_id, numbers in found.items() if numbers}
