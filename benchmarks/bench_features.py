"""Radiomics of a lesion and of whole lungs: time and memory, beside mirp on the same voxels.

    python benchmarks/bench_features.py [--rounds 3]

A lesion is a ball of some 33,000 voxels in a smooth random volume.  mirp (the implementation behind
many of IBSI's consensus values, radloop[radiomics]) and our families measure intensity statistics,
histogram and co-occurrence (32 bins, 3-D merged) in turn; their values must agree.  Shape is
timed alone: mirp measures it together with autocorrelation, whose time grows with n squared.
"Lungs" is a region of four million voxels in 120 x 512 x 512, all four families.
"""

import argparse
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping

import numpy as np
from scipy.ndimage import gaussian_filter

from tasks.imaging.features import FeaturesParameters, codes
from tasks.imaging.radiomics import run_lengths
from tasks.imaging.step import FEATURES, Image
from tasks.imaging.steps import STEPS

FASTER_BAR = 5.0
"""Times faster than mirp: else the optional package would do for all."""

LUNGS_BAR_S = 10.0
"""Seconds of one core for whole lungs: what decoding and resampling such a series takes."""

AGREE = 3e-6
"""Relative: mirp keeps intensities in float32."""

NEAR_ZERO = 1e-6
"""Absolute: of skewness and kurtosis, which are nearly 0 here, float32 leaves so much."""

SAME = ["intensity", "histogram", "glcm"]


def volume(shape: tuple[int, int, int], radius: float, seed: int) -> Image:
    """Return a smooth random volume and the mask ``roi``: an ellipsoid, ``radius`` of its box."""
    rng = np.random.default_rng(seed)
    array = gaussian_filter(rng.normal(size=shape).astype(np.float32), 1.5) * 500
    index = np.ogrid[tuple(slice(0, n) for n in shape)]
    away = sum(((i - n / 2) / (n / 2)) ** 2 for i, n in zip(index, shape, strict=True))
    mask = (away < radius**2).astype(np.uint8)
    return Image(array, np.diag([1.5, 0.7, 0.7, 1.0])[[2, 1, 0, 3]], {"roi": mask})


def ours(image: Image, families: list[str]) -> Mapping[str, float]:
    """Measure with the recipe's step."""
    binned = {"bins": 32} if {"histogram", "glcm"} & set(families) else {}
    params = FeaturesParameters(families=families, mask="roi", **binned)
    _, trace = STEPS["features"].apply(image, params)
    return trace[FEATURES]


def by_mirp(image: Image) -> list[float]:
    """Measure the same with mirp, in our order."""
    from mirp import extract_features

    with run_lengths.silent():
        (table,) = extract_features(
            image=image.array,
            mask=image.masks["roi"].astype(np.int64),
            base_discretisation_method="fixed_bin_number",
            base_discretisation_n_bins=32,
            base_feature_families=["stat", "ih", "cm"],
        )
    row, kinds = table.iloc[0], ("stat_", "ih_", "cm_")
    return [float(row[name]) for kind in kinds for name in row.index if name.startswith(kind)]


def timed(work: Callable[[], object]) -> float:
    """Return seconds of core time."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    """Print each figure with its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, one thread")
    lesion = volume((40, 64, 64), 0.73, 1)
    values, theirs = list(ours(lesion, SAME).values()), by_mirp(lesion)
    np.testing.assert_allclose(values, theirs, rtol=AGREE, atol=NEAR_ZERO)
    own, other = [], []
    for _ in range(rounds):
        own.append(timed(lambda: ours(lesion, SAME)))
        other.append(timed(lambda: by_mirp(lesion)))
    ratio = statistics.median(b / a for a, b in zip(own, other, strict=True))
    print(f"lesion of {int(lesion.masks['roi'].sum()):,} voxels, {len(values)} equal numbers:")
    print(f"  radloop {statistics.median(own):.3f} s, mirp {statistics.median(other):.3f} s")
    met = ratio >= FASTER_BAR
    print(f"  {ratio:.1f} times faster (bar {FASTER_BAR:g}): {'met' if met else 'MISSED'}")
    print(f"  shape {timed(lambda: ours(lesion, ['shape'])):.3f} s")
    lungs = volume((120, 512, 512), 0.63, 2)
    families = ["intensity", "histogram", "shape", "glcm"]
    took = timed(lambda: ours(lungs, families))
    tracemalloc.start()
    ours(lungs, families)
    more = tracemalloc.get_traced_memory()[1] / 1e6
    names = codes(FeaturesParameters(families=families, mask="roi", bins=32))
    print(f"lungs of {int(lungs.masks['roi'].sum()):,} voxels, {len(names)} numbers:")
    lungs_met = took <= LUNGS_BAR_S
    print(f"  {took:.1f} s (bar {LUNGS_BAR_S:g}): {'met' if lungs_met else 'MISSED'}")
    print(f"  {more:,.0f} MB at most beside an image of {lungs.array.nbytes / 1e6:,.0f} MB")
    raise SystemExit(0 if met and lungs_met else 1)


if __name__ == "__main__":
    main()
