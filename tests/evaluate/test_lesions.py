"""BraTS 2023's lesion-wise rule on lesions drawn by hand; a voxel is 1 mm unless told."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, generate_binary_structure, label

from tasks.evaluate.config import EvaluateConfig, LesionConfig
from tasks.evaluate.lesions import LesionScores, lesion_scores
from tasks.evaluate.surface import hd95, surface_distances

MM = (1.0, 1.0, 1.0)
BRATS = LesionConfig()


def drawn(*boxes, shape=(16, 40, 40)):
    """Boxes (corner, size), each a lesion."""
    mask = np.zeros(shape, bool)
    for (z, y, x), (a, b, c) in boxes:
        mask[z : z + a, y : y + b, x : x + c] = True
    return mask


BIG = ((4, 4, 4), (4, 4, 4))
"""64 voxels: counted."""
FAR = ((4, 25, 25), (4, 4, 4))
SMALL = ((4, 25, 4), (5, 5, 2))
"""50 voxels: not counted, since it takes more than 50."""


def test_all_found():
    both = drawn(BIG, FAR)
    assert lesion_scores(both, both, MM, BRATS) == LesionScores(1.0, 0.0, 2, 0, 0)


def test_a_missed_lesion_costs_dice_0_and_374_mm():
    found = lesion_scores(drawn(BIG, FAR), drawn(BIG), MM, BRATS)
    assert found == LesionScores(0.5, 187.0, 1, 1, 0)


def test_a_lesion_made_up_costs_the_same():
    found = lesion_scores(drawn(BIG), drawn(BIG, FAR), MM, BRATS)
    assert found == LesionScores(0.5, 187.0, 1, 0, 1)


def test_small_lesions_and_what_finds_them_are_left_out():
    both = drawn(BIG, SMALL)
    assert lesion_scores(both, both, MM, BRATS) == LesionScores(1.0, 0.0, 1, 0, 0)
    assert lesion_scores(both, drawn(BIG), MM, BRATS) == LesionScores(1.0, 0.0, 1, 0, 0)
    # On a grid of 1.01 mm the same 50 voxels are more than 50 mm^3.
    assert lesion_scores(both, drawn(BIG), (1.01, 1, 1), BRATS).missed == 1


def test_parts_within_six_voxels_are_one_lesion_and_farther_ones_two():
    for gap, lesions in ((6, 1), (7, 2)):
        truth = drawn(BIG, ((4, 4, 8 + gap), (4, 4, 4)))
        found = lesion_scores(truth, truth, MM, BRATS)
        assert (found.found, found.dice) == (lesions, 1.0), gap
        # Half of a joined lesion found: Dice 2 * 64 / (64 + 128); of two, one is missed.
        half = lesion_scores(truth, drawn(BIG), MM, BRATS)
        assert half.dice == pytest.approx(2 / 3 if lesions == 1 else 0.5)


def test_a_prediction_beside_a_lesion_is_matched_within_the_dilation():
    """It overlaps nothing, yet is no false alarm: Dice 0 and its true distance."""
    truth, beside = drawn(BIG), drawn(((4, 4, 10), (4, 4, 4)))
    found = lesion_scores(truth, beside, MM, BRATS)
    distance = hd95(surface_distances(truth, beside, MM))
    assert found == LesionScores(0.0, distance, 1, 0, 0)
    beyond = lesion_scores(truth, drawn(((4, 4, 11), (4, 4, 4))), MM, BRATS)
    assert beyond == LesionScores(0.0, 374.0, 0, 1, 1)


def test_nothing_to_find_and_nothing_said():
    nothing = drawn()
    assert lesion_scores(nothing, nothing, MM, BRATS) == LesionScores(1.0, 0.0, 0, 0, 0)
    assert lesion_scores(nothing, drawn(BIG), MM, BRATS) == LesionScores(0.0, 374.0, 0, 0, 1)
    assert lesion_scores(drawn(SMALL), nothing, MM, BRATS) == LesionScores(1.0, 0.0, 0, 0, 0)


def step_by_step(truth, prediction, config):
    """The challenge's procedure, lesion after lesion with a dilation of its own, on SciPy."""
    near, touching = generate_binary_structure(3, 2), np.ones((3, 3, 3))
    grown = binary_dilation(truth, near, iterations=config.dilation)
    zones, n_zones = label(grown, touching)
    parts, n_parts = label(prediction, touching)
    used, scores = set(), []
    for zone in range(1, n_zones + 1):
        lesion = truth & (zones == zone)
        around = binary_dilation(lesion, near, iterations=config.dilation)
        hit = sorted(set(parts[around]) - {0})
        used |= set(hit)
        if lesion.sum() <= config.smallest_mm3:
            continue
        matched = np.isin(parts, hit) & (parts > 0)
        dice = 2 * (matched & lesion).sum() / (matched.sum() + lesion.sum())
        far = hd95(surface_distances(lesion, matched, MM)) if hit else config.missed_mm
        scores.append((dice, far))
    scores += [(0.0, config.missed_mm)] * (n_parts - len(used))
    return np.mean(scores, axis=0) if scores else (1.0, 0.0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("config", [BRATS, LesionConfig(dilation=1, smallest_mm3=2)])
def test_agrees_with_the_procedure_step_by_step(seed, config):
    rng = np.random.default_rng(seed)

    def lesions(count):
        corners = rng.integers(0, (12, 34, 34), (count, 3)).tolist()
        return drawn(*((corner, rng.integers(2, 6, 3).tolist()) for corner in corners))

    truth = lesions(6)
    prediction = np.roll(truth, 1, axis=2) & ~lesions(3) | lesions(3)
    found = lesion_scores(truth, prediction, MM, config)
    assert (found.dice, found.hd95) == pytest.approx(tuple(step_by_step(truth, prediction, config)))


def test_a_primary_of_lesions_needs_their_settings():
    with pytest.raises(ValueError, match="needs the key lesions"):
        EvaluateConfig(primary="lesion_dice")
    assert EvaluateConfig(primary="lesion_dice", lesions={}).lesions == BRATS
