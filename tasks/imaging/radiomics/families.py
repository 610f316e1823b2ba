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

    names: Callable[[Choices], tuple[str, ...]]
    """Of the numbers, known before any image."""
    numbers: Callable[[Region, np.ndarray | None, int, Choices], Mapping[str, float]]
    """From region, grey levels, their number and the choices."""
    binned: bool
    """Whether it needs grey levels."""
    ibsi: Mapping[str, str] | None = None
    """Name of each number and its IBSI code; None where IBSI defines none of them."""


def _column(aggregation: str) -> str:
    # A full stop in a column's name means something else to some programs.
    return aggregation.replace(".", "_")


def _glcm_names(choices: Choices) -> tuple[str, ...]:
    return tuple(f"{_column(way)}_{name}" for way in choices.glcm for name in glcm.CODES)


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
        lambda choices: tuple(intensity.CODES),
        lambda region, levels, count, choices: intensity.intensity(region),
        binned=False,
        ibsi=intensity.CODES,
    ),
    "histogram": Family(
        lambda choices: tuple(histogram.CODES),
        lambda region, levels, count, choices: histogram.histogram(levels, count),
        binned=True,
        ibsi=histogram.CODES,
    ),
    "shape": Family(
        lambda choices: tuple(shape.CODES),
        lambda region, levels, count, choices: shape.shape(region),
        binned=False,
        ibsi=shape.CODES,
    ),
    "glcm": Family(_glcm_names, _glcm_numbers, binned=True, ibsi=glcm.CODES),
    "hog": Family(
        lambda choices: planar.hog_names(choices.hog_cells),
        lambda region, levels, count, choices: planar.hog(region, choices.hog_cells),
        binned=False,
    ),
    "lbp": Family(
        lambda choices: planar.PATTERNS,
        lambda region, levels, count, choices: planar.lbp(region, levels),
        binned=True,
    ),
    "mirp": Family(
        lambda choices: run_lengths.mirp_names(),
        lambda region, levels, count, choices: run_lengths.mirp_numbers(levels),
        binned=True,
    ),
}
