"""Regions: unions of a mask's labels that are learned and measured as wholes, as BraTS does.

Whole tumour, tumour core and enhancing tumour overlap, so that each is a yes or no of its own for
every voxel.  nnU-Net v2 trains them so (documentation/region_based_training.md) and writes them
back to one label map in their order: a later region overwrites an earlier one.

BraTS has changed its numbers over the years; `PRESETS` knows those of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from tasks.errors import BadCase

Sets = tuple[tuple[int, ...], ...]
"""Label values of each region, in the order in which regions are written."""

Regions = tuple[tuple[str, tuple[int, ...]], ...]
"""Name and label values of each region, in that order."""

Numbers = tuple[tuple[int, int], ...]
"""Value in a mask's file, value here; no other value but 0 may stand in the file."""


INSIDE = 0.5
"""Probability above which a voxel is in a region (nnU-Net)."""


@dataclass(frozen=True)
class Preset:
    """The labels of one year of BraTS."""

    classes: tuple[str, ...]
    """In the order of their values here, from 1."""
    numbers: Numbers
    regions: Regions


ENHANCING = 3
"""Value here of enhancing tumour, whatever its value in a file."""

_GLIOMA = (("WT", (1, 2, 3)), ("TC", (1, 3)), ("ET", (ENHANCING,)))
_PARTS = ("necrosis", "oedema", "enhancing")

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "brats2021": Preset(_PARTS, ((1, 1), (2, 2), (4, 3)), _GLIOMA),
        "brats2023": Preset(_PARTS, ((1, 1), (2, 2), (3, 3)), _GLIOMA),
        "brats2024": Preset(
            (*_PARTS, "cavity"), ((1, 1), (2, 2), (3, 3), (4, 4)), (*_GLIOMA, ("RC", (4,)))
        ),
    }
)
"""Glioma: until 2021 the enhancing tumour is 4 and there is no 3; since 2023 it is 3, and since
2024 (after treatment) 4 is the resection cavity.  Children, meningiomas and metastases have other
numbers."""


def values_of(regions: Regions) -> Sets:
    """Return the label values of each region."""
    return tuple(values for _, values in regions)


def written_labels(sets: Sets) -> tuple[int, ...]:
    """Return the value that each region writes: its one label that no later region holds.

    Raises
    ------
    ValueError
        Where that is not one label; says of which region, by its place from 0.
    """
    found = []
    for place, values in enumerate(sets):
        own = set(values).difference(*sets[place + 1 :])
        if len(own) != 1:
            raise ValueError(
                f"region {place} leaves {len(own)} labels to itself ({sorted(own)}) beside those "
                "of later regions; it must leave one, or a label map could not hold it: name "
                "regions from the largest to the smallest, e.g. WT: [1, 2, 3], TC: [1, 3], ET: [3]"
            )
        found.append(own.pop())
    return tuple(found)


def regions_in(labels: np.ndarray, sets: Sets) -> np.ndarray:
    """Return where each region is in a label map (z, y, x): (r, z, y, x) bool."""
    return np.stack([np.isin(labels, values) for values in sets])


def written(inside: Sequence[np.ndarray] | np.ndarray, sets: Sets) -> np.ndarray:
    """Return the label map of regions: later ones overwrite earlier ones.

    Parameters
    ----------
    inside : r arrays (z, y, x) of bool
    sets : Sets

    Returns
    -------
    (z, y, x) uint8
    """
    found = np.zeros(np.shape(inside[0]), np.uint8)
    for here, value in zip(inside, written_labels(sets), strict=True):
        found[here] = value
    return found


def renumbered(labels: np.ndarray, numbers: Numbers) -> np.ndarray:
    """Return a file's label map in the numbers that are used here.

    Raises
    ------
    BadCase
        ``unknown_label``: it holds a value that the numbers do not know.
    """
    here = dict(numbers)
    there = [int(value) for value in np.unique(labels) if value]
    if strange := [value for value in there if value not in here]:
        known = ", ".join(map(str, sorted({0, *here})))
        years = [name for name, one in PRESETS.items() if set(there) <= dict(one.numbers).keys()]
        fits = f"; {' and '.join(years)} would know all of its values" if years else ""
        detail = f"the mask holds the value {strange[0]}, and the scenario's regions know {known}"
        raise BadCase("unknown_label", detail + fits)
    table = np.zeros(max(there, default=0) + 1, labels.dtype)
    for value, number in numbers:
        if value < len(table):
            table[value] = number
    return table[labels]
