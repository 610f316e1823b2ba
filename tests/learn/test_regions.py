"""Overlapping regions are learned as yes or no each, and come back as one label map."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import sigmoid

from tasks.evaluate.config import MaskConfig
from tasks.hashing import digest_json
from tasks.imaging.recipe import FittedRecipe
from tasks.learn.answer import source_mask
from tasks.learn.dataset import ArrayCases
from tasks.learn.infer import label_map, outline, segment
from tasks.learn.job import JobCase, TrainingJob, load_job
from tasks.learn.loss import region_loss, supervised_loss
from tasks.learn.model import load_model
from tasks.learn.model_file import ModelSpec, save_model
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import plan_network
from tasks.learn.train import train_fold
from tasks.learn.validate import validate
from tests.learn import small_fold

CPU = torch.device("cpu")
SETS = ((1, 2, 3), (1, 3), (3,))
REGIONS = (("WT", SETS[0]), ("TC", SETS[1]), ("ET", SETS[2]))


def plan_of(shape, regions=SETS, **said):
    candidate = NetworkCandidate(
        name="u", network="unet3d", features=(4, 8), patch=shape, batch=2, **said
    )
    return plan_network(
        candidate, task="segmentation", shape=shape, n_classes=len(regions) or 4, regions=regions
    )


def certain(target: torch.Tensor) -> torch.Tensor:
    """Logits (n, r, ...) that say the truth of each region beyond doubt."""
    inside = [torch.isin(target, torch.tensor(values)) for values in SETS]
    return torch.stack(inside, 1).float() * 40 - 20


def test_the_loss_is_dice_and_binary_cross_entropy_of_each_region():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (2, 3, 4, 5), generator=generator)
    logits = torch.randn(2, 3, 3, 4, 5, generator=generator)
    dice, entropy = [], []
    for number, values in enumerate(SETS):
        truth = np.isin(target.numpy(), values).astype(float)
        said = sigmoid(logits[:, number]).numpy().astype(float)
        dice.append(2 * (truth * said).sum() / (truth.sum() + said.sum()))
        entropy.append(-(truth * np.log(said) + (1 - truth) * np.log(1 - said)).mean())
    expected = 1 - np.mean(dice) + np.mean(entropy)
    assert float(region_loss(logits, target, SETS)) == pytest.approx(expected, rel=1e-5)
    assert float(region_loss(certain(target), target, SETS)) == pytest.approx(0, abs=1e-5)
    assert float(region_loss(-certain(target), target, SETS)) > 10


def test_coarser_maps_are_held_against_coarser_regions():
    target = torch.zeros(1, 4, 4, 4, dtype=torch.int64)
    target[:, :2, :2, :2] = 3
    small = target[:, ::2, ::2, ::2]
    whole, coarse = certain(target), certain(small)
    assert float(supervised_loss((whole, coarse), target, SETS)) == pytest.approx(0, abs=1e-5)
    assert float(supervised_loss((whole, -coarse), target, SETS)) > 1


class Thresholds(nn.Module):
    """Says the regions of an image whose grey values are its labels."""

    def forward(self, x):
        return certain(x[:, 0].round().long())


@pytest.mark.parametrize("shape", [(7, 9, 5), (19, 23, 17)], ids=["whole", "tiles"])
def test_a_label_map_comes_back_from_its_regions(shape):
    labels = np.random.default_rng(1).integers(0, 4, shape).astype(np.uint8)
    plan, image = plan_of((8, 8, 8), flip_tta=("x",)), labels.astype(np.float32)
    maps = segment([Thresholds()], plan, image, CPU)
    assert maps.shape == (3, *shape)
    assert maps[0][labels == 2].min() > 0.99
    assert maps[1:, labels == 2].max() < 0.01
    np.testing.assert_array_equal(label_map(maps, SETS), labels)
    np.testing.assert_array_equal(outline([Thresholds()], plan, image, CPU), labels)
    recipe = FittedRecipe((), "", None, None)
    np.testing.assert_array_equal(source_mask(recipe, (), maps, SETS), labels)


def test_validation_measures_each_region():
    labels = np.random.default_rng(2).integers(0, 4, (8, 8, 8)).astype(np.uint8)
    source = ArrayCases({"a": labels.astype(np.float32)}, {"a": labels})
    found = validate(Thresholds(), plan_of((8, 8, 8)), source, ["a"], {}, CPU, None)
    assert found["val_dice"] == 1
    assert found["val_loss"] == pytest.approx(0, abs=1e-6)
    said = source.images["a"].copy()
    said[labels == 3] = 1  # the enhancing tumour is taken for necrosis: ET alone is missed
    wrong = ArrayCases({"a": said}, {"a": labels})
    missed = validate(Thresholds(), plan_of((8, 8, 8)), wrong, ["a"], {}, CPU, None)
    assert missed["val_dice"] == pytest.approx(2 / 3)
    assert missed["val_loss"] > 0.1


def nested_cases(n):
    """Bright balls with a core and a rim, as labels 2 around 3 around 1."""
    source, cases = small_fold.ball_cases(n, (12, 12, 12))
    for case_id, ball in source.labels.items():
        z, y, x = (index.mean() for index in np.nonzero(ball))
        away = np.linalg.norm(np.indices(ball.shape).T - (x, y, z)[::-1], axis=-1).T
        mask = np.select([away < 1.5, away < 2.8, away < 4.2], [1, 3, 2], 0).astype(np.uint8)
        noise = np.random.default_rng(int(case_id, 16) % 1000).normal(0, 0.1, ball.shape)
        source.labels[case_id] = mask
        source.images[case_id] = (np.array([0, 1, 2, 4.0])[mask] + noise).astype(np.float32)
    return source, cases


def test_a_network_learns_regions_and_is_kept_with_them(tmp_path):
    source, cases = nested_cases(6)
    ids = [case.case_id for case in cases]
    plan = plan_of((12, 12, 12), epochs=8, steps_per_epoch=6, augment="none", lr=0.01)
    fold = train_fold(
        plan, source, cases, ids[:4], ids[4:], tmp_path / "fold", 0, masks=MaskConfig()
    )
    assert fold.val_dice.shape == (2, 3)
    assert fold.val_dice[:, 0].min() > 0.6  # the whole is the easiest
    spec = ModelSpec(
        name="s", candidate="u", task="segmentation", kind="network", plan=plan, regions=REGIONS,
        classes=("background", "necrosis", "oedema", "enhancing"),
    )  # fmt: skip
    save_model(tmp_path / "model", spec, folds=[fold.weights_path])
    model = load_model(tmp_path / "model")
    assert model.spec.measured == REGIONS
    assert model.spec.regions_out == SETS
    said = label_map(model.predict(source.image(ids[5])), SETS)
    whole = 2 * ((said > 0) & (source.label(ids[5]) > 0)).sum()
    whole = whole / ((said > 0).sum() + (source.label(ids[5]) > 0).sum())
    assert whole == pytest.approx(fold.val_dice[1, 0])


def job_of(**said):
    candidates = ({"name": "u", "kind": "network", "network": "unet3d"},)
    return TrainingJob(
        "s", "segmentation", ("a", "b"), None, "dice", candidates,
        (JobCase("c", "p", "train", 0),), (8, 8, 8),
        masks={"tolerance_mm": 1.0, "lesions": None}, **said,
    )  # fmt: skip


def test_what_knows_no_regions_keeps_its_ids():
    """Ids of before there were regions: trainings and models of then are found again."""
    job = job_of()
    assert job.key == "0fb3bd7bafb06938290b5c917428476c"
    # Of the network that was built then, which ended otherwise (decision 57), and had a patience,
    # whose trainings are not gone on with (decision 67).
    plan = job.plan(job.candidate("u")).model_copy(update={"plain_head": False})
    said = plan.model_dump(mode="json") | {"patience": 20}
    assert digest_json(said) == "43ac939977b2c0d910b8cbaa3676742a"
    spec = ModelSpec(
        name="s", candidate="u", task="segmentation", kind="network",
        classes=("background", "a", "b"), plan=plan,
    )  # fmt: skip
    of_then = spec.model_dump(mode="json") | {"plan": said}
    assert digest_json(of_then) == "a21d31320727ff0e5db00bad55a88723"


def test_a_job_keeps_its_regions_and_their_order(tmp_path):
    job = job_of(regions=(("all", (1, 2)), ("b only", (2,))))
    place = job.save(tmp_path)
    assert load_job(place) == job
    assert load_job(place).key == job.key != job_of().key
    assert job.measured == ("all", "b only")
    plan = job.plan(job.candidate("u"))
    assert (plan.n_classes, plan.regions) == (2, ((1, 2), (2,)))
    turned = job_of(regions=(("b only", (2,)), ("all", (1, 2))))
    assert turned.key != job.key
