"""What each recipe step costs a source voxel of one core, beside what the plan takes it for.

    python benchmarks/bench_steps.py [--voxels 48 256 256] [--steps lung_mask resample ...]

A made chest: air, a body with two lungs and bone, noise; steps that need a mask get that of the
body, and steps of other modalities are named and left out. One round to warm up, then the best core
time of three. A step is planned badly when it costs twice what `Step.voxel_ns` and the plan's own
figure for a case say together: exit code 1.
"""

import argparse
import os
import platform
import sys
import time

import numpy as np

from tasks.errors import BadCase
from tasks.imaging.recipe import Image, apply, fit
from tasks.imaging.steps import STEPS, parse_steps
from tasks.store.needs import LIGHT_VOXELS_MS, OUTPUT_VOXELS_MS

ROUNDS = 3

NS_A_MS = 1_000_000

PLANNED_NS = NS_A_MS // LIGHT_VOXELS_MS + NS_A_MS // OUTPUT_VOXELS_MS
"""What the plan takes for any voxel that is worked on and stored, beside reading it."""

ALLOWED = 2.0

SPECIAL = {
    "resample": {"spacing": [2.0, 1.0, 1.0], "order": "cubic"},
    "resize": {"shape": [48, 192, 192]},
    "clip": {"low": -1000, "high": 1000},
    "window": {"name": "lung"},
    "gaussian": {"sigma": 1.2},
    "bilateral": {"sigma": 1.5, "sigma_value": 60},
    "non_local_means": {"sigma": 17},
    "total_variation": {"weight": 20},
    "anisotropic_diffusion": {"kappa": 40},
    "lee": {"noise": 0.1},
    "gamma": {"gamma": 0.5},
    "unsharp": {"amount": 0.7},
    "histogram_standard": {"standard": [0, 10, 20, 30, 40, 50, 60, 70, 80, 95, 100]},
    "store_as": {"dtype": "int16"},
    "crop": {"shape": "foreground", "threshold": -500},
    "pad": {"multiple_of": [32, 32, 32]},
    **{
        step: {"mask": "body"}
        for step in ("apply_mask", "crop_to_mask", "fill", "largest_components", "watershed")
    },
    "features": {
        "mask": "body",
        "families": ["intensity", "histogram", "shape", "glcm"],
        "resegment": [-1000, 1000],
        "bin_width": 25,
    },
}


def chest(shape: tuple[int, int, int]) -> Image:
    """Return a body of water in air, with two lungs and a spine, in noise, as a CT has it."""
    z, y, x = (np.linspace(-1, 1, n).reshape(s) for n, s in zip(shape, _AXES, strict=True))
    body = (y / 0.7) ** 2 + (x / 0.9) ** 2 + 0 * z < 1
    lungs = ((np.abs(x) - 0.42) / 0.3) ** 2 + (y / 0.45) ** 2 + (z / 0.9) ** 2 < 1
    spine = (x / 0.12) ** 2 + ((y - 0.5) / 0.12) ** 2 + 0 * z < 1
    values = -1000 + 1040 * body - 850 * (lungs & body) + 400 * spine
    noise = np.random.default_rng(3).normal(0, 15, shape)
    affine = np.diag([0.7, 0.7, 1.5, 1.0])[[2, 1, 0, 3]]
    masks = {"body": body.astype(np.uint8)}
    return Image((values + noise).astype(np.int16), affine, masks, {"modality": "CT"})


_AXES = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))


def cost(name: str, image: Image) -> tuple[float, int] | None:
    """Return measured and declared nanoseconds a voxel, or None for what a chest cannot have."""
    params = {"step": name, **SPECIAL.get(name, {})}
    array = image.array if name == "window" else image.array.astype(np.float32)
    image = Image(array, image.affine, image.masks if "mask" in params else {}, image.facts)
    try:
        recipe = fit(parse_steps([params]), None)
        taken = []
        for _ in range(ROUNDS + 1):
            begun = time.process_time()
            apply(recipe, image)
            taken.append(time.process_time() - begun)
    except (BadCase, ValueError) as error:
        print(f"{name:24} not measured: {' '.join(str(error).split())[:70]}", flush=True)
        return None
    step = STEPS[name]
    declared = step.voxel_ns(step.parameters.model_validate(recipe.steps[0].params))
    return 1e9 * min(taken[1:]) / image.array.size, declared


def main() -> int:
    """Print a line a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, nargs=3, default=(48, 256, 256))
    parser.add_argument("--steps", nargs="*", default=sorted(STEPS))
    asked = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores; ns of a core a source voxel")
    image, bad = chest(tuple(asked.voxels)), []
    for name in asked.steps:
        found = cost(name, image)
        if found is None:
            continue
        measured, declared = found
        planned = declared + PLANNED_NS
        mark = "" if measured <= ALLOWED * planned else "  PLANNED TOO LOW"
        bad += [name] if mark else []
        print(f"{name:24} {measured:8.0f}  planned {declared:6} + {PLANNED_NS}{mark}", flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
