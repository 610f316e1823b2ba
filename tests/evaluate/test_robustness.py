"""Curves of models whose weakness is known beforehand."""

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tasks.evaluate.config import EvaluateConfig, MaskConfig, RobustnessConfig
from tasks.evaluate.finding_scores import CaseFindings, FindingScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.robustness import CLEAN, fitting, robustness, variants
from tasks.evaluate.robustness_figure import draw_robustness
from tasks.evaluate.segmentation import mask_figures, mask_scores
from tasks.evaluate.stress import CORRUPTIONS, SEVERITIES

SPACING = (1.0, 1.0, 1.0)
CASES = 30
CHOSEN = [one for one in CORRUPTIONS["radiograph"] if one.name in
          ("noise", "contrast_down", "brightness_up", "brightness_down")]  # fmt: skip


def patients():
    """Half the pictures have a bright square on a grey ramp."""
    rng = np.random.default_rng(4)
    for number in range(CASES):
        image = np.tile(np.linspace(100, 900, 32), (1, 32, 1)) + rng.normal(0, 60, (1, 32, 32))
        if number % 2:
            image[0, 10:18, 4:10] += rng.uniform(100, 300)
        yield f"case{number:03d}", image


def bright_square(image):
    """A model that looks at absolute grey values where the square would be."""
    odds = (image[0, 10:18, 4:10].mean() - 350) / 40
    return np.array([1 - expit(odds), expit(odds)])


def ratio_of_square(image):
    """The same finding by its contrast to the rows below, which brightness leaves as it is."""
    odds = 12 * (image[0, 10:18, 4:10].mean() / image[0, 20:28, 4:10].mean() - 1.3)
    return np.array([1 - expit(odds), expit(odds)])


def answers_of(model, refuse=lambda name, severity, case: False):
    return {
        case: {
            (name, severity): None if refuse(name, severity, case) else model(array)
            for name, severity, array in variants(image, CHOSEN, SPACING, case, 0)
        }
        for case, image in patients()
    }


def collect(case_ids, values):
    target = [int(name[4:]) % 2 for name in case_ids]
    return Predictions(
        tuple(case_ids), tuple(case_ids), np.array(target), np.array(values), ("no", "yes")
    )


@pytest.fixture(scope="module")
def absolute():
    return answers_of(bright_square)


@pytest.fixture(scope="module")
def found(absolute):
    return measure(absolute)


def measure(answers, **more):
    options = {"kind": "radiograph", "primary": "auroc", "threshold": 0.5, "replicates": 200}
    return robustness(answers, collect, CHOSEN, **options | more)


def test_every_point_is_the_figure_of_its_own_images_and_its_fall_from_the_clean_ones(
    absolute, found
):
    answers = absolute
    assert [point.severity for point in found.points[1:6]] == list(SEVERITIES)
    truth = [int(name[4:]) % 2 for name in answers]
    by_point = {(p.corruption, p.severity): p for p in found.points}
    clean = roc_auc_score(truth, [a[CLEAN, 0][1] for a in answers.values()])
    assert found.clean.value == pytest.approx(clean)
    for at, point in by_point.items():
        expected = roc_auc_score(truth, [a[at][1] for a in answers.values()])
        assert point.figure.value == pytest.approx(expected)
        assert point.figure.lo <= point.figure.value <= point.figure.hi
        if point.fall is not None:
            assert point.fall.value == pytest.approx(clean - expected)
            assert point.fall.lo <= point.fall.value <= point.fall.hi


def test_the_share_lost_is_that_of_the_balanced_accuracy_above_chance(absolute, found):
    answers = absolute
    truth = [int(name[4:]) % 2 for name in answers]

    def skill(name, severity):
        said = [a[name, severity][1] >= 0.5 for a in answers.values()]
        return balanced_accuracy_score(truth, said)

    whole = skill(CLEAN, 0)

    def lost(name):
        return np.mean([(whole - skill(name, s)) / (whole - 0.5) for s in SEVERITIES])

    by_hand = {
        "noise": lost("noise"),
        "contrast": lost("contrast_down"),
        "brightness": (lost("brightness_up") + lost("brightness_down")) / 2,
    }
    assert {n: i.value for n, i in found.lost.items()} == pytest.approx(by_hand)
    assert found.balanced.value == pytest.approx(np.mean(list(by_hand.values())))
    assert found.balanced.lo < found.balanced.value < found.balanced.hi


def test_a_model_of_ratios_bears_brightness_which_a_model_of_grey_values_does_not(found):
    relative = measure(answers_of(ratio_of_square))
    assert found.lost["brightness"].lo > 0.3
    assert relative.lost["brightness"].hi < 0.1
    # The ranking stays while the threshold is left behind: the AUROC alone would not have shown it.
    darkest = next(p for p in found.points if (p.corruption, p.severity) == ("brightness_down", 5))
    assert darkest.figure.value > 0.9
    assert "brightness" in found.sentence()


def test_a_refused_picture_takes_its_case_out_of_every_point_and_is_counted():
    dark = answers_of(
        ratio_of_square, lambda n, s, case: n == "brightness_down" and s > 3 and case < "case010"
    )
    found = measure(dark)
    assert found.n_cases == CASES - 10
    assert found.refused == {"noise": 0, "contrast_down": 0, "brightness_up": 0,
                             "brightness_down": 20}  # fmt: skip
    assert {p.figure.n_patients for p in found.points} == {CASES - 10}
    with pytest.raises(ValueError, match="no case could be judged"):
        measure(answers_of(ratio_of_square, lambda n, s, case: s == 5))


def test_a_model_without_skill_has_none_to_lose():
    found = measure(answers_of(lambda image: np.array([0.4, 0.6])))
    assert np.isnan(found.balanced.value)
    assert "no skill" in found.sentence()


def test_masks_lose_a_share_of_their_dice():
    chosen = [one for one in CORRUPTIONS["mr"] if one.name == "rician"]
    grid = np.indices((6, 24, 24))
    truth = (((grid - np.array([3, 12, 12])[:, None, None, None]) ** 2).sum(0) <= 25).astype(int)
    answers = {}
    for number in range(12):
        image = 40.0 + 300 * truth + np.random.default_rng(number).normal(0, 20, truth.shape)
        answers[f"case{number}"] = {
            (name, severity): mask_figures(truth, (array > 190).astype(int), SPACING, 1,
                                           MaskConfig())
            for name, severity, array in variants(image, chosen, SPACING, f"case{number}", 0)
        }  # fmt: skip
    found = robustness(
        answers, lambda ids, rows: mask_scores(ids, ids, ["ball"], rows), chosen,
        kind="mr", primary="dice", threshold=None, replicates=200,
    )  # fmt: skip
    dice = [np.mean([a["rician", s].dice for a in answers.values()]) for s in SEVERITIES]
    assert [p.figure.value for p in found.points[1:]] == pytest.approx(dice)
    clean = found.clean.value
    assert found.lost["rician"].value == pytest.approx(np.mean([(clean - d) / clean for d in dice]))


def test_one_slice_cannot_show_thick_slices():
    names = [one.name for one in fitting(CORRUPTIONS["ct"], 1)]
    assert "slice_thickness" not in names
    assert len(fitting(CORRUPTIONS["ct"], 30)) == len(names) + 1


def test_the_scenario_names_known_corruptions_alone():
    assert EvaluateConfig().robustness.cases is None
    RobustnessConfig(kind="ct", corruptions=("dose_noise",))
    with pytest.raises(ValueError, match="dose_noise"):
        RobustnessConfig(kind="mr", corruptions=("dose_noise",))


def test_the_picture_and_the_table_say_the_same_each_time(tmp_path, absolute, found):
    assert found == measure(absolute)
    first, second = (draw_robustness(tmp_path / f"{n}.png", found, title="a model") for n in "ab")
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert np.asarray(image.convert("L")).std() > 5
    rows = found.to_rows()
    assert len(rows) == 1 + 5 * len(CHOSEN)
    assert rows[0]["corruption"] == CLEAN


def test_a_detection_loses_the_share_of_its_primary_figure():
    box = np.array([[[0.0, 0, 0], [1, 8, 8]]])
    none = np.zeros((0, 2, 3))
    noise, dark = (one for one in CHOSEN if one.name in ("noise", "brightness_down"))

    def detections(case_ids, values):
        cases = [
            CaseFindings(
                np.zeros(found, int), np.full(found, 0.9), box if found else none,
                np.zeros(1, int), box, np.zeros(1, bool),
            )
            for found in values
        ]  # fmt: skip
        return FindingScores(case_ids, case_ids, ("square",), cases, 0.3)

    # Noise hides the square of every other patient at the two worst severities, darkness none.
    answers = {
        f"case{number}": {(CLEAN, 0): 1}
        | {(dark.name, severity): 1 for severity in SEVERITIES}
        | {(noise.name, severity): int(severity < 4 or number % 2) for severity in SEVERITIES}
        for number in range(10)
    }
    found = robustness(
        answers, detections, [noise, dark],
        kind="radiograph", primary="cpm", threshold=0.5, replicates=200,
    )  # fmt: skip
    assert found.clean.value == 1
    assert found.lost[noise.family].value == pytest.approx(2 / 5 * 0.5)
    assert found.lost[dark.family].value == 0
    assert found.balanced.value == pytest.approx(0.1)
    falls = [point.fall.value for point in found.points if point.corruption == noise.name]
    np.testing.assert_allclose(falls, [0, 0, 0, 0.5, 0.5])
