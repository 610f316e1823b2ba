"""Real lesions measured by others: pyradiomics' published baseline, mirp, scikit-image."""

import csv
import importlib.util

import numpy as np
import pytest
import SimpleITK
from skimage.feature import graycomatrix, graycoprops

from tasks.imaging.radiomics import glcm, histogram, intensity, run_lengths, shape
from tasks.imaging.radiomics.discretise import Binning, discretise
from tasks.imaging.radiomics.region import Region, region_of
from tasks.imaging.step import Image
from tests.imaging.radiomics import ibsi

EXACT = 1e-10
"""Relative: sums of float64 in another order."""

PUBLISHED = 1e-10
"""Relative: the baseline's shapes are printed with twelve digits."""

AMBIGUOUS = 6e-3
"""Relative, area: where two corners of a cell touch, pyradiomics' marching cubes (Lorensen's
table) closes the surface otherwise than Lewiner's. One of the two lesions has such cells."""

SINGLE = 3e-6
"""Relative: mirp keeps intensities and meshes in float32."""

SHIFT = 2000
"""pyradiomics adds this to intensities before it squares them (its voxelArrayShift)."""

BIN = 25
"""Width of the baseline's bins, which begin at its multiples."""

BINS = 32
"""Of the comparison with mirp."""

LESIONS = ("brain1", "lung1")

needs_mirp = pytest.mark.skipif(
    importlib.util.find_spec("mirp") is None,
    reason="mirp is not installed (radloop[radiomics]): its numbers are not compared",
)


@pytest.fixture(scope="module", params=LESIONS)
def lesion(request, shared_data):
    """Name, region, and the baseline's first-order and shape numbers."""
    image = SimpleITK.ReadImage(str(shared_data / "volumes" / f"{request.param}_image.nrrd"))
    mask = SimpleITK.ReadImage(str(shared_data / "volumes" / f"{request.param}_label.nrrd"))
    spacing = image.GetSpacing()[::-1]
    found = Image(
        SimpleITK.GetArrayFromImage(image),
        np.diag([*spacing, 1.0])[[2, 1, 0, 3]],
        {"lesion": (SimpleITK.GetArrayFromImage(mask) == 1).astype(np.uint8)},
    )
    folder = shared_data / "reference" / "pyradiomics"
    published = {
        family: baseline(folder / f"baseline_{family}.csv", request.param)
        for family in ("firstorder", "shape")
    }
    return request.param, region_of(found, "lesion"), published


def baseline(path, name):
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    at = rows[0].index(name)
    return {row[0].split("_")[-1]: float(row[at]) for row in rows if row[0].startswith("original_")}


def test_first_order_equals_pyradiomics_where_definitions_agree(lesion):
    _, region, published = lesion
    theirs, ours = published["firstorder"], intensity.intensity(region)
    same = {
        "Mean": "mean",
        "Variance": "variance",
        "Skewness": "skewness",
        "Median": "median",
        "Minimum": "minimum",
        "Maximum": "maximum",
        "10Percentile": "percentile_10",
        "90Percentile": "percentile_90",
        "InterquartileRange": "interquartile_range",
        "Range": "range",
        "MeanAbsoluteDeviation": "mean_absolute_deviation",
        "RobustMeanAbsoluteDeviation": "robust_mean_absolute_deviation",
    }
    for name, own in same.items():
        assert ours[own] == pytest.approx(theirs[name], rel=EXACT), name


def test_kurtosis_energy_and_bins_differ_from_pyradiomics_as_documented(lesion):
    _, region, published = lesion
    theirs, ours = published["firstorder"], intensity.intensity(region)
    assert ours["kurtosis"] + 3 == pytest.approx(theirs["Kurtosis"], rel=EXACT)
    values = region.values.astype(np.float64)
    shifted = np.square(values + SHIFT)
    assert shifted.sum() == pytest.approx(theirs["Energy"], rel=EXACT)
    assert np.sqrt(shifted.mean()) == pytest.approx(theirs["RootMeanSquared"], rel=EXACT)
    assert ours["energy"] == np.square(values).sum()
    first = np.floor(region.values.min() / BIN) * BIN
    found = histogram.histogram(*discretise(region, Binning(width=BIN, start=float(first))))
    assert found["entropy"] == pytest.approx(theirs["Entropy"], rel=EXACT)
    assert found["uniformity"] == pytest.approx(theirs["Uniformity"], rel=EXACT)


def test_shape_equals_pyradiomics_where_definitions_agree(lesion):
    name, region, published = lesion
    theirs, ours = published["shape"], shape.shape(region)
    assert ours["voxel_volume"] == pytest.approx(theirs["VoxelVolume"], rel=PUBLISHED)
    assert ours["maximum_3d_diameter"] == pytest.approx(theirs["Maximum3DDiameter"], rel=PUBLISHED)
    assert ours["elongation"] == pytest.approx(theirs["Elongation"], rel=EXACT)
    assert ours["flatness"] == pytest.approx(theirs["Flatness"], rel=EXACT)
    # pyradiomics divides the covariance by n; IBSI's consensus needs n - 1.
    n = region.mask.sum()
    for own, other in (
        ("major_axis_length", "MajorAxisLength"),
        ("minor_axis_length", "MinorAxisLength"),
        ("least_axis_length", "LeastAxisLength"),
    ):
        assert ours[own] * np.sqrt((n - 1) / n) == pytest.approx(theirs[other], rel=EXACT)
    mesh = PUBLISHED if name == "lung1" else AMBIGUOUS
    assert ours["volume"] == pytest.approx(theirs["MeshVolume"], rel=mesh)
    assert ours["surface_area"] == pytest.approx(theirs["SurfaceArea"], rel=mesh)
    assert ours["sphericity"] == pytest.approx(theirs["Sphericity"], rel=mesh)


@needs_mirp
def test_intensities_and_co_occurrence_equal_mirp(lesion):
    region = in_cubes(lesion[1])
    theirs = by_mirp(region)
    levels, count = discretise(region, Binning(number=BINS))
    ours = {
        "stat": intensity.intensity(region),
        "ih": histogram.histogram(levels, count),
        **{WAYS[way]: glcm.glcm(levels, count, way) for way in WAYS},
    }
    for family, numbers in ours.items():
        assert len(theirs[family]) == len(numbers)
        tolerance = EXACT if family.startswith("_") else SINGLE
        np.testing.assert_allclose(list(numbers.values()), theirs[family], rtol=tolerance)


@needs_mirp
def test_shape_equals_mirp(lesion):
    from mirp import extract_features

    region = in_cubes(lesion[1])
    with run_lengths.silent():
        (table,) = extract_features(
            image=region.array.astype(np.float64),
            mask=region.mask.astype(np.int64),
            base_feature_families=["morph"],
        )
    found = shape.shape(region)
    assert len(MORPH) == len(found)
    for own, other in zip(found, MORPH, strict=True):
        assert found[own] == pytest.approx(table[f"morph_{other}"].iloc[0], rel=SINGLE), own


WAYS = {
    "2d_averaged": "_2d_avg",
    "2d_slice_merged": "_2d_s_mrg",
    "2.5d_direction_merged": "_2.5d_d_mrg",
    "2.5d_merged": "_2.5d_v_mrg",
    "3d_averaged": "_3d_avg",
    "3d_merged": "_3d_v_mrg",
}
"""Our aggregations and how mirp marks them in a column's name."""

MORPH = (
    "volume", "vol_approx", "area_mesh", "av", "comp_1", "comp_2", "sph_dispr", "sphericity",
    "asphericity", "com", "diam", "pca_maj_axis", "pca_min_axis", "pca_least_axis",
    "pca_elongation", "pca_flatness", "vol_dens_aabb", "area_dens_aabb", "vol_dens_aee",
    "area_dens_aee", "vol_dens_conv_hull", "area_dens_conv_hull", "integ_int",
)  # fmt: skip
"""mirp's names in our order."""


def in_cubes(region):
    """Return a part of a region, in voxels of 1 mm as mirp takes arrays to be.

    mirp measures autocorrelation too, whose time grows with the square of the voxels.
    """
    box = np.s_[1:3, 10:40]
    return Region(region.array[box], region.mask[box], region.counted[box], np.ones(3))


def by_mirp(region):
    """Return mirp's columns by family."""
    from mirp import extract_features

    found = {}
    ways = {
        True: ["2d_average", "2d_slice_merge", "2.5d_direction_merge", "2.5d_volume_merge"],
        False: ["3d_average", "3d_volume_merge"],
    }
    with run_lengths.silent():
        for by_slice, methods in ways.items():
            (table,) = extract_features(
                image=region.array.astype(np.float64),
                mask=region.mask.astype(np.int64),
                by_slice=by_slice,
                base_discretisation_method="fixed_bin_number",
                base_discretisation_n_bins=BINS,
                glcm_spatial_method=methods,
                base_feature_families=["stat", "ih", "cm"],
            )
            row = {column: table[column].iloc[0] for column in table.columns}
            for family in ("stat", "ih"):
                found[family] = [v for c, v in row.items() if c.startswith(f"{family}_")]
            for mark in WAYS.values():
                if columns := [v for c, v in row.items() if c.startswith("cm_") and mark in c]:
                    found[mark] = columns
    return found


def test_a_slice_gives_the_matrix_of_scikit_image():
    levels = np.random.default_rng(3).integers(1, 9, (1, 40, 30)).astype(np.int32)
    quarters = np.array([0, np.pi / 4, np.pi / 2, 3 * np.pi / 4])
    theirs = graycomatrix(levels[0].astype(np.uint8), [1], quarters, levels=9, symmetric=True)
    merged = theirs[1:, 1:].sum(axis=3, keepdims=True).astype(np.float64)
    merged /= merged.sum()
    ours = glcm.glcm(levels, 8, "2d_slice_merged")
    for own, other in (
        ("contrast", "contrast"),
        ("dissimilarity", "dissimilarity"),
        ("inverse_difference_moment", "homogeneity"),
        ("angular_second_moment", "ASM"),
        ("correlation", "correlation"),
    ):
        assert ours[own] == pytest.approx(graycoprops(merged, other).item(), rel=EXACT), own


@needs_mirp
def test_runs_and_zones_of_the_digital_phantom_meet_the_consensus():
    levels = np.array(ibsi.VOXELS, dtype=np.int32)
    found = run_lengths.mirp_numbers(levels)
    assert tuple(found) == run_lengths.mirp_names()
    assert len(found) == len(ibsi.RUNS_AND_ZONES)
    for name, value in ibsi.RUNS_AND_ZONES.items():
        assert float(f"{found[name]:.3g}") == value, name
