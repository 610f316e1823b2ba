"""Every number of the four IBSI families equals the manual's consensus on the digital phantom."""

import numpy as np
import pytest

from tasks.imaging.radiomics import glcm, histogram, intensity, shape
from tasks.imaging.radiomics.discretise import Binning, discretise
from tasks.imaging.radiomics.region import region_of
from tests.imaging.radiomics import ibsi

DIGITS = 3
"""The manual publishes three significant digits."""


@pytest.fixture(scope="module")
def region():
    return region_of(ibsi.digital_phantom(), "roi")


@pytest.fixture(scope="module")
def levels(region):
    found, count = discretise(region, Binning(number=6))
    assert count == 6
    return found


def rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def test_the_region_is_the_manuals(region):
    assert region.array.shape == (4, 4, 5)
    assert region.mask.sum() == 74
    assert sorted(set(region.values)) == [1, 3, 4, 6]
    np.testing.assert_array_equal(region.spacing, (2, 2, 2))


@pytest.mark.parametrize("binning", [Binning(number=6), Binning(width=1.0, start=1.0)])
def test_six_bins_and_bins_of_one_leave_the_phantom_as_it_is(region, binning):
    found, count = discretise(region, binning)
    assert count == 6
    np.testing.assert_array_equal(found, np.array(ibsi.VOXELS))


def test_intensity_statistics_meet_the_consensus(region):
    found = intensity.intensity(region)
    assert found.keys() == ibsi.INTENSITY.keys() == intensity.CODES.keys()
    assert {name: rounded(number) for name, number in found.items()} == ibsi.INTENSITY


def test_the_intensity_histogram_meets_the_consensus(levels):
    found = histogram.histogram(levels, 6)
    assert found.keys() == ibsi.HISTOGRAM.keys() == histogram.CODES.keys()
    assert {name: rounded(number) for name, number in found.items()} == ibsi.HISTOGRAM


def test_shape_lies_within_the_manuals_tolerance(region):
    found = shape.shape(region)
    assert found.keys() == ibsi.SHAPE.keys() == shape.CODES.keys()
    for name, (value, tolerance) in ibsi.SHAPE.items():
        assert found[name] == pytest.approx(value, abs=tolerance), name


@pytest.mark.parametrize("aggregation", ibsi.AGGREGATIONS)
def test_co_occurrence_meets_the_consensus(levels, aggregation):
    found = glcm.glcm(levels, 6, aggregation)
    assert found.keys() == ibsi.GLCM.keys() == glcm.CODES.keys()
    at = ibsi.AGGREGATIONS.index(aggregation)
    assert {name: rounded(number) for name, number in found.items()} == {
        name: values[at] for name, values in ibsi.GLCM.items()
    }


def test_the_aggregations_of_the_manual_are_those_here():
    assert set(ibsi.AGGREGATIONS) == set(glcm.AGGREGATIONS)


def test_codes_are_the_manuals_and_none_stands_twice():
    codes = [
        code for family in (intensity, histogram, shape, glcm) for code in (*family.CODES.values(),)
    ] + list(glcm.AGGREGATIONS.values())
    assert len(set(codes)) == len(codes)
    assert all(len(code) == 4 and code.isalnum() for code in codes)
