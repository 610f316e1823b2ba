"""The output of every step is that of its version.

A changed output needs a raised version: then run `python -m tests.imaging.test_golden`.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from tasks.hashing import digest_json
from tasks.imaging.columns import numbers_of
from tasks.imaging.recipe import Image
from tasks.imaging.steps import STEPS
from tests.imaging.masks import examples as mask_examples
from tests.imaging.pictures import leaning, picture, run

GOLDEN = Path(__file__).with_name("golden.json")

GOLDEN_DECIMALS = 3
"""Outputs are rounded to this before the digest: CPUs differ in the last bits of a float32."""

ROUNDING_GUARD = 0.05
"""A value this near to a rounding border (in units of the last kept decimal) is moved off it, so
that the last bits of a float32 cannot flip the digest."""

TOLERANT = {
    "anisotropic_diffusion",
    "bias_correction",
    "bilateral",
    "gamma",
    "gaussian",
    "histogram_standard",
    "lee",
    "log_compress",
    "non_local_means",
    "resample",
    "total_variation",
    "unsharp",
}
"""Steps whose every voxel is a sum or a power that CPUs round otherwise: quantiles are kept of
them instead of a digest, which one voxel at a rounding border would change."""

GOLDEN_SHARE = 1e-4
"""Such a quantile may move by this share of the output's range; rounding moves it by 1e-6."""

EXAMPLES = {
    "window": [
        {"name": "lung"},
        {"level": 50, "width": 200},
        {"level": 50, "width": 200, "function": "linear"},
    ],
    "clip": [{"low": -10, "high": 200}],
    "percentile_clip": [{}, {"low": 2, "high": 90}],
    "clahe": [{}, {"clip_limit": 4.0, "tiles": 2}],
    "normalise": [
        {},
        {"method": "minmax"},
        {"method": "fingerprint"},
        {"method": "nonzero_zscore"},
        {"method": "percentile"},
    ],
    "median": [{}, {"size": 7}, {"dimensions": 3}],
    "gaussian": [{"sigma": 1.2}, {"sigma": 1.5, "unit": "voxels", "dimensions": 3}],
    "bilateral": [
        {"sigma": 1.5, "sigma_value": 60},
        {"sigma": 1.0, "sigma_value": 60, "unit": "mm", "dimensions": 3},
    ],
    "non_local_means": [{"sigma": 17}, {"patch": 3, "reach": 2, "sigma": 17, "dimensions": 3}],
    "total_variation": [{"weight": 20}, {"weight": 20, "iterations": 30, "dimensions": 3}],
    "anisotropic_diffusion": [{"kappa": 40}, {"kappa": 40, "edge": "rational", "dimensions": 3}],
    "lee": [{"noise": 0.1}, {"kind": "additive", "size": 5, "dimensions": 3}],
    "log_compress": [{}],
    "gamma": [{"gamma": 0.5}],
    "unsharp": [{"amount": 0.7}, {"sigma": 2.0, "unit": "mm", "dimensions": 3}],
    "bias_correction": [{"shrink": 2, "iterations": [5, 5]}],
    "histogram_standard": [{"standard": [0, 10, 20, 30, 40, 50, 60, 70, 80, 95, 100]}],
    "store_as": [{"dtype": "int16"}, {"dtype": "float16"}],
    "reorient": [{}, {"orientation": "AIR"}],
    "resample": [
        {"spacing": [1.5, 1.0, 2.0]},
        {"spacing": "median"},
        {"spacing": [1.5, 1.0, 0.7], "order": "cubic"},
        {"spacing": "median", "order": "cubic", "thick_axis": "cubic"},
    ],
    "resize": [{"shape": [4, 9, 40]}],
    "crop": [{"shape": [4, 10, 100]}, {"shape": "foreground", "threshold": 200, "margin": 1}],
    "pad": [
        {"shape": [9, 30, 10]},
        {"shape": [9, 30, 10], "value": -5},
        {"multiple_of": [4, 16, 32]},
    ],
    "pad_square": [{}],
    **mask_examples.EXAMPLES,
    "features": [
        {"families": ["intensity", "hog"]},
        {
            "families": ["intensity", "histogram", "shape", "glcm", "lbp"],
            "mask": "ball",
            "bin_width": 25,
            "resegment": [0, 600],
            "glcm": ["2d_averaged", "3d_merged"],
        },
    ],
    "straighten": [{}],
}

PICTURES = {
    **mask_examples.PICTURES,
    "features": picture(marked=True),
    "straighten": leaning(),
    "log_compress": Image(np.abs(picture().array), picture().affine),
}
"""What a step's golden output is made of, where it is not `picture`."""


def stable_digest(array: np.ndarray) -> str:
    scaled = np.rint(array.astype(np.float64) * 10**GOLDEN_DECIMALS + ROUNDING_GUARD)
    head = f"{array.dtype}{array.shape}".encode()
    return hashlib.sha256(head + scaled.astype(np.int64).tobytes()).hexdigest()[:32]


def digest_of(image: Image) -> str:
    """Return the digest of the voxels, or of voxels and masks where there are masks."""
    digests = [stable_digest(image.array)]
    digests += [name + stable_digest(mask) for name, mask in sorted(image.masks.items())]
    joined = " ".join(digests).encode()
    return digests[0] if len(digests) == 1 else hashlib.sha256(joined).hexdigest()[:32]


def kept_of(name: str, image: Image, traces: tuple[dict, ...] = ()) -> str | list[float]:
    """Return what is kept of an output: a digest, or quantiles and a mean along each axis.

    Of a step that measures, the digest of the voxels and of its numbers.
    """
    if numbers := numbers_of(traces):
        shown = {key: None if n is None else f"{n:.6g}" for key, n in numbers.items()}
        return digest_json([stable_digest(image.array), shown])
    if name not in TOLERANT:
        return digest_of(image)
    array = image.array
    values = np.quantile(array.astype(np.float64), np.linspace(0, 1, 9)).tolist()
    weights = (np.linspace(1, 2, size) for size in array.shape)
    values += [float(np.tensordot(array, w, (axis, 0)).mean()) for axis, w in enumerate(weights)]
    return [float(f"{value:.7g}") for value in values]


def same(kept: str | list[float], now: str | list[float]) -> bool:
    if isinstance(kept, str):
        return kept == now
    return np.allclose(kept, now, rtol=0, atol=GOLDEN_SHARE * (now[8] - now[0]))


def golden_now() -> dict[str, list]:
    return {
        f"{name} {STEPS[name].version}": [
            kept_of(name, *run({"step": name, **params}, image=PICTURES.get(name))[1:])
            for params in EXAMPLES[name]
        ]
        for name in sorted(STEPS)
    }


def test_output_of_every_step_is_that_of_its_version():
    kept, now = json.loads(GOLDEN.read_text()), golden_now()
    assert EXAMPLES.keys() == STEPS.keys()
    for key, digests in now.items():
        name, version = key.split()
        assert key in kept, f"step {name} has version {version} and no golden output: write it"
        unchanged = all(same(*pair) for pair in zip(kept[key], digests, strict=True))
        assert unchanged, f"output of step {name} changed: raise its version"


def test_the_golden_test_sees_a_small_change():
    _, out, _ = run({"step": "resize", "shape": [4, 9, 40]})
    assert stable_digest(out.array) != stable_digest(out.array * np.float32(1.001))
    assert stable_digest(out.array) == stable_digest(out.array + np.float32(1e-6))
    before = kept_of("gaussian", out)
    for other in (out.array * np.float32(1.001), out.array[:, ::-1]):
        assert not same(before, kept_of("gaussian", Image(other, out.affine)))
    assert same(before, kept_of("gaussian", Image(out.array * np.float32(1 + 1e-6), out.affine)))
    marked = Image(out.array, out.affine, {"lung": np.ones(out.array.shape, np.uint8)})
    other = Image(out.array, out.affine, {"lung": np.zeros(out.array.shape, np.uint8)})
    assert len({digest_of(image) for image in (out, marked, other)}) == 3


if __name__ == "__main__":
    kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    for key, outputs in golden_now().items():
        # What is kept of a version stays; examples may be added to it.
        kept[key] = [*kept.get(key, ()), *outputs[len(kept.get(key, ())) :]]
    GOLDEN.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
