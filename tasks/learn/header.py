"""Header-only models: what vendor, matrix, syntax, view and spacing alone can tell.

Where such a model comes close to the image model, the image model may have learned the scanner
instead of the disease (Zech et al. 2018, PLoS Medicine 15: the hospital alone gave AUROC .861).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

HEADER_TEXT = ("manufacturer", "transfer_syntax", "view")
"""Text fields of a header-only model."""

HEADER_NUMBERS = ("rows", "spacing_row")
"""Number fields of a header-only model: matrix and spacing in mm."""

HEADER_COLUMNS = HEADER_TEXT + HEADER_NUMBERS
"""The columns in their fixed order; a stored model is read with the same ones."""

MISSING = "missing"
"""What stands for an empty text field: that a device leaves a field empty is itself a hint."""


def header_frame(facts: Sequence[Mapping[str, object]]) -> "pd.DataFrame":
    """Return one row a case and the columns `HEADER_COLUMNS`, nothing else of the header.

    Parameters
    ----------
    facts : sequence of mapping
        Kept header fields of each case; a missing key is an empty field.
    """
    import pandas as pd

    frame = pd.DataFrame(index=range(len(facts)))
    for name in HEADER_TEXT:
        values = [case.get(name) for case in facts]
        frame[name] = [MISSING if value in (None, "") else str(value) for value in values]
        frame[name] = frame[name].astype("str")
    for name in HEADER_NUMBERS:
        frame[name] = [_number(case.get(name)) for case in facts]
        frame[name] = frame[name].astype("float64")
    return frame[list(HEADER_COLUMNS)]


def _number(value: object) -> float:
    return float("nan") if value in (None, "") else float(value)  # type: ignore[arg-type]
