"""What the numbers mean: analytic shapes, turned and scaled images, regions that show nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import BadCase
from tasks.imaging.radiomics import glcm, planar
from tasks.imaging.radiomics.discretise import Binning, discretise
from tasks.imaging.radiomics.families import FAMILIES, Choices
from tasks.imaging.radiomics.histogram import histogram
from tasks.imaging.radiomics.intensity import intensity
from tasks.imaging.radiomics.region import region_of
from tasks.imaging.radiomics.shape import shape
from tasks.imaging.step import Image

OF_VOXELS = 0.03
"""Relative: a ball of 20 voxels across has corners; its mesh is a little larger than it."""


def ball(radius=10.0, spacing=(1.0, 1.0, 1.0), stretch=(1.0, 1.0, 1.0)):
    reach = [math.ceil(radius * s / step) + 1 for s, step in zip(stretch, spacing, strict=True)]
    index = np.indices([2 * n + 1 for n in reach]).astype(float)
    away = sum(((index[k] - reach[k]) * spacing[k] / (radius * stretch[k])) ** 2 for k in range(3))
    mask = (away <= 1).astype(np.uint8)
    affine = np.diag([*spacing, 1.0])[[2, 1, 0, 3]]
    return Image(np.where(mask, 40, 0).astype(np.int16), affine, {"roi": mask})


def test_a_ball_is_as_round_and_as_large_as_geometry_says():
    found = shape(region_of(ball(10, spacing=(0.5, 1.0, 1.0)), "roi"))
    assert found["volume"] == pytest.approx(4 / 3 * math.pi * 1000, rel=OF_VOXELS)
    assert found["maximum_3d_diameter"] == pytest.approx(20, rel=2 * OF_VOXELS)
    assert found["elongation"] == pytest.approx(1, abs=0.01)
    # A solid ball's spread along an axis is r / sqrt(5); four times that is the axis length.
    assert found["major_axis_length"] == pytest.approx(4 * 10 / math.sqrt(5), rel=OF_VOXELS)
    # The steps of a mesh around voxels add a tenth to a ball's surface, at any size.
    assert 0.87 < found["sphericity"] < 0.93
    assert found["centre_of_mass_shift"] == pytest.approx(0, abs=1e-9)
    assert found["integrated_intensity"] == pytest.approx(40 * found["volume"])


def test_an_ellipsoids_axes_come_longest_first():
    found = shape(region_of(ball(5, stretch=(1.0, 3.0, 2.0)), "roi"))
    assert found["elongation"] == pytest.approx(2 / 3, abs=0.02)
    assert found["flatness"] == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("turn", [(0, 1), (1, 2), (0, 2)])
def test_turning_region_and_grid_together_keeps_the_shape(turn):
    image = ball(5, spacing=(2.0, 1.0, 0.5), stretch=(2.0, 1.0, 1.5))
    spacing = np.array([2.0, 1.0, 0.5])
    spacing[list(turn)] = spacing[list(turn)[::-1]]
    turned = Image(
        np.rot90(image.array, axes=turn),
        np.diag([*spacing, 1.0])[[2, 1, 0, 3]],
        {"roi": np.rot90(image.masks["roi"], axes=turn)},
    )
    ours, theirs = shape(region_of(image, "roi")), shape(region_of(turned, "roi"))
    for name in ours:
        # Not to the last digit: the mesh cuts ambiguous cells by the order of its axes.
        assert theirs[name] == pytest.approx(ours[name], rel=5e-3, abs=1e-6), name


def test_one_voxel_and_one_slice_have_the_numbers_that_exist():
    mask = np.zeros((3, 5, 5), np.uint8)
    mask[1, 2, 2] = 1
    image = Image(np.ones((3, 5, 5), np.float32), np.eye(4), {"one": mask})
    found = shape(region_of(image, "one"))
    assert found["voxel_volume"] == 1
    assert found["major_axis_length"] == 0
    assert math.isnan(found["elongation"])
    mask[1] = 1
    slab = shape(region_of(image, "one"))
    assert slab["least_axis_length"] == slab["flatness"] == 0
    assert math.isnan(slab["volume_density_ellipsoid"])
    assert slab["area_density_ellipsoid"] > 0


def test_two_voxels_have_every_number_but_that_between_their_deciles():
    image = Image(np.array([[[10, 30]]], np.int16), np.eye(4))
    found = intensity(region_of(image))
    assert (found["mean"], found["percentile_10"], found["interquartile_range"]) == (20, 12, 10)
    assert math.isnan(found.pop("robust_mean_absolute_deviation"))
    assert all(map(math.isfinite, found.values()))
    levels, count = discretise(region_of(image), Binning(number=8))
    assert math.isnan(histogram(levels, count)["robust_mean_absolute_deviation"])


def test_an_image_that_shows_nothing_has_no_number_that_lies():
    region = region_of(Image(np.zeros((2, 4, 4), np.int16), np.eye(4)))
    found = intensity(region)
    assert found["variance"] == found["skewness"] == found["kurtosis"] == 0
    assert math.isnan(found["coefficient_of_variation"])
    levels, count = discretise(region, Binning(number=8))
    grey = histogram(levels, count)
    assert (grey["entropy"], grey["uniformity"], grey["mode"]) == (0, 1, 1)
    pairs = glcm.glcm(levels, count, "3d_averaged")
    assert pairs["joint_maximum"] == 1
    assert pairs["contrast"] == 0
    assert math.isnan(pairs["correlation"])


def test_a_voxel_without_a_neighbour_has_no_co_occurrence():
    found = glcm.glcm(np.array([[[3]]], np.int32), 8, "3d_merged")
    assert all(math.isnan(number) for number in found.values())


levels_drawn = st.tuples(*[st.integers(1, 5)] * 3, st.integers(0, 2**32 - 1))


@settings(deadline=None, max_examples=60)
@given(drawn=levels_drawn, aggregation=st.sampled_from(sorted(glcm.AGGREGATIONS)))
def test_pairs_are_counted_as_one_by_one(drawn, aggregation):
    z, y, x, seed = drawn
    levels = np.random.default_rng(seed).integers(0, 5, (z, y, x)).astype(np.int32)
    directions = glcm.IN_PLANE if aggregation.startswith("2") else glcm.IN_SPACE
    expected = np.zeros((4, 4), np.int64)
    for place in np.ndindex(z, y, x):
        for direction in directions:
            other = tuple(np.add(place, direction))
            if all(0 <= at < n for at, n in zip(other, levels.shape, strict=True)):
                a, b = levels[place], levels[other]
                if a and b:
                    expected[a - 1, b - 1] += 1
                    expected[b - 1, a - 1] += 1
    matrices = list(glcm.matrices(levels, 4, aggregation))
    np.testing.assert_array_equal(sum(matrices), expected)
    assert all((matrix == matrix.T).all() for matrix in matrices)


def test_gradients_see_the_direction_of_an_edge():
    image = np.zeros((1, 32, 32), np.float32)
    image[:, :, 16:] = 100
    upright = planar.hog(region_of(Image(image, np.eye(4))), cells=1)
    lying = planar.hog(region_of(Image(image.transpose(0, 2, 1).copy(), np.eye(4))), cells=1)
    strongest = max(upright, key=upright.get)
    assert strongest != max(lying, key=lying.get)
    assert upright[strongest] > 0.9
    assert tuple(upright) == planar.hog_names(1)


def test_gradients_of_a_volume_are_the_mean_of_its_slices():
    planes = np.random.default_rng(0).random((3, 20, 24))
    of = [planar.hog(region_of(Image(plane[None], np.eye(4))), 2) for plane in planes]
    together = planar.hog(region_of(Image(planes, np.eye(4))), 2)
    for name, number in together.items():
        assert number == pytest.approx(np.mean([one[name] for one in of]))


def test_a_box_too_small_for_its_cells_is_a_bad_case():
    with pytest.raises(BadCase, match="region_too_small"):
        planar.hog(region_of(Image(np.ones((1, 7, 40)), np.eye(4))), cells=4)


def test_patterns_tell_flat_from_bright_points():
    flat = np.ones((1, 9, 9), np.int32)
    region = region_of(Image(flat, np.eye(4)))
    assert planar.lbp(region, flat)["pattern_8"] > 0.5
    point = flat.copy()
    point[0, 4, 4] = 5
    found = planar.lbp(region, point)
    assert found["pattern_0"] == pytest.approx(1 / 81)
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"mirp"}))
def test_names_known_before_are_those_found_after(family):
    image = ball(6)
    region = region_of(image, "roi")
    levels, count = discretise(region, Binning(number=8))
    choices = Choices(glcm=("2.5d_merged", "3d_averaged"), hog_cells=3)
    found = FAMILIES[family].numbers(region, levels, count, choices)
    assert tuple(found) == FAMILIES[family].names(choices)
