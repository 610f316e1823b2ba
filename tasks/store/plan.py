"""Turn cases into parts, in whole numbers that depend on nothing but the cases and the recipe."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

from tasks.imaging.recipe import FittedRecipe, output_dtype
from tasks.store.needs import CaseNeed, case_ms, masks_of, output_voxels, projected_memory
from tasks.store.schema import part_id, shard_cases, stored_shape

MOST_BYTES = 4 << 30
"""A part holds at most this much before compression, unless one case alone is larger."""

MOST_SECONDS = 600
"""A part is at most this much planned work, unless one case alone is more."""

PLANNED_SECONDS = 120
"""Most planned work a part gets by default: a task's 0.3 s stay below 0.3 %. What a kill leaves of
a part is taken up case by case, so that longer parts lose nothing."""

LEAST_SECONDS = 20
"""Least that a part gets where there is as much: a task's 0.3 s stay below 2 %."""

SHARED_BY = 32
"""Parts a job is cut into, where these limits leave room: at the end of a job workers wait for the
last part, on average for half of it."""

WAVE = 256
"""Parts a flow run; the flow loops over waves."""


@dataclass(frozen=True)
class PartPlan:
    """One part to be made."""

    part_id: str
    case_ids: tuple[str, ...]
    output_bytes: int
    """Before compression."""
    memory_bytes: int
    """Peak of one worker process."""
    seconds: int
    """Of one core."""


def plan_parts(
    needs: Iterable[CaseNeed],
    recipe: FittedRecipe,
    recipe_id: str,
    *,
    most_bytes: int = MOST_BYTES,
    most_seconds: int | None = None,
) -> tuple[PartPlan, ...]:
    """Divide cases into image parts.

    Parameters
    ----------
    needs : iterable of CaseNeed
        The order does not matter; a case named twice is planned once.
    recipe : FittedRecipe
    recipe_id : str
    most_bytes, most_seconds : int
        Limits of a part, at most `MOST_BYTES` and `MOST_SECONDS`; a case that alone is more gets
        a part of its own.  By default parts are as long as `planned_seconds` says.

    Returns
    -------
    tuple of PartPlan
        Packed parts hold whole shards wherever the limits leave room for one.

    Raises
    ------
    ValueError
        When a limit is not between 1 and its largest value, or two needs of one case differ.
    """
    _check_limit("most_bytes", most_bytes, MOST_BYTES)
    if most_seconds is not None:
        _check_limit("most_seconds", most_seconds, MOST_SECONDS)
    ordered = sorted(set(needs), key=attrgetter("case_id"))
    for first, second in pairwise(ordered):
        if first.case_id == second.case_id:
            raise ValueError(f"case {first.case_id} is given twice with other sizes: give it once")
    shape, dtype = stored_shape(recipe), output_dtype(recipe)
    rows = shard_cases(shape, dtype) if shape is not None else 1
    item = dtype.itemsize + masks_of(recipe)
    costs = [(item * output_voxels(need, recipe), case_ms(need, recipe)) for need in ordered]
    if most_seconds is None:
        most_seconds = planned_seconds(sum(spent for _, spent in costs) // 1000)
    parts, start = [], 0
    while start < len(ordered):
        stop = _fill(costs, start, most_bytes, most_seconds * 1000)
        if stop < len(ordered) and stop - start > rows:
            stop = start + (stop - start) // rows * rows
        parts.append(_part(ordered[start:stop], costs[start:stop], recipe, recipe_id))
        start = stop
    return tuple(parts)


def planned_seconds(seconds: int) -> int:
    """Return how long a part of a job of so many core seconds should be.

    It hangs on the work alone and not on the workers: the same cases are the same parts anywhere.
    """
    return min(max(seconds // SHARED_BY, LEAST_SECONDS), PLANNED_SECONDS)


def _check_limit(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ValueError(f"{name} is {value}: it must be from 1 to {most}")


def _fill(costs: Sequence[tuple[int, int]], start: int, most_bytes: int, most_ms: int) -> int:
    """Return where a part that begins at ``start`` ends: after at least one case."""
    size, spent = costs[start]
    stop = start + 1
    while stop < len(costs):
        size, spent = size + costs[stop][0], spent + costs[stop][1]
        if size > most_bytes or spent > most_ms:
            break
        stop += 1
    return stop


def _part(
    needs: Sequence[CaseNeed],
    costs: Sequence[tuple[int, int]],
    recipe: FittedRecipe,
    recipe_id: str,
) -> PartPlan:
    case_ids = tuple(need.case_id for need in needs)
    return PartPlan(
        part_id=part_id(case_ids, recipe_id, "image"),
        case_ids=case_ids,
        output_bytes=sum(size for size, _ in costs),
        memory_bytes=max(projected_memory(need, recipe) for need in needs),
        seconds=-(-sum(spent for _, spent in costs) // 1000),
    )


def waves(parts: Sequence[PartPlan], size: int = WAVE) -> tuple[tuple[PartPlan, ...], ...]:
    """Cut the parts into groups of at most ``size``, one a flow run."""
    return tuple(tuple(parts[at : at + size]) for at in range(0, len(parts), size))
