"""Grey level co-occurrence (IBSI family LFYI): 25 numbers, six ways to put directions together.

A matrix counts how often two grey levels are neighbours at Chebyshev distance 1 along a direction,
both ways round (Haralick 1973); both voxels must count.  4 directions lie in a slice, 13 in space.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tasks.imaging.radiomics.intensity import ratio

CODES: Mapping[str, str] = {
    "joint_maximum": "GYBY",
    "joint_average": "60VM",
    "joint_variance": "UR99",
    "joint_entropy": "TU9B",
    "difference_average": "TF7R",
    "difference_variance": "D3YU",
    "difference_entropy": "NTRS",
    "sum_average": "ZGXS",
    "sum_variance": "OEEB",
    "sum_entropy": "P6QZ",
    "angular_second_moment": "8ZQL",
    "contrast": "ACUI",
    "dissimilarity": "8S9J",
    "inverse_difference": "IB1Z",
    "normalised_inverse_difference": "NDRX",
    "inverse_difference_moment": "WF0Z",
    "normalised_inverse_difference_moment": "1QCO",
    "inverse_variance": "E8JP",
    "correlation": "NI2N",
    "autocorrelation": "QWB0",
    "cluster_tendency": "DG8W",
    "cluster_shade": "7NFM",
    "cluster_prominence": "AE86",
    "information_correlation_1": "R8DG",
    "information_correlation_2": "JN9H",
}
"""Name of each number and its IBSI code."""

AGGREGATIONS: Mapping[str, str] = {
    "2d_averaged": "BTW3",
    "2d_slice_merged": "SUJT",
    "2.5d_direction_merged": "JJUI",
    "2.5d_merged": "ZW7Z",
    "3d_averaged": "ITBB",
    "3d_merged": "IAZD",
}
"""Way to put slices and directions together and its IBSI code.

Averaged: numbers of every matrix, then their mean.  Merged: one matrix, then its numbers."""

Direction = tuple[int, int, int]

IN_PLANE: tuple[Direction, ...] = ((0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1))
"""The 4 directions (z, y, x) of a slice; their opposites are in the same matrix."""

IN_SPACE: tuple[Direction, ...] = (
    *IN_PLANE,
    *((1, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)),
)
"""The 13 directions (z, y, x) of a volume."""


def glcm(levels: np.ndarray, count: int, aggregation: str) -> dict[str, float]:
    """Return the numbers of co-occurrence, by the names of `CODES`.

    Parameters
    ----------
    levels : ndarray (z, y, x), int16
        Grey levels from 1, 0 outside.
    count : int
        Number of grey levels.
    aggregation : str
        One of `AGGREGATIONS`.

    Notes
    -----
    Matrices without a pair are left out of the mean, and so is a number that a matrix does not
    have (the correlation of one grey level); a number that no matrix has is nan.
    """
    sums, known = np.zeros(len(CODES)), np.zeros(len(CODES))
    for pairs in matrices(levels, count, aggregation):
        if pairs.any():
            row = np.array([_numbers(pairs)[name] for name in CODES])
            has = ~np.isnan(row)
            sums[has] += row[has]
            known += has
    mean = np.divide(sums, known, out=np.full(len(CODES), np.nan), where=known > 0)
    return dict(zip(CODES, mean.tolist(), strict=True))


def matrices(levels: np.ndarray, count: int, aggregation: str) -> Iterator[np.ndarray]:
    """Give the symmetric matrices (n, n) whose numbers are averaged, one at a time."""
    if aggregation == "2d_averaged":
        for plane in levels:
            for direction in IN_PLANE:
                yield _pairs(plane[None], count, (direction,))
    elif aggregation == "2d_slice_merged":
        for plane in levels:
            yield _pairs(plane[None], count, IN_PLANE)
    elif aggregation in ("2.5d_direction_merged", "3d_averaged"):
        for direction in IN_PLANE if aggregation.startswith("2.5d") else IN_SPACE:
            yield _pairs(levels, count, (direction,))
    else:
        yield _pairs(levels, count, IN_PLANE if aggregation.startswith("2.5d") else IN_SPACE)


def _pairs(levels: np.ndarray, count: int, directions: Sequence[Direction]) -> np.ndarray:
    """Count neighbours of each pair of grey levels, both ways round, (n, n) int64."""
    side = count + 1
    found = np.zeros(side * side, dtype=np.int64)
    for dz, dy, dx in directions:
        # A slice at a time: whole volumes of pair numbers would need many times the image.
        for z in range(levels.shape[0] - dz):
            here, there = _shifted(levels[z], levels[z + dz], dy, dx)
            numbers = here.astype(np.int32) * side + there
            found += np.bincount(numbers.ravel(), minlength=side * side)
    matrix = found.reshape(side, side)[1:, 1:]
    return matrix + matrix.T


def _shifted(
    plane: np.ndarray, other: np.ndarray, dy: int, dx: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels of a plane and their neighbours (dy, dx) on in the other."""
    rows, cols = plane.shape
    y, x = slice(max(0, -dy), rows - max(0, dy)), slice(max(0, -dx), cols - max(0, dx))
    to_y, to_x = slice(max(0, dy), rows + min(0, dy)), slice(max(0, dx), cols + min(0, dx))
    return plane[y, x], other[to_y, to_x]


def _numbers(pairs: np.ndarray) -> dict[str, float]:
    """Return the 25 numbers of one symmetric matrix (n, n) of counts."""
    p = pairs / pairs.sum()
    n = len(p)
    level = np.arange(1, n + 1, dtype=np.float64)
    i, j = level[:, None], level[None, :]
    apart = np.abs(i - j)
    off = p.sum(axis=1)
    mean = float((level * off).sum())
    variance = float((np.square(level - mean) * off).sum())
    difference = np.bincount(apart.astype(np.int64).ravel(), p.ravel(), minlength=n)
    total = np.bincount((i + j).astype(np.int64).ravel(), p.ravel(), minlength=2 * n + 1)
    steps, sums = np.arange(len(difference)), np.arange(len(total))
    difference_mean = float((steps * difference).sum())
    sum_mean = float((sums * total).sum())
    distant = apart > 0
    product = float((i * j * p).sum())
    cluster = i + j - 2 * mean
    return {
        "joint_maximum": float(p.max()),
        "joint_average": float((i * p).sum()),
        "joint_variance": float((np.square(i - mean) * p).sum()),
        "joint_entropy": _entropy(p),
        "difference_average": difference_mean,
        "difference_variance": float((np.square(steps - difference_mean) * difference).sum()),
        "difference_entropy": _entropy(difference),
        "sum_average": sum_mean,
        "sum_variance": float((np.square(sums - sum_mean) * total).sum()),
        "sum_entropy": _entropy(total),
        "angular_second_moment": float(np.square(p).sum()),
        "contrast": float((np.square(apart) * p).sum()),
        "dissimilarity": float((apart * p).sum()),
        "inverse_difference": float((p / (1 + apart)).sum()),
        "normalised_inverse_difference": float((p / (1 + apart / n)).sum()),
        "inverse_difference_moment": float((p / (1 + np.square(apart))).sum()),
        "normalised_inverse_difference_moment": float((p / (1 + np.square(apart / n))).sum()),
        "inverse_variance": float((p[distant] / np.square(apart[distant])).sum()),
        "correlation": ratio(product - mean * mean, variance),
        "autocorrelation": product,
        "cluster_tendency": float((np.square(cluster) * p).sum()),
        "cluster_shade": float((cluster**3 * p).sum()),
        "cluster_prominence": float((cluster**4 * p).sum()),
        **_information(p, off),
    }


def _information(p: np.ndarray, off: np.ndarray) -> dict[str, float]:
    """Return the two information correlations of a matrix and its marginal."""
    single, joint = _entropy(off), _entropy(p)
    both = off[:, None] * off[None, :]
    some = p > 0
    crossed = float(-(p[some] * np.log2(both[some])).sum())
    independent = _entropy(both)
    # Rounding may bring the joint entropy a hair above that of independent levels.
    gain = max(0.0, independent - joint)
    return {
        "information_correlation_1": ratio(joint - crossed, single),
        "information_correlation_2": float(np.sqrt(1 - np.exp(-2 * gain))),
    }


def _entropy(p: np.ndarray) -> float:
    some = p[p > 0]
    return float(-(some * np.log2(some)).sum()) + 0.0
