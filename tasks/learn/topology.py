"""Shape of a U-Net from the images and the memory: halvings, patch and batch.

The rules are those of nnU-Net v2 (Isensee et al. 2021, ``ExperimentPlanner``), with the memory of
the device as the one knob; pure functions of sizes.
"""

import math
from collections.abc import Sequence

MIN_BOTTLENECK = 4
"""Least voxels an axis keeps at the bottom of a U-Net (nnU-Net: 4)."""

POOLING_SPACING_RATIO = 2.0
"""An axis is halved only while its spacing is below this multiple of the finest poolable axis."""

REFERENCE_FEATURES = {2: 8.5e7, 3: 5.6e8}
"""Feature-map values of one sample that nnU-Net trains at the reference batch, by dimensions."""

REFERENCE_BATCH = {2: 12, 3: 2}
REFERENCE_GB = 8.0
"""Memory of the device those reference figures are for."""

CLASS_MAPS = 4
"""Class maps reckoned with at each level; beside the features their number hardly counts."""

MIN_BATCH = 2
"""Below two samples a forced-foreground sample would be the whole batch."""

MAX_BATCH = 64
"""Above this a small patch would give a batch of thousands, and an epoch of one step."""

DATASET_SHARE = 0.05
"""A batch covers at most this share of all training voxels (nnU-Net)."""


def plan_unet(
    wanted: tuple[int, int, int] | None,
    shape: tuple[int, ...],
    spacing: Sequence[float],
    features: tuple[int, ...],
    dims: int,
    gb: float,
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Return patch, strides and channels that fit the memory (nnU-Net rules 5 and 6).

    Parameters
    ----------
    wanted : (z, y, x) or None
        Patch in voxels that a candidate asks for; only padded then.
    shape : tuple of int
        (z, y, x) voxels of a typical image.
    spacing : sequence of float
        Millimetres (z, y, x).
    features : tuple of int
        Channels of each level, the finest first; the deepest are left out where axes are short.
    dims : int
        2 or 3.
    gb : float
        Memory of the device, in GB.

    Returns
    -------
    patch : (z, y, x)
    strides : tuple of (z, y, x) tuples
        Halvings between levels.
    channels : tuple of int
        One more than strides.
    """
    start = tuple(wanted) if wanted else tuple(shape)
    patch, strides = pooling(start, spacing, len(features) - 1)
    if wanted is None:
        limit = REFERENCE_FEATURES[dims] * gb / REFERENCE_GB
        share = REFERENCE_BATCH[dims] / MIN_BATCH
        while feature_values(patch, strides, features) > limit * share:
            axis = max(range(3), key=lambda a: patch[a] / shape[a])
            step = math.prod(s[axis] for s in strides)
            smaller = list(patch)
            smaller[axis] -= step
            if smaller[axis] < MIN_BOTTLENECK * 2:
                break
            patch, strides = pooling(smaller, spacing, len(features) - 1)
    return patch, strides, features[: len(strides) + 1]


def pooling(
    shape: Sequence[int], spacing: Sequence[float], levels: int
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Return how often each axis is halved, and the shape padded to fit.

    Parameters
    ----------
    shape : sequence of int
        (z, y, x) voxels.
    spacing : sequence of float
        Millimetres (z, y, x).
    levels : int
        Most halvings of an axis.

    Returns
    -------
    patch : tuple of int
        ``shape`` rounded up to multiples of 2 to the number of halvings.
    strides : tuple of (z, y, x) tuples
    """
    size, space, strides = [float(n) for n in shape], [float(s) for s in spacing], []
    while len(strides) < levels:
        large = [a for a in range(3) if size[a] >= 2 * MIN_BOTTLENECK]
        if not large:
            break
        finest = min(space[a] for a in large)
        axes = [a for a in large if space[a] < POOLING_SPACING_RATIO * finest]
        strides.append(tuple(2 if a in axes else 1 for a in range(3)))
        for a in axes:
            size[a], space[a] = size[a] / 2, space[a] * 2
    divisor = [math.prod(s[a] for s in strides) for a in range(3)]
    return tuple(-(-int(n) // d) * d for n, d in zip(shape, divisor, strict=True)), tuple(strides)


def feature_values(
    patch: Sequence[int], strides: Sequence[Sequence[int]], channels: Sequence[int]
) -> float:
    """Return the feature-map values one sample makes: two convolutions a level, down and up."""
    voxels, total = float(math.prod(patch)), 0.0
    for level, width in enumerate(channels[: len(strides) + 1]):
        if level:
            voxels /= math.prod(strides[level - 1])
        bottom = level == len(strides)
        # Encoder 2; decoder 2, the transposed convolution and the class maps, not at the bottom.
        total += voxels * (2 * width if bottom else 5 * width + CLASS_MAPS)
    return total


def plan_batch(
    patch: tuple[int, ...],
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    channels: tuple[int, ...],
    dims: int,
    gb: float,
    n_cases: int | None,
) -> int:
    """Return how many patches a batch holds, from `MIN_BATCH` to `MAX_BATCH`.

    Parameters
    ----------
    patch, shape : tuple of int
        (z, y, x) voxels of the patch, and of a typical image.
    strides, channels : tuples
        As `plan_unet` returns them.
    dims : int
        2 or 3.
    gb : float
        Memory of the device, in GB.
    n_cases : int or None
        Training cases; a batch covers at most `DATASET_SHARE` of their voxels.
    """
    limit = REFERENCE_FEATURES[dims] * gb / REFERENCE_GB
    batch = round(limit / feature_values(patch, strides, channels) * REFERENCE_BATCH[dims])
    if n_cases:
        voxels = n_cases * math.prod(shape)
        batch = min(batch, round(DATASET_SHARE * voxels / math.prod(patch)))
    return min(MAX_BATCH, max(MIN_BATCH, batch))
