"""A volume whose file does not state its modality is worked on by the one of its mapping."""

import numpy as np
import pytest
import torch

from flows.commands.preview import _sheets
from flows.orders import orders_of
from flows.predict import Desk
from tasks.archive.catalog import cases
from tasks.archive.intake import ingest
from tasks.archive.mapping import MAPPING_NAME
from tasks.archive.nifti import write_nifti
from tasks.archive.orders import WorkOrder, seal, unseal
from tasks.archive.sources import resolve_source
from tasks.imaging.masks.body import body_planes
from tasks.imaging.recipe import fit
from tasks.imaging.steps import parse_steps
from tasks.learn.judge import judge_image
from tasks.learn.model import Model
from tasks.learn.model_file import ModelSpec
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.plan import plan_network
from tasks.store.fill import write_image_part
from tasks.store.read import open_part
from tasks.store.schema import part_id, recipe_id

SHAPE, SPACING = (8, 48, 40), (2.5, 1.5, 1.5)
OUTSIDE = -2000.0
"""Lower than anything in the image: it shows where the body is not."""

BODY = [{"step": "body"}, {"step": "apply_mask", "mask": "body", "outside": OUTSIDE}]
HOUNSFIELD = [{"step": "body", "method": "hounsfield"}, BODY[1]]


def drawn_ct() -> np.ndarray:
    """Return air, a body of water with a lung, bone as bright as metal, and noise, in HU."""
    z, y, x = (np.linspace(-1, 1, n).reshape(s) for n, s in zip(SHAPE, _AXES, strict=True))
    body = (y / 0.7) ** 2 + (x / 0.8) ** 2 + 0 * z < 1
    lung = ((x - 0.3) / 0.3) ** 2 + (y / 0.4) ** 2 + 0 * z < 1
    bone = (x / 0.1) ** 2 + ((y - 0.4) / 0.15) ** 2 + 0 * z < 1
    values = -1000 + 1000 * body - 850 * (lung & body) + 2500 * bone
    return (values + np.random.default_rng(5).normal(0, 20, SHAPE)).astype(np.int16)


_AXES = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))


@pytest.fixture
def archive(tmp_path):
    """A folder with one NIfTI file, and a mapping that says what it shows."""
    folder = tmp_path / "archive"
    folder.mkdir()
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = (*SPACING, 1)
    write_nifti(folder / "a.nii.gz", drawn_ct(), affine)

    def mapped(modality: str):
        (folder / MAPPING_NAME).write_text(f"file,patient,modality\na.nii.gz,P1,{modality}\n")
        return resolve_source(str(folder))

    return mapped


def order_of(place, names, source):
    """Return the one case of a source as a worker is told of it."""
    ingest(source, place.catalog, place.vault, names)
    return tuple(orders_of(place, cases(place.catalog, kind="nifti")))


def made_by(home, order, steps, root):
    """Preprocess a case; return its voxels and its mask from the store."""
    recipe = fit(parse_steps(steps), None)
    key = recipe_id(recipe)
    (case,) = order
    token = seal(
        WorkOrder(part_id([case.case_id], key, "image"), key, order), home.settings.order_key
    )
    record = write_image_part(str(root), unseal(token, home.settings.order_key), recipe)
    assert record.failures == ()
    part = open_part(str(root), record.path)
    return part.read(case.case_id), part.mask(case.case_id, "body"), part.info(case.case_id)


def model_of(steps) -> Model:
    """A segmenter of random weights: what it sees is asked, not what it answers."""
    patch = (8, 8, 8)
    candidate = NetworkCandidate(
        name="u", network="unet3d", features=(4, 8), patch=patch, batch=2, flip_tta=()
    )
    plan = plan_network(candidate, task="segmentation", shape=patch, n_classes=2)
    spec = ModelSpec(
        name="organ", candidate="u", task="segmentation", kind="network",
        classes=("background", "organ"), plan=plan,
        recipe=fit(parse_steps(steps), None).to_dict(),
    )  # fmt: skip
    torch.manual_seed(0)
    return Model(spec, plan, [build_network(plan).eval()], (), torch.device("cpu"))


def test_a_nifti_ct_is_outlined_by_hounsfield_units_wherever_it_is_read(home, archive, tmp_path):
    source = archive("CT")
    order = order_of(home, home.names, source)
    voxels, mask, info = made_by(home, order, BODY, tmp_path / "store")
    assert info.facts["modality"] == "CT"
    np.testing.assert_array_equal(mask, body_planes(drawn_ct(), SPACING))
    assert 0.2 < mask.mean() < 0.8
    np.testing.assert_array_equal(mask > 0, voxels != OUTSIDE)
    # Nobody had to say it in the recipe.
    other, same, _ = made_by(home, order, HOUNSFIELD, tmp_path / "store")
    np.testing.assert_array_equal(mask, same)
    np.testing.assert_array_equal(voxels, other)
    # Prediction: another catalog, the same files, the same voxels for the model.
    with Desk(home) as desk:
        (asked,) = order_of(desk, home.names, source)
        judged = judge_image(model_of(BODY), asked)
    np.testing.assert_array_equal(judged.prepared, voxels)
    # Preview.
    (sheet,) = _sheets(home, cases(home.catalog, kind="nifti"), fit(parse_steps(BODY), None))
    assert sheet.problem == ""
    assert sheet.facts["modality"] == "CT"
    assert sheet.views[1].masks["body"] == pytest.approx(mask.mean())


def test_without_a_modality_it_is_outlined_by_its_own_grey_values(home, archive, tmp_path):
    order = order_of(home, home.names, archive(""))
    _, mask, info = made_by(home, order, BODY, tmp_path / "store")
    assert "modality" not in info.facts
    assert np.any(mask != body_planes(drawn_ct(), SPACING)), "the modality makes no difference here"


def test_a_step_for_one_modality_takes_the_mapping_at_its_word(home, archive):
    brain = parse_steps([{"step": "brain"}, {"step": "normalise"}])
    (case,) = order_of(home, home.names, archive("CT"))
    sheets = list(_sheets(home, cases(home.catalog, kind="nifti"), fit(brain, None)))
    assert "wrong_modality" in sheets[0].problem
    assert case.modality == "CT"
