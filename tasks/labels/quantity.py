"""Labels that are numbers: read from text once, in one spelling, or refused with the reason."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.labels.config import LabelConfig


def read_number(
    text: str, config: "LabelConfig", *, decimal_comma: bool = False
) -> tuple[str | None, str]:
    """Return a label's number in one spelling, or None and why it is none.

    Parameters
    ----------
    text : str
        As it stands in the table.
    config : LabelConfig
        With `unit`, and perhaps `least` and `most`.
    decimal_comma : bool
        Whether the table is one of those whose numbers have commas.

    Returns
    -------
    str or None
        The shortest text that reads back as the same number: 12, 12.0 and 1.2e1 are one label.
    str
        The reason; the value is not repeated: with a wrong column it would be anything.
    """
    try:
        number = float(text.strip().replace(",", ".") if decimal_comma else text.strip())
    except ValueError:
        return None, f"the label is no number of {config.unit}"
    if not math.isfinite(number):
        return None, "the label is not a finite number"
    if config.least is not None and number < config.least:
        return None, f"the label lies below {config.least:g} {config.unit}"
    if config.most is not None and number > config.most:
        return None, f"the label lies above {config.most:g} {config.unit}"
    return repr(number + 0.0), ""
