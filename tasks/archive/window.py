"""The window a file asks to be shown through (PS3.3 C.11.2), as a fact for recipes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue

from tasks.archive.frames import Frame

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
"""Defined terms of VOI LUT Function (PS3.3 C.11.2.1.3); LINEAR when it is absent."""


def window_of(frames: Sequence[Frame]) -> dict[str, Any] | None:
    """Return the one window of a volume.

    Scanners of MR state another window for every slice; a volume shown through them would change
    its brightness from slice to slice.  The medians of level and width stand for all.  Of several
    windows of one file the first counts.

    Parameters
    ----------
    frames : sequence of Frame
        Of one volume.

    Returns
    -------
    dict or None
        ``level``, ``width`` (in real units) and ``function`` (``"linear"``, ``"linear_exact"`` or
        ``"sigmoid"``); None when no frame states a window that can be applied.
    """
    found = [one for one in (_stated(frame) for frame in frames) if one is not None]
    if not found:
        return None
    level, width = np.median([(level, width) for level, width, _ in found], axis=0).tolist()
    return {"level": level, "width": width, "function": found[0][2].lower()}


def _stated(frame: Frame) -> tuple[float, float, str] | None:
    holder = _holder(frame)
    function = str(holder.get("VOILUTFunction") or "LINEAR").upper()
    try:
        level, width = _first(holder.get("WindowCenter")), _first(holder.get("WindowWidth"))
    except (TypeError, ValueError):
        return None
    narrowest = 1.0 if function == "LINEAR" else np.finfo(np.float32).tiny
    if function not in FUNCTIONS or not np.isfinite(level) or not narrowest <= width < np.inf:
        return None
    return level, width, function


def _holder(frame: Frame) -> Dataset:
    """Return what states the window: a functional group (PS3.3 C.7.6.16.2.10b), or the file."""
    dataset = frame.source.dataset
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (each[frame.index : frame.index + 1], shared[:1]):
        for group in groups:
            stated = group.get("FrameVOILUTSequence")
            if stated:
                return stated[0]
    return dataset


def _first(value: Any) -> float:
    """Return a number, the first of several, or NaN for none."""
    if isinstance(value, MultiValue):
        value = value[0] if len(value) else None
    return float("nan") if value in (None, "") else float(value)
