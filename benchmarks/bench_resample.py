"""Resampling beside scipy, SimpleITK, torch and MONAI: the same grid, one thread, one run.

    python benchmarks/bench_resample.py [--slices 60] [--rounds 3]

A CT-like volume of 512 x 512 slices, 2.5 x 0.7 x 0.7 mm, to 1 mm. All run on one thread, so CPU
seconds are counted; rounds alternate, so that other load on the machine meets all alike, and the
best of each is compared. Results are compared too: where
a peer interpolates the same curve between the same voxel centres, ours must equal it. Ends with 1
when a ratio is below its bar. Peers that are not installed are named and left out.
"""

import argparse
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(ONE_THREAD, "1"))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import SimpleITK  # noqa: E402
from scipy.ndimage import gaussian_filter, zoom  # noqa: E402

from tasks.imaging.regrid import to_itk  # noqa: E402
from tasks.imaging.resample import resize_linear, resize_nearest, resize_onehot  # noqa: E402
from tasks.imaging.spline import resize_cubic  # noqa: E402
from tasks.imaging.step import Shape  # noqa: E402

SIDE, SPACING = 512, (2.5, 0.7, 0.7)

EQUAL_HU = 0.02
"""Largest difference from a peer of the same curve, of values from -1000 to 1500: float32."""

Resize = Callable[[np.ndarray, Shape], np.ndarray]

BARS = {("cubic", "scipy"): 5.0, ("linear", "scipy"): 10.0}
"""Least ratio of speeds, ours over the peer's."""


def volume(slices: int) -> np.ndarray:
    """Return correlated noise within a body, float32 HU, (z, y, x)."""
    noise = np.random.default_rng(0).normal(0, 400, (slices, SIDE, SIDE)).astype(np.float32)
    y, x = np.indices((SIDE, SIDE))
    body = ((y - 256) / 190) ** 2 + ((x - 256) / 240) ** 2 < 1
    return np.where(body, gaussian_filter(noise, (1, 2, 2)) * 8, -1000).clip(-1000, 1500)


def by_scipy(order: int) -> Resize:
    """Return scipy's zoom between voxel centres."""
    return lambda array, shape: zoom(
        array, np.divide(shape, array.shape), order=order, grid_mode=True, mode="nearest"
    )


def by_itk(interpolator: int) -> Resize:
    """Return SimpleITK's resampling on the same field of view."""

    def run(array: np.ndarray, shape: Shape) -> np.ndarray:
        scale = np.divide(array.shape, shape)
        grid = np.eye(4)[[2, 1, 0, 3]]
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = np.diag(scale), (scale - 1) / 2
        image, wished = to_itk(array, grid), grid @ step
        spacing, origin = scale[::-1].tolist(), wished[:3, 3].tolist()
        identity = SimpleITK.Transform(3, SimpleITK.sitkIdentity)
        done = SimpleITK.Resample(
            image, shape[::-1], identity, interpolator, origin, spacing, image.GetDirection(), 0.0
        )
        return SimpleITK.GetArrayFromImage(done)

    return run


def by_torch(mode: str) -> Resize:
    """Return torch's interpolate, which works between voxel centres as ours does."""
    import torch

    def run(array: np.ndarray, shape: Shape) -> np.ndarray:
        tensor = torch.from_numpy(array)[None, None]
        smooth = {"align_corners": False} if mode == "trilinear" else {}
        return torch.nn.functional.interpolate(tensor, size=shape, mode=mode, **smooth)[
            0, 0
        ].numpy()

    return run


def by_monai(mode: str) -> Resize:
    """Return MONAI's Resize, the transform of its training recipes that asks for a shape."""
    from monai.transforms import Resize as MonaiResize

    def run(array: np.ndarray, shape: Shape) -> np.ndarray:
        return np.asarray(MonaiResize(shape, mode=mode)(array[None]))[0]

    return run


def onehot_by_scipy(label: np.ndarray, shape: Shape) -> np.ndarray:
    """Resize a mask as nnU-Net does at order 1."""
    out = np.zeros(shape, label.dtype)
    for value in np.unique(label):
        out[by_scipy(1)((label == value).astype(np.float32), shape) >= 0.5] = value
    return out


def rows(torch_there: bool, monai_there: bool) -> dict[str, tuple[Resize, dict[str, Resize]]]:
    """Return what is compared: name -> (ours, peers), masks last."""
    linear = {"scipy": by_scipy(1), "SimpleITK": by_itk(SimpleITK.sitkLinear)}
    if torch_there:
        linear["torch"] = by_torch("trilinear")
    if monai_there:
        linear["MONAI"] = by_monai("trilinear")
    cubic = {"scipy": by_scipy(3), "SimpleITK": by_itk(SimpleITK.sitkBSpline)}
    nearest = {"scipy": by_scipy(0), "SimpleITK": by_itk(SimpleITK.sitkNearestNeighbor)}
    return {
        "linear": (resize_linear, linear),
        "cubic": (resize_cubic, cubic),
        "mask nearest": (resize_nearest, nearest),
        "mask one-hot": (resize_onehot, {"scipy": onehot_by_scipy}),
    }


def compare(
    name: str, ours: Resize, peers: dict[str, Resize], array: np.ndarray, shape: Shape, rounds: int
) -> bool:
    """Print a line a peer; return whether every ratio reached its bar and every result is equal."""
    ways, best, results = {"radloop": ours, **peers}, {}, {}
    for _ in range(rounds):
        for who, way in ways.items():
            begun = time.process_time()
            results[who] = way(array, shape)
            taken = time.process_time() - begun
            best[who] = min(best.get(who, taken), taken)
    good = True
    print(f"{name:14} radloop {best['radloop']:7.2f} s")
    for who in peers:
        ratio, bar = best[who] / best["radloop"], BARS.get((name, who))
        apart = np.abs(results[who].astype(np.float32) - results["radloop"])
        if array.dtype == np.uint8:
            equal = f"{np.mean(apart > 0):.4%} of voxels differ"
        else:
            equal = f"largest difference {apart.max():.4f} HU"
            good &= who != "scipy" or float(apart.max()) <= EQUAL_HU
        wanted = f", bar {bar:g}" if bar else ""
        missed = bar is not None and ratio < bar
        good &= not missed
        print(
            f"{'':14} {who:9} {best[who]:5.2f} s  {ratio:5.1f}x{wanted}"
            f"{' MISSED' if missed else ''}  ({equal})"
        )
    return good


def main() -> int:
    """Print CPU seconds and ratios; end with 1 when one is below its bar or a result differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    there = {name: importlib.util.find_spec(name) is not None for name in ("torch", "monai")}
    cv2.setNumThreads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if there["torch"]:
        import torch

        torch.set_num_threads(1)
    for name in [name for name, found in there.items() if not found]:
        print(f"{name} is not installed: left out")
    array = volume(asked.slices)
    shape = tuple(round(n * mm) for n, mm in zip(array.shape, SPACING, strict=True))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, one thread; {array.shape} to {shape}, "
        f"best of {asked.rounds}"
    )
    mask = np.digitize(array, [-500, 0, 300]).astype(np.uint8)
    good = True
    for name, (ours, peers) in rows(there["torch"], there["monai"]).items():
        given = mask if name.startswith("mask") else array
        good &= compare(name, ours, peers, given, shape, asked.rounds)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
