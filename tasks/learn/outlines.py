"""Outlines of findings put together as one mask, as a segmentation says it."""

from collections.abc import Sequence

import numpy as np

from tasks.learn.boxes import Findings


def class_map(found: Findings, shape: Sequence[int]) -> np.ndarray:
    """Return the outlines of findings as a label map.

    Parameters
    ----------
    found : Findings
    shape : (z, y, x)
        Of the grid the outlines lie on.

    Returns
    -------
    (z, y, x) uint8
        1 + class; 0 where nothing is outlined. Where two overlap the one of the higher score
        counts.
    """
    said = np.zeros(tuple(shape), np.uint8)
    for number in np.argsort(found.score, kind="stable"):
        outline = None if found.mask is None else found.mask[number]
        if outline is not None:
            said[outline] = found.label[number] + 1
    return said
