"""The cases in which common defaults drop an error, or reward it, have a stated answer here."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance

from tasks.evaluate.config import LesionConfig, MaskConfig
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.segmentation import diagonal, mask_figures, mask_scores
from tasks.evaluate.table import metric_table

SPACING = (3.0, 1.0, 0.5)


def cube(at=2, size=3, shape=(10, 12, 14)):
    mask = np.zeros(shape, np.uint8)
    mask[(slice(at, at + size),) * 3] = 1
    return mask


NOTHING = np.zeros((10, 12, 14), np.uint8)


def figures(truth, prediction, spacing=SPACING, **config):
    found = mask_figures(truth, prediction, spacing, 1, MaskConfig(**config))
    return {"dice": found.dice[0]} | {name: value[0] for name, value in found.others.items()}


def test_volumes_by_hand():
    # 27 voxels of 1.5 mm^3 against 64 of them.
    found = figures(cube(size=3), cube(size=4))
    assert found["volume_error"] == pytest.approx(37 * 1.5e-3)
    assert found["volume_bias"] == pytest.approx(37 * 1.5e-3)
    assert found["relative_volume_error"] == pytest.approx(37 / 27)
    turned = figures(cube(size=4), cube(size=3))
    assert turned["volume_bias"] == pytest.approx(-37 * 1.5e-3)
    assert turned["volume_error"] == pytest.approx(37 * 1.5e-3)
    assert turned["relative_volume_error"] == pytest.approx(37 / 64)


def test_figures_of_regions_are_those_of_their_unions():
    """A core taken for its rim is no error of the whole, all of one of the core."""
    truth, said = cube(size=5), cube(size=5)
    truth[3:6, 3:6, 3:6], said[3:6, 3:6, 3:5] = 2, 2
    config = MaskConfig(lesions=LesionConfig(dilation=1, smallest_mm3=0))
    found = mask_figures(truth, said, SPACING, 2, config, ((1, 2), (2,)))
    whole = figures(cube(size=5), cube(size=5), lesions=config.lesions)
    core = figures(truth == 2, said == 2, lesions=config.lesions)
    assert (whole["dice"], core["dice"]) == (1, pytest.approx(2 * 18 / (18 + 27)))
    for name, value in {"dice": found.dice, **found.others}.items():
        np.testing.assert_allclose(value, [whole[name], core[name]])
    missed = mask_figures(truth, cube(size=5), SPACING, 2, config, ((1, 2), (2,)))
    np.testing.assert_array_equal(missed.dice, [1, 0])
    np.testing.assert_array_equal(missed.empty, [0, 2])
    assert missed.others["hd95"][1] == diagonal(truth.shape, SPACING)


def test_two_empty_masks_agree():
    found = figures(NOTHING, NOTHING)
    assert found == {
        "dice": 1, "nsd": 1, "hd95": 0,
        "volume_error": 0, "volume_bias": 0, "relative_volume_error": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("truth", "prediction"), [(NOTHING, cube()), (cube(), NOTHING)])
def test_one_empty_mask_is_as_wrong_as_can_be(truth, prediction):
    found = figures(truth, prediction)
    assert (found["dice"], found["nsd"]) == (0, 0)
    assert found["hd95"] == pytest.approx(np.sqrt(30**2 + 12**2 + 7**2))
    assert found["relative_volume_error"] == 1
    assert found["volume_error"] == pytest.approx(27 * 1.5e-3)


def test_the_diagonal_of_a_brats_image_is_brats_penalty():
    assert diagonal((155, 240, 240), (1, 1, 1)) == pytest.approx(373.1, abs=0.05)
    assert diagonal((1, 30, 40), (9, 1, 1)) == pytest.approx(50)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning", "ignore:.*all 0")
def test_monai_leaves_out_what_is_counted_here():
    """A false alarm in a healthy case: NaN to MONAI, hence in no mean; HD95 forgets a miss too."""

    def said(function, truth, prediction, **options):
        pair = [torch.from_numpy(np.stack([1 - m, m])[None]).float() for m in (prediction, truth)]
        return float(function(*pair, include_background=False, **options))

    assert np.isnan(said(compute_dice, NOTHING, cube()))
    assert np.isnan(said(compute_hausdorff_distance, NOTHING, cube(), percentile=95))
    assert np.isnan(said(compute_hausdorff_distance, cube(), NOTHING, percentile=95))
    assert np.isinf(said(compute_average_surface_distance, cube(), NOTHING))
    assert figures(NOTHING, cube())["dice"] == 0
    assert figures(NOTHING, cube())["hd95"] > 0
    assert figures(cube(), NOTHING)["hd95"] > 0


def test_a_model_that_raises_false_alarms_scores_worse_than_one_that_does_not():
    pairs = {"quiet": (cube(), NOTHING), "loud": (cube(), cube(at=6))}
    tables = {}
    for name, healthy in pairs.items():
        rows = [
            mask_figures(cube(), cube(), SPACING, 1, MaskConfig()),
            mask_figures(NOTHING, healthy[1], SPACING, 1, MaskConfig()),
        ]
        tables[name] = metric_table(mask_scores(["a", "b"], ["p", "q"], ["organ"], rows))
    assert tables["quiet"]["dice"].value == 1
    assert tables["loud"]["dice"].value == 0.5
    assert tables["quiet"]["nsd"].value > tables["loud"]["nsd"].value
    assert tables["quiet"]["hd95"].value < tables["loud"]["hd95"].value
    assert tables["quiet"]["empty_share"].value == tables["loud"]["empty_share"].value == 0.5


def test_every_figure_has_its_mean_its_classes_and_its_interval():
    rng = np.random.default_rng(0)
    rows, config = [], MaskConfig(tolerance_mm=0.6, lesions=LesionConfig())
    for _ in range(12):
        truth = rng.integers(0, 3, (4, 8, 8))
        said = np.where(rng.random(truth.shape) < 0.8, truth, 0)
        rows.append(mask_figures(truth, said, SPACING, 2, config))
    ids = [f"c{i}" for i in range(12)]
    scores = mask_scores(ids, [f"p{i // 2}" for i in range(12)], ["x", "y"], rows)
    table = metric_table(scores)
    assert table.keys() == {"empty_share"} | {
        f"{name}{label}" for name in scores.figures for label in ("", "/x", "/y")
    }
    for name in scores.figures:
        by_hand = scores.figures[name].reshape(6, 2, 2).mean((1, 2))
        assert table[name].value == pytest.approx(by_hand.mean())
        assert table[name].lo <= table[name].value <= table[name].hi
        assert table[name].n_patients == 6
    # None seen empty in six patients is not none anywhere: Wilson's upper limit.
    assert table["empty_share"].value == table["empty_share"].lo == 0
    assert table["empty_share"].hi == pytest.approx(0.39, abs=0.01)
    back = MaskScores.from_table(scores.to_table())
    for name, values in scores.figures.items():
        np.testing.assert_array_equal(back.figures[name], values)


def test_a_tolerance_is_obeyed():
    shifted = np.roll(cube(), 1, axis=1)
    assert figures(cube(), shifted, tolerance_mm=1.0)["nsd"] == 1
    assert figures(cube(), shifted, tolerance_mm=0.9)["nsd"] < 1


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="hd95 has shape"):
        MaskScores(["a"], ["p"], ["x"], [[1.0]], None, {"hd95": [[np.inf]]})


@pytest.mark.parametrize(("said", "value"), [(cube(), 1.0), (NOTHING, 0.0)])
def test_a_share_that_is_the_same_in_every_patient_is_not_certain(said, value):
    rows = [mask_figures(cube(), said, SPACING, 1, MaskConfig())] * 20
    ids = [f"c{i}" for i in range(20)]
    table = metric_table(mask_scores(ids, ids, ["organ"], rows), replicates=200)
    # Wilson's interval of 20 out of 20 begins at 20 / (20 + 1.96^2).
    reach = 1.959964**2 / (20 + 1.959964**2)
    for name in ("dice", "nsd", "dice/organ"):
        assert table[name].value == value
        assert table[name].hi - table[name].lo == pytest.approx(reach, abs=1e-6), name
    # A distance has no worst that could stand for the patient not seen.
    assert table["hd95"].hi - table["hd95"].lo == pytest.approx(0)
