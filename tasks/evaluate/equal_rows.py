"""Rows of a table that are one patient's under two ids: equal in all columns, and not by chance.

Patients of whom few columns with few values are known are often equal, and copies of nobody. So
only numbers of which the table holds many are evidence, and each only as far as it tells more than
the columns before it: among the other patients who agree so far, it is counted who agrees in it as
well. That takes in what hangs together, such as values that were filled in for all that is missing.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, log2

import numpy as np

TELLING = 20
"""Different numbers from which on a column tells patients apart.

With fewer it is a code, a grade or a score, of which whole patterns recur in patients who are ill
alike.
"""

COPY = 1e-6
"""Pairs as equal that a table of this size is expected to hold by chance, up to which it is a copy.

So few, since evidence that nobody else shares is taken to be independent, which it seldom is whole.
"""

ALIKE = 0.05
"""The same, up to which a person should look."""

RECURRING = 5
"""Numbers that several patients have, from which on columns that part patients alike say one thing:
mm and cm. With fewer it is what was filled in.
"""

PATTERN = 0.05
"""Share of all rows from which on equal ones are a pattern, such as of patients of whom nothing was
measured and all was filled in; `FEWEST` of them at least."""

FEWEST = 10
"""Equal rows below which there is no pattern: somebody may be in a table several times."""

Row = tuple[Hashable, ...]


@dataclass(frozen=True)
class EqualRows:
    """Equal rows in different places of the split."""

    copies: tuple[tuple[str, str], ...] = ()
    """Pairs of case ids that chance does not explain."""
    alike: tuple[tuple[str, str], ...] = ()
    """Pairs that it may explain."""
    ordinary: int = 0
    """How many further rows are equal to one in another place, as is usual in such a table."""


def equal_rows(rows: Mapping[str, Sequence[Hashable]], place: Mapping[str, str]) -> EqualRows:
    """Return the rows that stand in two places.

    Parameters
    ----------
    rows : mapping of case id to values
        Numbers, texts and None for what is missing, of the same columns in the same order.
    place : mapping of case id to text
        Side or fold. A patient stands in one, so that two places are two patients.
    """
    held: dict[Row, list[str]] = {}
    for case_id in sorted(rows):
        held.setdefault(tuple(rows[case_id]), []).append(case_id)
    if all(len({place[one] for one in ids}) == 1 for ids in held.values()):
        return EqualRows()
    telling = _telling(list(held))
    found: dict[float, list[tuple[str, str]]] = {COPY: [], ALIKE: []}
    ordinary = 0
    for at, ids in enumerate(held.values()):
        if len({place[one] for one in ids}) == 1:
            continue
        pattern = len(ids) > max(FEWEST, PATTERN * len(rows))
        bits = 0.0 if pattern else _bits(at, telling)
        for limit, pairs in found.items():
            if log2(comb(len(rows), 2)) - bits <= log2(limit):
                pairs += [(a, b) for a, b in combinations(ids, 2) if place[a] != place[b]]
                break
        else:
            ordinary += len(ids)
    return EqualRows(tuple(found[COPY]), tuple(found[ALIKE]), ordinary)


def _telling(rows: Sequence[Row]) -> list[np.ndarray]:
    """Return the columns (n,) of numbers that tell patients apart, of rows that all differ."""
    found, known = [], set()
    for column in zip(*rows, strict=True):
        there = [value for value in column if value is not None]
        different = Counter(there)
        if len(different) < TELLING or any(isinstance(value, str) for value in different):
            continue
        if sum(count > 1 for count in different.values()) >= RECURRING:
            # What only says the same in another unit or power is no further evidence.
            first: dict[Hashable, int] = {}
            parts = tuple(first.setdefault(value, len(first)) for value in column)
            if parts in known:
                continue
            known.add(parts)
        found.append(np.array([np.nan if value is None else value for value in column], float))
    return found


def _bits(at: int, telling: Sequence[np.ndarray]) -> float:
    """Return how unlikely it is that another patient has the row of this place, in bits.

    What most of the others have comes first. Those who agree are counted down to nobody; the next
    columns are then evidence of their own, among all others again. A number that stands in several
    columns of the row counts once: where nothing was found all is 0.
    """
    agree = {}
    for column in telling:
        same = column == column[at]
        if same[at]:
            same[at] = False
            agree.setdefault(column[at], []).append(same)
    masks = [max(several, key=np.count_nonzero) for several in agree.values()]
    bits, so_far = 0.0, None
    for mask in sorted(masks, key=np.count_nonzero, reverse=True):
        before = len(mask) - 1 if so_far is None else np.count_nonzero(so_far)
        left = mask if so_far is None else so_far & mask
        after = np.count_nonzero(left)
        bits += log2((before + 1) / (after + 1))
        so_far = left if after else None
    return bits
