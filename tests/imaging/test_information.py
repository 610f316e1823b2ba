import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from tasks.imaging.information import LEAST_BINS, MOST_BINS, bins_for, clip_tails, information

RNG = np.random.default_rng(0)


def test_mutual_information_is_that_of_scikit_learn():
    first = RNG.integers(0, MOST_BINS, 60_000)
    second = (first + RNG.integers(0, 9, first.size)) % MOST_BINS
    # Every grey is common, so nothing is clipped and each has a bin of its own.
    expected = mutual_info_score(first, second)
    assert information(first, second).mutual == pytest.approx(expected, abs=1e-9)


def test_a_grey_that_names_the_other_has_one_and_noise_none():
    grey = RNG.normal(size=(20, 50, 60))
    assert information(grey, 3 - 2 * grey).normalised == pytest.approx(1, abs=0.02)
    assert information(grey, RNG.normal(size=grey.shape)).normalised < 0.01


@pytest.mark.parametrize("n", [600, 3_000, 20_000, 200_000])
def test_chance_adds_little_however_few_the_voxels(n):
    figures = information(RNG.normal(size=n), RNG.normal(size=n))
    assert 0 <= figures.mutual < 0.08
    assert figures.normalised < 0.02


def test_one_grey_says_nothing():
    assert information(np.ones(100), np.arange(100)).mutual == 0
    assert information(np.ones(100), np.ones(100)).normalised == 0


def test_bins_follow_the_number_of_places():
    assert bins_for(10) == LEAST_BINS
    assert bins_for(40_000) == 40
    assert bins_for(1e7) == MOST_BINS


def test_tails_are_clipped_unless_they_are_all_there_is():
    assert clip_tails(np.arange(1000.0)).max() == pytest.approx(994, abs=1)
    lonely = np.zeros(1000)
    lonely[7] = 5
    assert clip_tails(lonely).max() == 5
