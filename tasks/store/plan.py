"""Turn cases into parts, in whole numbers that depend on nothing but the cases and the recipe."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from operator import attrgetter

from tasks.imaging.columns import columns_of
from tasks.imaging.recipe import FittedRecipe, fixed_shape, output_dtype
from tasks.imaging.steps import find_step
from tasks.store.schema import SHARD_BYTES, channels_of, part_id, shard_cases, stored_shape
from tasks.store.sources import SLOWEST

MOST_BYTES = 4 << 30
"""A part holds at most this much before compression, unless one case alone is larger."""

MOST_SECONDS = 600
"""A part is at most this much planned work, unless one case alone is more."""

PLANNED_SECONDS = 60
"""Most planned work a part gets by default: a task costs 0.3 s, which stays below 1 %."""

LEAST_SECONDS = 20
"""Least that a part gets where there is as much: a task's 0.3 s stay below 2 %."""

SHARED_BY = 32
"""Parts a job is cut into, where these limits leave room: at the end of a job workers wait for the
last part, on average for half of it."""

WAVE = 256
"""Parts a flow run; the flow loops over waves."""

PROCESS_BYTES = 300 << 20
"""A worker with numpy, OpenCV and a decoder loaded, before it holds any voxel."""

SAMPLE_BYTES = 4
"""Voxels are float32 while the recipe works, whatever they are stored as."""

SOURCE_COPIES = 3
"""Decoded source, its float32 copy, and the next step's output at the same time."""

OUTPUT_COPIES = 3
"""Voxels that are stored, their encoded form, and what is read back."""

MEASURED_COPIES = 5
"""A region as large as the image: its box as numbers, sorted, as levels and as a solid."""

MASK_COPIES = 2
"""A mask and its next form, while a step's geometry carries it."""

COMPRESSION = 10
"""Unknown voxel counts are guessed as if files were this many times smaller than their voxels."""

SOURCE_SAMPLE_BYTES = 2
"""Bytes of a decoded source voxel, for the same guess."""

RESAMPLE_GROWTH = 4
"""Voxels a resampled case may have for each of its own: 2.5 mm slices of 0.7 mm pixels brought to
1 mm make 1.4, thick slices brought to thin ones more."""

STRAIGHTEN_GROWTH = 2
"""Voxels a straightened case may have for each of its own: 30 degrees over a stack as deep as it is
wide make 1.6; most cases of such a recipe are upright and make 1."""

MULTIPLE_GROWTH = 2
"""Voxels a case padded to multiples may have for each of its own; more only where an axis is
shorter than what it is a multiple of."""

CASE_MS = 30
"""Opening, certifying and committing a case, before any voxel."""

LIGHT_VOXELS_MS = 40_000
"""Source voxels one core takes through all steps that cost next to nothing in a millisecond, their
float32 copy included; reading them costs what `tasks.store.sources` says."""

OUTPUT_VOXELS_MS = 40_000
"""Output voxels resampled, encoded, hashed and read back in a millisecond by one core."""


MEASURED_VOXELS_MS = 1_500
"""Voxels of a region that one core measures in a millisecond, all IBSI families together."""


@dataclass(frozen=True)
class CaseNeed:
    """What planning knows of a case."""

    case_id: str
    source_bytes: int
    voxels: int
    """Decoded voxels of all its series, or 0 when not known."""
    voxels_ms: int = SLOWEST
    """Voxels one core reads in a millisecond, see `tasks.store.sources`."""
    reference_voxels: int = 0
    """Of a case of several series those of its reference."""


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


def source_voxels(need: CaseNeed) -> int:
    """Return the decoded voxels of a case, guessed from its files when not known."""
    return need.voxels or need.source_bytes * COMPRESSION // SOURCE_SAMPLE_BYTES


def output_voxels(need: CaseNeed, recipe: FittedRecipe) -> int:
    """Return the voxels a case has after the recipe: exact when packed, else a generous guess."""
    shape = stored_shape(recipe)
    if shape is not None:
        return prod(shape)
    n = channels_of(recipe)
    # All channels lie on the reference's grid, the missing ones too.
    voxels = prod(n) * (need.reference_voxels or source_voxels(need))
    for step in recipe.steps:
        if step.name == "resample":
            voxels *= RESAMPLE_GROWTH
        elif step.name == "straighten":
            voxels *= STRAIGHTEN_GROWTH
        elif step.name == "pad" and "multiple_of" in step.params:
            voxels = max(MULTIPLE_GROWTH * voxels, prod((*n, *step.params["multiple_of"])))
        elif step.name in ("resize", "pad"):
            voxels = max(voxels, prod((*n, *step.params["shape"])))
    return voxels


def measured_voxels(need: CaseNeed, recipe: FittedRecipe) -> int:
    """Return the most voxels a recipe's features steps can measure in a case; 0 without one."""
    if not columns_of(recipe):
        return 0
    return max(source_voxels(need), output_voxels(need, recipe))


def measured_memory(need: CaseNeed, recipe: FittedRecipe) -> int:
    """Return the bytes that measuring needs beside the image itself."""
    return MEASURED_COPIES * SAMPLE_BYTES * measured_voxels(need, recipe)


def masks_of(recipe: FittedRecipe) -> int:
    """Return how many masks a recipe makes, by the names its steps give them."""
    made: set[str] = set()
    for fitted in recipe.steps:
        step = find_step(fitted.name)
        made.update(step.marks(step.parameters.model_validate(fitted.params)))
    return len(made)


def projected_memory(need: CaseNeed, recipe: FittedRecipe) -> int:
    """Return the bytes one worker needs at its peak for this case.

    A pure function of sizes: the process, the source files, the decoded copies, the output's
    copies, those of the masks, what measuring needs and, for packed parts, the shard that is being
    filled and its encoded form.
    """
    copies = SOURCE_COPIES + max((find_step(s.name).copies for s in recipe.steps), default=0)
    masks = masks_of(recipe)
    of_source = copies * SAMPLE_BYTES + MASK_COPIES * masks
    source = need.source_bytes + of_source * source_voxels(need)
    output = OUTPUT_COPIES * (SAMPLE_BYTES + masks) * output_voxels(need, recipe)
    shard = 2 * SHARD_BYTES if fixed_shape(recipe) is not None else 0
    return PROCESS_BYTES + source + output + shard + measured_memory(need, recipe)


def too_large(needs: Iterable[CaseNeed], recipe: FittedRecipe, most: int) -> dict[str, int]:
    """Return case id -> projected bytes of the cases that a worker of ``most`` bytes cannot hold.

    A worker without a limit has ``most`` 0 and holds them all.
    """
    if not most:
        return {}
    # Archives hold many cases and few sizes.
    known: dict[tuple[int, int], int] = {}
    found = {}
    for need in needs:
        size = need.source_bytes, need.voxels
        if size not in known:
            known[size] = projected_memory(need, recipe)
        if known[size] > most:
            found[need.case_id] = known[size]
    return found


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


def case_ms(need: CaseNeed, recipe: FittedRecipe) -> int:
    """Return the planned milliseconds of one core for a case."""
    voxels = source_voxels(need)
    source = -(-voxels // need.voxels_ms) + -(-voxels // LIGHT_VOXELS_MS)
    heavy = voxels * _voxel_ns(recipe) // 1_000_000
    measured = -(-measured_voxels(need, recipe) // MEASURED_VOXELS_MS)
    output = -(-output_voxels(need, recipe) // OUTPUT_VOXELS_MS)
    return CASE_MS + source + heavy + measured + output


def _voxel_ns(recipe: FittedRecipe) -> int:
    """Return what the recipe's heavy steps cost a source voxel."""
    steps = ((find_step(fitted.name), fitted.params) for fitted in recipe.steps)
    return sum(step.voxel_ns(step.parameters.model_validate(params)) for step, params in steps)


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
