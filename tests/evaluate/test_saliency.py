import numpy as np
import pytest
from PIL import Image
from scipy.stats import rankdata
from skimage.metrics import structural_similarity as ssim

from tasks.evaluate.explanation_figure import LookPanel, draw_looks, draw_ruin, draw_shapley
from tasks.evaluate.saliency import (
    Looked,
    drawn,
    energy_in,
    points_into,
    rank_correlation,
    structural_similarity,
    summary,
)

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(2, 3, 32, 28))


def square():
    mask = np.zeros((1, 32, 32), bool)
    mask[0, 4:12, 4:12] = True
    return mask


def test_the_rank_correlation_is_pearsons_of_the_ranks():
    by_hand = np.corrcoef(rankdata(FIRST), rankdata(SECOND))[0, 1]
    assert rank_correlation(FIRST, SECOND) == pytest.approx(by_hand)
    assert rank_correlation(FIRST, np.exp(FIRST)) == pytest.approx(1)
    assert rank_correlation(FIRST, np.zeros_like(FIRST)) == 0


def test_an_empty_map_neither_shows_the_model_nor_points():
    empty = np.zeros((1, 32, 32))
    assert np.isnan(rank_correlation(empty, np.ones((1, 32, 32))))
    corner = np.zeros((1, 32, 32), bool)
    corner[0, 0, 0] = True
    assert not points_into(empty, corner)
    (row,) = summary(looks(float("nan")))
    assert row["shows the model"] != "yes"


def test_ssim_is_taken_of_what_is_drawn_slice_by_slice():
    a, b = drawn(FIRST), drawn(SECOND)
    by_hand = np.mean([ssim(x, y, win_size=7, data_range=1) for x, y in zip(a, b, strict=True)])
    assert structural_similarity(FIRST, SECOND) == pytest.approx(by_hand)
    assert structural_similarity(FIRST, 5 * FIRST) == pytest.approx(1)
    with pytest.raises(ValueError, match="too small"):
        structural_similarity(FIRST[:, :2], SECOND[:, :2])


def test_energy_counts_what_speaks_for_the_class_alone():
    looked = np.zeros((1, 32, 32))
    looked[0, 5, 5], looked[0, 20, 20], looked[0, 25, 25] = 3, 1, -50
    assert energy_in(looked, square()) == pytest.approx(0.75)
    assert np.isnan(energy_in(-np.abs(FIRST), np.ones(FIRST.shape, bool)))


def test_a_maximum_just_beside_the_mask_still_points_into_it():
    looked = np.zeros((1, 32, 32))
    for place, hit in (((0, 8, 8), True), ((0, 12, 8), True), ((0, 13, 8), False)):
        looked[:] = 0
        looked[place] = 1
        assert points_into(looked, square()) is hit
    assert not points_into(looked, np.zeros((1, 32, 32), bool))


def looks(rank, count=10):
    return [
        Looked(f"c{n}", "grad_cam", (0.8, rank), (0.7, 0.2), {"outline": (n < 8, 0.5, 0.1)})
        for n in range(count)
    ]


def test_a_map_that_outlives_the_weights_is_not_to_be_read():
    (good,), (bad,) = summary(looks(0.1), replicates=200), summary(looks(0.9), replicates=200)
    assert good["shows the model"] == "yes"
    assert bad["shows the model"] == "no, do not read it"
    mixed = [one for n in range(4) for one in looks(0.9 * (n % 2), 2)]
    (unsure,) = summary(mixed, replicates=200)
    assert unsure["shows the model"].startswith("undecided")
    assert good["points into outline"].value == 0.8
    assert good["points into outline"].lo < 0.8 < good["points into outline"].hi
    assert good["energy in outline"].value == pytest.approx(0.5)
    row = looks(0.1)[0].to_row()
    assert (row["rank/2"], row["hit/outline"], row["area/outline"]) == (0.1, 1, 0.1)


def test_pictures_are_written_the_same_each_time(tmp_path):
    image = RNG.normal(size=(32, 28))
    panel = LookPanel(image, "truth yes, called no", {"grad_cam": FIRST[0]}, SECOND[0] > 1)
    cells = RNG.uniform(size=(20, 4))
    cells[:, 2] = np.nan
    ways = {
        "looks": lambda path: draw_looks(path, [panel, panel]),
        "ruin": lambda path: draw_ruin(path, looks(0.1)),
        "shapley": lambda path: draw_shapley(path, list("abcd"), RNG_VALUES, cells),
    }
    for name, draw in ways.items():
        first, second = (draw(tmp_path / f"{name}{n}.png") for n in (1, 2))
        assert first.read_bytes() == second.read_bytes()
        with Image.open(first) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


RNG_VALUES = np.random.default_rng(1).normal(size=(20, 4))
