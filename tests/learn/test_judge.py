"""A model judges the volume its recipe is for, and its masks lie on the source's own slices."""

import numpy as np
import pytest
import torch
from pydicom import dcmread

from tasks.archive.orders import OrderCase
from tasks.archive.sources import FileRef
from tasks.imaging.recipe import fit
from tasks.imaging.steps import parse_steps
from tasks.learn.judge import judge_image, judge_images
from tasks.learn.model import Model
from tasks.learn.model_file import ModelSpec
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.plan import plan_network
from tasks.phantom.ct import write_ct_series

PATCH = (8, 8, 8)


def model_of(steps, volume=None):
    """A segmenter of random weights: where its answer lies is asked, not what it is."""
    candidate = NetworkCandidate(
        name="u", network="unet3d", features=(4, 8), patch=PATCH, batch=2, flip_tta=()
    )
    plan = plan_network(candidate, task="segmentation", shape=PATCH, n_classes=2)
    recipe = fit(parse_steps(steps), None, volume=volume)
    spec = ModelSpec(
        name="organ", candidate="u", task="segmentation", kind="network",
        classes=("background", "organ"), plan=plan, recipe=recipe.to_dict(),
    )  # fmt: skip
    torch.manual_seed(0)
    return Model(spec, plan, [build_network(plan).eval()], (), torch.device("cpu"))


def case_of(folder):
    files = [FileRef(str(p), None, "", p.stat().st_size) for p in sorted(folder.glob("*.dcm"))]
    return OrderCase("c" * 32, "dicom", tuple(files), None)


@pytest.fixture
def echoes(tmp_path):
    truth = write_ct_series(tmp_path, shape=(6, 12, 10), modality="MR", volumes=2)
    for number, path in enumerate(sorted(tmp_path.glob("*.dcm"))):
        dataset = dcmread(path)
        same = [d for d in (dcmread(p) for p in sorted(tmp_path.glob("*.dcm"))[:number])
                if d.ImagePositionPatient == dataset.ImagePositionPatient]  # fmt: skip
        dataset.EchoTime = 60 if same else 15
        dataset.RescaleSlope = "2" if same else "1"
        dataset.save_as(path)
    return case_of(tmp_path), truth


NORMALISE = {"step": "normalise"}


def test_the_volume_of_the_models_own_recipe_is_judged(echoes):
    case, truth = echoes
    for wanted, times in (({"te": ["15"]}, 1), ({"te": ["60"]}, 2), ({"take": "last"}, 2)):
        judged = judge_image(model_of([NORMALISE], wanted), case)
        np.testing.assert_array_equal(judged.image, truth.array * times)
        assert judged.mask.shape == truth.array.shape


def test_a_series_without_that_volume_is_answered_with_the_reason(echoes):
    case, _ = echoes
    for wanted, reason in (({"te": ["30"]}, "no_such_volume"), (None, "several_volumes")):
        ((_, answer),) = judge_images(model_of([NORMALISE], wanted), [case])
        assert answer.reason == reason


@pytest.mark.parametrize("tilt", [15, -15])
def test_the_mask_of_a_leaning_series_lies_on_its_own_slices(tmp_path, tilt):
    truth = write_ct_series(tmp_path, shape=(6, 12, 10), tilt_deg=tilt)
    judged = judge_image(model_of([{"step": "straighten"}, NORMALISE]), case_of(tmp_path))
    assert judged.mask.shape == truth.array.shape
    assert judged.prepared.shape[1] > truth.array.shape[1]
    np.testing.assert_array_equal(judged.image, truth.array)
    np.testing.assert_allclose(judged.affine, truth.affine, atol=1e-5)
    ((_, answer),) = judge_images(model_of([NORMALISE]), [case_of(tmp_path)])
    assert answer.reason == "gantry_tilt"
