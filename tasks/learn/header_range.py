"""Which headers a model was trained on, and what of a new header lies outside.

Most images a model was not made for say so in their header: another scanner, kernel or spacing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

AXES = "axes"
"""Where the indices of an image rise to after the recipe, such as ``SPL``: no header field, but a
sagittal series is as strange to a model of axial ones as another scanner."""

WORDS = ("modality", "manufacturer", "kernel", "sequence", "view", "body_part", AXES)
"""Facts of which every value of the training side is kept."""

NUMBERS = ("slice_thickness", "spacing_row", "field_strength", "kvp")
"""Facts of which the range is kept."""

WIDER = 0.1
"""Share of its ends by which a number may lie outside the training range."""


def seen_headers(facts: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return what the training side's headers say.

    Parameters
    ----------
    facts : sequence of mapping
        Kept header fields of each training case.

    Returns
    -------
    dict of fact to list
        All values of `WORDS`, lowest and highest of `NUMBERS`; a fact that no case states is left
        out.
    """
    found: dict[str, list[Any]] = {}
    for name in WORDS:
        if values := sorted({str(one[name]) for one in facts if _stated(one, name)}):
            found[name] = values
    for name in NUMBERS:
        if numbers := [float(one[name]) for one in facts if _stated(one, name)]:
            found[name] = [min(numbers), max(numbers)]
    return found


def outside(seen: Mapping[str, Sequence[Any]], facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the facts of a header that no training case comes near; what it leaves out is none."""
    found = []
    for name, known in seen.items():
        if not _stated(facts, name):
            continue
        if name in NUMBERS:
            low, high = known
            inside = low - WIDER * abs(low) <= float(facts[name]) <= high + WIDER * abs(high)
        else:
            inside = str(facts[name]) in known
        if not inside:
            found.append(name)
    return tuple(found)


def _stated(facts: Mapping[str, Any], name: str) -> bool:
    return facts.get(name) not in (None, "")
