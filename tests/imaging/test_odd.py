"""Every step on images that hospitals hold and nobody thinks of: done and undone, or refused."""

import json
import warnings

import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.imaging.recipe import Image, apply, fit, invert, replay
from tasks.imaging.steps import STEPS, parse_steps
from tests.imaging.pictures import FINGERPRINT
from tests.imaging.test_golden import EXAMPLES

MODALITIES = ("CT", "MR", "DX", "MG", "US")


def grid(spacing=(2.0, 1.0, 1.0), *, mirrored=False, oblique=False):
    """Return an affine of (z, y, x) spacing; mirrored, its determinant has the other sign."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing)[[2, 1, 0]]
    if oblique:
        c, s = np.cos(0.6), np.sin(0.6)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        affine[:3, :3] = turn @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ affine[:3, :3]
    if mirrored:
        affine[:3, 0] *= -1
    affine[:3, 3] = (10, 20, -30)
    return affine


def noise(shape, dtype=np.int16, low=-1000, high=1500):
    return np.random.default_rng(3).integers(low, high, shape).astype(dtype)


def marked(array, affine, modality=None, *, voxels=None):
    """Return an image whose masks hold its middle, or the given voxels."""
    mask = np.zeros(array.shape, np.uint8)
    middle = tuple(slice(size // 4, size - size // 4) for size in array.shape)
    mask[middle if voxels is None else voxels] = 1
    facts = {"modality": modality} if modality else {}
    return Image(array, affine, {"ball": mask, "balls": mask}, facts)


USUAL = (8, 20, 22)
ODD = {
    "a single slice": marked(noise((1, 20, 22)), grid((5, 1, 1))),
    "slices ten times as thick": marked(noise((6, 40, 44)), grid((10, 1, 1))),
    "a mirrored grid": marked(noise(USUAL), grid(mirrored=True)),
    "a mirrored oblique grid": marked(noise(USUAL), grid(mirrored=True, oblique=True)),
    "one grey": marked(np.full(USUAL, 7, np.int16), grid()),
    "one grey that is no float32": marked(np.full(USUAL, 0.1), grid()),
    "all zero": marked(np.zeros(USUAL, np.int16), grid()),
    "a mask of one voxel": marked(noise(USUAL), grid(), voxels=(3, 4, 5)),
    "a mask of two voxels": marked(noise(USUAL), grid(), voxels=(3, 4, slice(5, 7))),
    "an empty mask": marked(noise(USUAL), grid(), voxels=slice(0)),
    "no mask": Image(noise(USUAL), grid()),
    "one voxel": marked(noise((1, 1, 1)), grid()),
    "one row": marked(noise((1, 1, 50)), grid()),
    "one column of slices": marked(noise((50, 1, 1)), grid()),
    "two voxels a side": marked(noise((2, 2, 2)), grid()),
    "all of uint16": marked(noise(USUAL, np.uint16, 0, 65535), grid()),
    "wide int32": marked(noise(USUAL, np.int32, -(2**30), 2**30), grid()),
    "large float64": marked(noise(USUAL, np.float64) * 1e6, grid()),
    "tiny float32": marked(noise(USUAL, np.float32) * np.float32(1e-30), grid()),
    **{modality: marked(noise(USUAL), grid(), modality) for modality in MODALITIES},
}


@pytest.mark.parametrize("name", STEPS)
def test_an_odd_image_is_done_and_undone_or_refused(name):
    done, reasons = 0, set()
    for params in EXAMPLES[name]:
        recipe = fit(parse_steps([{"step": name, **params}]), FINGERPRINT)
        for what, image in ODD.items():
            before = image.array.copy()
            with warnings.catch_warnings():
                # A division by zero, or a cast of what is no number, is a step's mistake.
                warnings.simplefilter("error")
                try:
                    out, traces = apply(recipe, image)
                except BadCase as bad:
                    reasons.add(bad.reason)
                    continue
            done += 1
            np.testing.assert_array_equal(image.array, before, err_msg=what)
            _check(recipe, image, out, traces, f"{params} on {what}")
    # Noise holds no organ; any other step finds something to do.
    assert done or f"{name}_implausible" in reasons


def _check(recipe, image, out, traces, what):
    """See that voxels are numbers and masks on their grid, and that a label comes back."""
    assert np.isfinite(out.array).all(), what
    for mask in out.masks.values():
        assert (mask.shape, mask.dtype) == (out.array.shape, np.uint8), what
    traces = json.loads(json.dumps(traces, allow_nan=False))
    label = (image.array > image.array.mean()).astype(np.uint8)
    there = replay(recipe, traces, Image(label, image.affine))
    assert there.array.shape == out.array.shape, what
    np.testing.assert_allclose(there.affine, out.affine, err_msg=what)
    # The grid keeps its hand: what lay on the left is not on the right after any step but reorient.
    if recipe.steps[0].name != "reorient":
        assert np.linalg.det(out.affine[:3, :3]) * np.linalg.det(image.affine[:3, :3]) > 0, what
    assert invert(recipe, traces, there.array, kind="label").shape == label.shape, what
    shares = invert(recipe, traces, there.array.astype(np.float32), kind="probability")
    assert shares.shape == label.shape, what
    assert 0 <= shares.min() <= shares.max() <= 1 + 1e-6, what
