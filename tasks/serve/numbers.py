"""How a figure with its interval is taken apart, shown and written as JSON."""

import math
from typing import Any

NOT_MEASURED = "not measured"
"""What stands wherever a figure is missing; an empty field would read as zero or as fine."""


def as_interval(value: Any) -> tuple[float, float | None, float | None] | None:
    """Return ``(value, lo, hi)`` of a number, a triple, a mapping or an object with these fields.

    None and a value that is not finite mean "not measured" and give None; a bound that is not
    finite gives None in its place.
    """
    if value is None:
        return None
    if isinstance(value, dict):
        parts = (value.get("value"), value.get("lo"), value.get("hi"))
    elif hasattr(value, "lo") and hasattr(value, "hi"):
        parts = (value.value, value.lo, value.hi)
    elif isinstance(value, (tuple, list)):
        if len(value) != 3:
            raise ValueError(f"An interval is (value, lo, hi), not {len(value)} numbers.")
        parts = tuple(value)
    else:
        parts = (value, None, None)
    middle, low, high = (_finite(part) for part in parts)
    return None if middle is None else (middle, low, high)


def show_number(value: Any, digits: int = 3) -> str:
    """Return a number as people read it: ``0.914``, ``1,204``, or "not measured"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    number = _finite(value)
    if number is None:
        return NOT_MEASURED
    if float(number).is_integer() and (isinstance(value, int) or abs(number) >= 1000):
        return f"{int(number):,}"
    return f"{number:.{digits}f}"


def show_interval(value: Any, digits: int = 3) -> str:
    """Return ``0.914 (0.887 to 0.938)``, the number alone, or "not measured"."""
    interval = as_interval(value)
    if interval is None:
        return NOT_MEASURED
    middle, low, high = interval
    shown = show_number(middle, digits)
    if low is None or high is None:
        return shown
    return f"{shown} ({low:.{digits}f} to {high:.{digits}f})"


def _finite(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def plain(value: Any) -> Any:
    """Turn what JSON does not know (numpy scalars, paths) into what it knows."""
    return value.item() if hasattr(value, "item") else str(value)
