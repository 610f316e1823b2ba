"""Where the foreground of each training case is, so that patches can be centred on it.

Masks are read once, one a reading thread, and a fixed number of positions is kept of each.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tasks.learn.dataset import CaseSource

FOREGROUND_SAMPLES = 1000
"""Foreground positions remembered per class and case to centre forced patches on (nnU-Net 10,000;
three 16-bit numbers each, so a thousand cost 6 kB)."""

FOREGROUND_BYTES = 64 << 20
"""All positions together take no more; past 5,000 cases of two classes fewer are kept of each."""

_POSITION_BYTES = 3 * np.dtype(np.uint16).itemsize

Positions = tuple[np.ndarray, ...]
"""One (m, 3) uint16 array of indices (z, y, x) for each class that a case has."""


def find_foreground(
    source: CaseSource, case_ids: Sequence[str], n_classes: int, seed: int, *, readers: int
) -> dict[str, Positions]:
    """Return positions of the foreground of each case.

    Parameters
    ----------
    source : CaseSource
        Its labels are read, as many at once as there are readers.
    case_ids : sequence of str
    n_classes : int
        Background included.
    seed : int
    readers : int
        Threads; they change nothing but the time.
    """
    limit = positions_kept(len(case_ids), n_classes)

    def of_case(case_id: str) -> Positions:
        return positions(source.label(case_id), seed, limit)

    with ThreadPoolExecutor(max(1, readers)) as pool:
        return dict(zip(case_ids, pool.map(of_case, case_ids), strict=True))


def positions_kept(n_cases: int, n_classes: int) -> int:
    """Return how many positions a class of a case may keep, at least one."""
    together = n_cases * max(1, n_classes - 1) * _POSITION_BYTES
    return max(1, min(FOREGROUND_SAMPLES, FOREGROUND_BYTES // together))


def positions(label: np.ndarray, seed: int, limit: int = FOREGROUND_SAMPLES) -> Positions:
    """Return up to ``limit`` positions of each class of a mask, drawn without replacement.

    Slice by slice: a list of all foreground voxels would take eight times the mask.

    Parameters
    ----------
    label : ndarray (z, y, x)
        Integers; 0 is background.
    seed : int
    limit : int
    """
    rng = np.random.default_rng(seed)
    counts: dict[int, np.ndarray] = {}
    for z, plane in enumerate(label):
        for value, count in zip(*np.unique(plane[plane > 0], return_counts=True), strict=True):
            counts.setdefault(int(value), np.zeros(len(label), np.int64))[z] = count
    found = []
    for value in sorted(counts):
        n = int(counts[value].sum())
        ranks = rng.choice(n, min(n, limit), replace=False)
        found.append(_of_ranks(label, value, counts[value], ranks))
    return tuple(found)


def _of_ranks(label: np.ndarray, value: int, counts: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return where the voxels of a value stand, by their numbers in C order."""
    ends = np.cumsum(counts)
    planes = np.searchsorted(ends, ranks, side="right")
    out = np.empty((len(ranks), 3), np.uint16)
    for z in np.unique(planes):
        wanted = planes == z
        flat = np.flatnonzero(label[z] == value)[ranks[wanted] - (ends[z] - counts[z])]
        out[wanted, 0] = z
        out[wanted, 1:] = np.column_stack(np.unravel_index(flat, label.shape[1:]))
    return out
