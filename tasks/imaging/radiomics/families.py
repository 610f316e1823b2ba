"""The table of families: what each needs and gives, by the name a scenario uses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tasks.imaging.radiomics import glcm, histogram, intensity, planar, run_lengths, shape
from tasks.imaging.radiomics.region import Region


@dataclass(frozen=True)
class Choices:
    """What families may be told beside the region."""

    glcm: tuple[str, ...] = ("3d_merged",)
    """Ways to put directions together."""
    hog_cells: int = 4
    """Cells along each side of the box."""


@dataclass(frozen=True)
class Family:
    """One family of numbers."""

    codes: Callable[[Choices], Mapping[str, str]]
    """Names of the numbers, known before any image, and their IBSI codes; of co-occurrence with
    the code of the aggregation; empty where IBSI defines none."""
    numbers: Callable[[Region, np.ndarray | None, int, Choices], Mapping[str, float]]
    """From region, grey levels, their number and the choices."""
    binned: bool
    """Whether it needs grey levels."""
    voxel_ns: int
    """Nanoseconds of one core a voxel of the region, for the plan; a way of co-occurrence."""

    def names(self, choices: Choices) -> tuple[str, ...]:
        """Return the names of the numbers in order."""
        return tuple(self.codes(choices))


def _column(aggregation: str) -> str:
    # A full stop in a column's name means something else to some programs.
    return aggregation.replace(".", "_")


def _glcm_codes(choices: Choices) -> dict[str, str]:
    return {
        f"{_column(way)}_{name}": f"{code} {glcm.AGGREGATIONS[way]}"
        for way in choices.glcm
        for name, code in glcm.CODES.items()
    }


def _glcm_numbers(
    region: Region, levels: np.ndarray | None, count: int, choices: Choices
) -> dict[str, float]:
    return {
        f"{_column(way)}_{name}": number
        for way in choices.glcm
        for name, number in glcm.glcm(levels, count, way).items()
    }


FAMILIES: Mapping[str, Family] = {
    "intensity": Family(
        lambda choices: intensity.CODES,
        lambda region, levels, count, choices: intensity.intensity(region),
        binned=False,
        voxel_ns=60,
    ),
    "histogram": Family(
        lambda choices: histogram.CODES,
        lambda region, levels, count, choices: histogram.histogram(levels, count),
        binned=True,
        voxel_ns=75,
    ),
    "shape": Family(
        lambda choices: shape.CODES,
        lambda region, levels, count, choices: shape.shape(region),
        binned=False,
        voxel_ns=100,
    ),
    "glcm": Family(_glcm_codes, _glcm_numbers, binned=True, voxel_ns=50),
    "hog": Family(
        lambda choices: dict.fromkeys(planar.hog_names(choices.hog_cells), ""),
        lambda region, levels, count, choices: planar.hog(region, choices.hog_cells),
        binned=False,
        voxel_ns=160,
    ),
    "lbp": Family(
        lambda choices: dict.fromkeys(planar.PATTERNS, ""),
        lambda region, levels, count, choices: planar.lbp(region, levels),
        binned=True,
        voxel_ns=160,
    ),
    "mirp": Family(
        lambda choices: dict.fromkeys(run_lengths.mirp_names(), ""),
        lambda region, levels, count, choices: run_lengths.mirp_numbers(levels),
        binned=True,
        voxel_ns=7_000,
    ),
}
