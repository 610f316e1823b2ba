"""What a plan comes to: bytes, memory, waves and hours, and whether it fits.

The cost model of `docs/scale.md`: planned work is dealt out, the largest part first, to whichever
worker is free; a part, a wave and a run cost a fixed time each beside it.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.errors import RadloopError
from tasks.store.plan import WAVE, PartPlan, waves

START_SECONDS = 20
"""Prefect's server, Dask's workers and the first imports of both, once a run."""

WAVE_SECONDS = 2
"""A flow run: its states, its connection to Dask and its last log lines."""

PART_SECONDS = 0.3
"""A Prefect task on Dask, of a worker's time: settings, states, the import of the flow."""

BEST_COMPRESSION = 8
"""Parts are never planned smaller than this many times below their voxels: CT packs 2 to 3 times,
masks and empty background more. What does not fit even then is refused before it starts."""


@dataclass(frozen=True)
class Outlook:
    """A plan in numbers."""

    cases: int
    parts: int
    waves: int
    output_bytes: int
    """Before compression."""
    largest_bytes: int
    """Of one part, before compression: what lies in staging beside its part."""
    memory_bytes: int
    """Of one worker, at the peak of the part that needs most."""
    core_seconds: int
    wall_seconds: float
    workers: int


def outlook(parts: Sequence[PartPlan], workers: int) -> Outlook:
    """Sum up a plan.

    Parameters
    ----------
    parts : sequence of PartPlan
    workers : int
        Of one thread each.

    Raises
    ------
    ValueError
        When there is no worker.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: it must be 1 or more")
    return Outlook(
        cases=sum(len(part.case_ids) for part in parts),
        parts=len(parts),
        waves=len(waves(parts)),
        output_bytes=sum(part.output_bytes for part in parts),
        largest_bytes=max((part.output_bytes for part in parts), default=0),
        memory_bytes=max((part.memory_bytes for part in parts), default=0),
        core_seconds=sum(part.seconds for part in parts),
        wall_seconds=wall_seconds(parts, workers),
        workers=workers,
    )


def wall_seconds(parts: Sequence[PartPlan], workers: int) -> float:
    """Return how long a run lasts: the waves one after the other, each until its last part."""
    if not parts:
        return 0.0
    spent = float(START_SECONDS)
    for wave in waves(parts):
        spent += WAVE_SECONDS + _wave_seconds([part.seconds for part in wave], workers)
    return spent


def _wave_seconds(seconds: Sequence[int], workers: int) -> float:
    busy = [0.0] * workers
    for planned in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + planned + PART_SECONDS)
    return max(busy)


def describe(plan: Outlook) -> tuple[str, ...]:
    """Return an outlook in words, a line each: cases and parts, bytes, memory, time."""
    if not plan.parts:
        return ("nothing to make: every case is processed",)
    crew = "1 worker" if plan.workers == 1 else f"{plan.workers} workers"
    return (
        f"{plan.cases} cases in {plan.parts} parts, {_waves(plan.waves)} of at most {WAVE}",
        f"{_gigabytes(plan.output_bytes)} before compression",
        f"{_gigabytes(plan.memory_bytes)} of memory a worker",
        f"about {_time(plan.wall_seconds)} with {crew}, {_time(plan.core_seconds)} of one core",
    )


def describe_aside(large: Mapping[str, int], memory: int) -> str:
    """Say that cases are left for larger workers.

    Parameters
    ----------
    large : mapping of case id to int
        At least one, and the bytes each needs, see `tasks.store.needs.too_large`.
    memory : int
        Bytes of the smallest worker.
    """
    count = "1 case" if len(large) == 1 else f"{len(large)} cases"
    return (
        f"{count} set aside: {memory_detail(max(large.values()), memory)}; start fewer and larger "
        "workers, and the next run takes up what was set aside"
    )


def memory_detail(needed: int, memory: int) -> str:
    """Say how much memory a case needs and the smallest worker has."""
    return f"{_gigabytes(needed)} of memory needed, {_gigabytes(memory)} in the smallest worker"


def refuse_what_cannot_fit(
    parts: Sequence[PartPlan], free_bytes: int | None, scratch_bytes: int | None = None
) -> None:
    """Refuse a plan that the disk has no room for, before anything starts.

    Parameters
    ----------
    parts : sequence of PartPlan
    free_bytes : int or None
        Of the store's file system; None for a bucket.
    scratch_bytes : int, optional
        Of the disk on which the parts of a bucket are made.

    Raises
    ------
    RadloopError
        When the parts need more room than the store has, however well they compress.
    """
    if not parts:
        return
    # Staging holds a part's voxels as they are until the part is committed.
    staging = max(part.output_bytes for part in parts)
    least = sum(part.output_bytes for part in parts) // BEST_COMPRESSION + staging
    if free_bytes is not None and least > free_bytes:
        raise RadloopError(
            f"the plan needs at least {_gigabytes(least)} of disk and the store has "
            f"{_gigabytes(free_bytes)} free: make room, or set RADLOOP_STORE to a larger place"
        )
    if scratch_bytes is not None and staging > scratch_bytes:
        raise RadloopError(
            f"a part needs {_gigabytes(staging)} of disk until it is in the bucket, and "
            f"{_gigabytes(scratch_bytes)} are free: make room, or set RADLOOP_HOME elsewhere"
        )


def _waves(count: int) -> str:
    return "1 wave" if count == 1 else f"{count} waves"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def _time(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours"
