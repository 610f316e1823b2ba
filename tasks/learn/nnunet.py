"""nnU-Net's rules for the shape of a network: what to train, from the images and the memory alone.

Isensee et al. 2021, Nature Methods 18, 203, supplementary note 2, and the planners of nnU-Net v2
(``ExperimentPlanner``, ``ResEncUNetPlanner``). Pure functions of sizes; memory is the one knob.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MIN_BOTTLENECK = 4
"""Least voxels an axis keeps at the bottom of the network."""

LONE_AXIS = 3
"""An axis that would be halved alone must have this many times `MIN_BOTTLENECK` voxels."""

NEAR = 2.0
"""Axes whose spacings are within this ratio are treated alike."""

BASE_FEATURES = 32
MOST_FEATURES = {2: 512, 3: 320}
"""Channels of the first stage, and the most of any; each stage has twice those before it."""

START_VOXELS = {2: 2048**2, 3: 256**3}
"""Voxels of the patch that planning begins with."""

REFERENCE_GB = 8.0
REFERENCE_BATCH = {2: 12, 3: 2}
REFERENCE_VALUES = {False: {2: 8.5e7, 3: 5.6e8}, True: {2: 1.35e8, 3: 6.8e8}}
"""Values of feature maps that fit into 8 GB at the reference batch; plain and residual encoder."""

MIN_BATCH = 2
DATASET_SHARE = 0.05
"""A batch covers at most this share of all voxels of the training images."""

ENCODER_BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6, 6)
"""Blocks of a residual encoder, stage by stage (ResEnc presets)."""


@dataclass(frozen=True)
class Topology:
    """A patch, and how the network's stages halve it; axes are (z, y, x)."""

    patch: tuple[int, int, int]
    strides: tuple[tuple[int, int, int], ...]
    """Halvings between consecutive stages."""
    kernels: tuple[tuple[int, int, int], ...]
    """Sides of the convolutions of each stage."""

    @property
    def divisor(self) -> tuple[int, int, int]:
        """Number (z, y, x) of which every input size must be a multiple."""
        return tuple(math.prod(s[axis] for s in self.strides) for axis in range(3))


@dataclass(frozen=True)
class Planned:
    """Topology with its width and the batch that memory allows."""

    topology: Topology
    features: tuple[int, ...]
    batch: int


def pooling(
    shape: Sequence[int], spacing: Sequence[float], dims: int, levels: int | None = None
) -> Topology:
    """Return how often each axis is halved, and the shape padded to fit (rule 5).

    Parameters
    ----------
    shape : sequence of int
        (z, y, x) voxels; z is 1 and left alone when ``dims`` is 2.
    spacing : sequence of float
        Millimetres (z, y, x).
    dims : int
    levels : int, optional
        Most halvings of an axis.
    """
    axes = range(3 - dims, 3)
    size, space = [int(n) for n in shape], [float(s) for s in spacing]
    kernel = [1, 1, 1]
    strides: list[tuple[int, ...]] = []
    kernels: list[tuple[int, ...]] = []
    while levels is None or len(strides) < levels:
        halved = [a for a in axes if size[a] >= 2 * MIN_BOTTLENECK]
        if not halved:
            break
        finest = min(space[a] for a in halved)
        halved = [a for a in halved if space[a] / finest < NEAR]
        if len(halved) == 1 and size[halved[0]] < LONE_AXIS * MIN_BOTTLENECK:
            break
        kernel = _grown(kernel, space, axes)
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if a in halved else 1 for a in range(3)))
        for a in halved:
            size[a], space[a] = -(-size[a] // 2), space[a] * 2
    # The bottleneck sees along every axis.
    kernels.append(tuple(3 if a in axes else 1 for a in range(3)))
    divisor = [math.prod(s[a] for s in strides) for a in range(3)]
    patch = tuple(-(-int(n) // d) * d for n, d in zip(shape, divisor, strict=True))
    return Topology(patch, tuple(strides), tuple(kernels))


def _grown(kernel: Sequence[int], space: Sequence[float], axes: range) -> list[int]:
    """Return the kernel, 3 for good along axes whose spacing has come near the finest."""
    finest = min(space[a] for a in axes)
    return [3 if a in axes and space[a] / finest < NEAR else kernel[a] for a in range(3)]


def widths(stages: int, dims: int) -> tuple[int, ...]:
    """Return the channels of each stage."""
    return tuple(min(MOST_FEATURES[dims], BASE_FEATURES * 2**i) for i in range(stages))


def feature_values(
    topology: Topology, features: Sequence[int], n_classes: int, *, residual: bool
) -> int:
    """Return how many values the convolutions of one sample's forward pass make.

    Plain: two convolutions a stage, down and up. Residual encoder: a stem, then `ENCODER_BLOCKS` of
    two convolutions and, where shape or width change, one beside them; one convolution a stage up.
    """
    voxels, total = math.prod(topology.patch), 0
    last = len(topology.strides)
    for stage, width in enumerate(features):
        if stage:
            voxels //= math.prod(topology.strides[stage - 1])
        maps = 2 * ENCODER_BLOCKS[min(stage, len(ENCODER_BLOCKS) - 1)] if residual else 2
        if residual:
            # Beside the first block of a deeper stage; the first stage has the stem instead.
            maps += 1
        if stage < last:
            maps += (1 if residual else 2) + 1  # the way up, and the transposed convolution
        total += voxels * width * maps
    return total + math.prod(topology.patch) * n_classes


def plan_shape(
    shape: Sequence[int],
    spacing: Sequence[float],
    n_classes: int,
    *,
    dims: int,
    gb: float,
    residual: bool = False,
    n_cases: int | None = None,
    patch: Sequence[int] | None = None,
    features: Sequence[int] | None = None,
) -> Planned:
    """Return topology, width and batch of a network that fits the memory (rules 5 and 6).

    Parameters
    ----------
    shape : sequence of int
        (z, y, x): the median shape of the prepared training images.
    spacing : sequence of float
        Millimetres (z, y, x) of the prepared images.
    n_classes : int
        Maps the network ends in.
    dims : int
        2 or 3; a 2-D network looks at planes (y, x).
    gb : float
        Memory to be filled.
    residual : bool
        A residual encoder instead of a plain one.
    n_cases : int, optional
        Training images; without it a batch may cover any share of them.
    patch, features : sequence of int, optional
        Given instead of planned; the number of ``features`` limits the stages.
    """
    levels = None if features is None else len(features) - 1
    limit = REFERENCE_VALUES[residual][dims] * gb / REFERENCE_GB
    reference = REFERENCE_BATCH[dims]

    def values(one: Topology) -> int:
        return feature_values(one, _features(one), n_classes, residual=residual)

    def _features(one: Topology) -> tuple[int, ...]:
        stages = len(one.kernels)
        return widths(stages, dims) if features is None else tuple(features)[:stages]

    start = tuple(patch) if patch else _start(shape, spacing, dims)
    found = pooling(start, spacing, dims, levels)
    # A plain network must fit with a batch of two, a residual one with the reference batch.
    share = 1.0 if residual else reference / MIN_BATCH
    while patch is None and values(found) > limit * share:
        axis = max(range(3 - dims, 3), key=lambda a: (found.patch[a] / shape[a], a))
        smaller = list(found.patch)
        smaller[axis] -= found.divisor[axis]
        # The step is that of the smaller patch's own topology, or sizes would be left out.
        step = pooling(smaller, spacing, dims, levels).divisor[axis]
        smaller[axis] = found.patch[axis] - step
        if smaller[axis] < MIN_BOTTLENECK:
            break
        found = pooling(smaller, spacing, dims, levels)
    batch = round(limit / values(found) * reference)
    if n_cases is not None:
        batch = min(
            batch, round(DATASET_SHARE * n_cases * math.prod(shape) / math.prod(found.patch))
        )
    return Planned(found, _features(found), max(MIN_BATCH, batch))


def _start(shape: Sequence[int], spacing: Sequence[float], dims: int) -> tuple[int, ...]:
    """Return a patch of equal sides in mm, clipped to the images."""
    inverse = [1 / s for s in spacing[3 - dims :]]
    scale = (START_VOXELS[dims] / math.prod(inverse)) ** (1 / dims)
    sides = [min(round(i * scale), n) for i, n in zip(inverse, shape[3 - dims :], strict=True)]
    return (*([1] * (3 - dims)), *sides)
