"""What a case takes, by its sizes: voxels, bytes of a worker's memory, milliseconds of a core."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from tasks.imaging.columns import columns_of
from tasks.imaging.recipe import FittedRecipe, FittedStep, fixed_shape
from tasks.imaging.steps import find_step
from tasks.store.schema import SHARD_BYTES, channels_of, stored_shape
from tasks.store.sources import SLOWEST

PROCESS_BYTES = 300 << 20
"""A worker with numpy, OpenCV and a decoder loaded, before it holds any voxel."""

SAMPLE_BYTES = 4
"""Voxels are float32 while the recipe works, whatever they are stored as."""

SOURCE_COPIES = 3
"""Decoded source, its float32 copy, and the next step's output at the same time."""

OUTPUT_COPIES = 3
"""Voxels that are stored, their encoded form, and what is read back."""

GROWN_COPIES = 2
"""What a step took and what it gave, of an image that has grown and is cut to its shape after."""

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


def source_voxels(need: CaseNeed) -> int:
    """Return the decoded voxels of a case, guessed from its files when not known."""
    return need.voxels or need.source_bytes * COMPRESSION // SOURCE_SAMPLE_BYTES


def output_voxels(need: CaseNeed, recipe: FittedRecipe) -> int:
    """Return the voxels a case has after the recipe: exact when packed, else a generous guess."""
    shape = stored_shape(recipe)
    if shape is not None:
        return prod(shape)
    voxels = laid_voxels(need, recipe)
    for step in recipe.steps:
        voxels = _after(step, voxels, channels_of(recipe))
    return voxels


def grown_voxels(need: CaseNeed, recipe: FittedRecipe) -> int:
    """Return the most voxels a case may have on its way to one fixed shape; 0 where none grow.

    A recipe that resamples and then crops holds, for a while, more than it reads and stores.
    """
    if stored_shape(recipe) is None:
        return 0
    voxels, most = laid_voxels(need, recipe), 0
    for step in recipe.steps:
        if step.name == "resize":
            voxels = prod((*channels_of(recipe), *step.params["shape"]))
            continue
        after = _after(step, voxels, channels_of(recipe))
        if after > voxels:
            most = max(most, after)
        voxels = after
    return most


def laid_voxels(need: CaseNeed, recipe: FittedRecipe) -> int:
    """Return the voxels a case enters the recipe with.

    All channels lie on the reference's grid, the missing ones too.
    """
    return prod(channels_of(recipe)) * (need.reference_voxels or source_voxels(need))


def _after(step: FittedStep, voxels: int, n: tuple[int, ...]) -> int:
    """Guess the voxels that a step leaves of so many, where images have ``n`` channels."""
    if step.name == "resample":
        return voxels * RESAMPLE_GROWTH
    if step.name == "straighten":
        return voxels * STRAIGHTEN_GROWTH
    if step.name == "pad" and "multiple_of" in step.params:
        return max(MULTIPLE_GROWTH * voxels, prod((*n, *step.params["multiple_of"])))
    if step.name in ("resize", "pad"):
        return max(voxels, prod((*n, *step.params["shape"])))
    return voxels


def measured_voxels(need: CaseNeed, recipe: FittedRecipe) -> int:
    """Return the most voxels a recipe's features steps can measure in a case; 0 without one."""
    if not columns_of(recipe):
        return 0
    return max(source_voxels(need), grown_voxels(need, recipe), output_voxels(need, recipe))


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

    A pure function of sizes: the process, the source files, the decoded copies (of channels on the
    reference's grid), the output's copies or those of what was larger before it was cut, those of
    the masks, what measuring needs and, for packed parts, the shard that is being filled and its
    encoded form.
    """
    copies = SOURCE_COPIES + max((find_step(s.name).copies for s in recipe.steps), default=0)
    masks = masks_of(recipe)
    of_source = copies * SAMPLE_BYTES + MASK_COPIES * masks
    source = need.source_bytes + of_source * max(source_voxels(need), laid_voxels(need, recipe))
    stored = OUTPUT_COPIES * output_voxels(need, recipe)
    grown = GROWN_COPIES * grown_voxels(need, recipe)
    output = (SAMPLE_BYTES + masks) * max(stored, grown)
    shard = 2 * SHARD_BYTES if fixed_shape(recipe) is not None else 0
    return PROCESS_BYTES + source + output + shard + measured_memory(need, recipe)


def too_large(needs: Iterable[CaseNeed], recipe: FittedRecipe, most: int) -> dict[str, int]:
    """Return case id -> projected bytes of the cases that a worker of ``most`` bytes cannot hold.

    A worker without a limit has ``most`` 0 and holds them all.
    """
    if not most:
        return {}
    # Archives hold many cases and few sizes.
    known: dict[tuple[int, int, int], int] = {}
    found = {}
    for need in needs:
        size = need.source_bytes, need.voxels, need.reference_voxels
        if size not in known:
            known[size] = projected_memory(need, recipe)
        if known[size] > most:
            found[need.case_id] = known[size]
    return found


def case_ms(need: CaseNeed, recipe: FittedRecipe) -> int:
    """Return the planned milliseconds of one core for a case."""
    voxels = source_voxels(need)
    source = -(-voxels // need.voxels_ms) + -(-voxels // LIGHT_VOXELS_MS)
    heavy = voxels * _voxel_ns(recipe) // 1_000_000
    output = -(-output_voxels(need, recipe) // OUTPUT_VOXELS_MS)
    return CASE_MS + source + heavy + output


def _voxel_ns(recipe: FittedRecipe) -> int:
    """Return what the recipe's heavy steps cost a source voxel."""
    steps = ((find_step(fitted.name), fitted.params) for fitted in recipe.steps)
    return sum(step.voxel_ns(step.parameters.model_validate(params)) for step, params in steps)
