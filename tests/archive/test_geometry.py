"""Order, spacing and verdict come from positions alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tasks.archive.geometry import affine_from, certify, plane_of, spacing_of
from tasks.errors import BadCase

AXIAL = (np.array([1.0, 0, 0]), np.array([0, 1.0, 0]))


def stack(n=10, spacing=2.0, rotation=None, origin=(-100.0, -50.0, 30.0)):
    rotation = rotation or Rotation.identity()
    row, column, normal = rotation.as_matrix().T
    return np.asarray(origin) + np.arange(n)[:, None] * spacing * normal, row, column


rotations = st.integers(0, 2**32 - 1).map(
    lambda seed: Rotation.random(random_state=np.random.RandomState(seed))
)
sizes = st.floats(0.3, 12.0)


@settings(deadline=None, max_examples=60)
@given(rotation=rotations, n=st.integers(2, 40), spacing=sizes, seed=st.integers(0, 1000))
def test_shuffled_files_change_nothing(rotation, n, spacing, seed):
    positions, row, column = stack(n, spacing, rotation)
    shuffle = np.random.default_rng(seed).permutation(n)
    plain, order = certify(positions, row, column, (0.7, 0.8))
    mixed, mixed_order = certify(positions[shuffle], row, column, (0.7, 0.8))
    assert plain == mixed
    assert plain.verdict == "accept"
    assert plain.spacing == pytest.approx((spacing, 0.7, 0.8))
    np.testing.assert_array_equal(order, np.arange(n))
    np.testing.assert_array_equal(positions[shuffle][mixed_order], positions)


@settings(deadline=None, max_examples=60)
@given(rotation=rotations, spacing=sizes, index=st.tuples(*[st.integers(0, 30)] * 3))
def test_oblique_indices_round_trip_through_world(rotation, spacing, index):
    positions, row, column = stack(12, spacing, rotation)
    affine = affine_from(positions, row, column, (0.5, 0.9))
    z, y, x = index
    expected = positions[0] + z * spacing * np.cross(row, column) + y * 0.5 * column + x * 0.9 * row
    world = affine @ [z, y, x, 1]
    np.testing.assert_allclose(world[:3], expected, atol=1e-9)
    np.testing.assert_allclose(np.linalg.solve(affine, world), [z, y, x, 1], atol=1e-8)
    assert spacing_of(affine) == pytest.approx((spacing, 0.5, 0.9))


@settings(deadline=None, max_examples=60)
@given(rotation=rotations, n=st.integers(4, 40), spacing=sizes, data=st.data())
def test_a_removed_slice_is_found(rotation, n, spacing, data):
    positions, row, column = stack(n, spacing, rotation)
    gone = data.draw(st.integers(1, n - 2))
    certificate, _ = certify(np.delete(positions, gone, axis=0), row, column, (1, 1))
    assert (certificate.verdict, certificate.reason) == ("quarantine", "missing_slices")
    assert certificate.gaps == ((gone - 1, 1),)


@settings(deadline=None, max_examples=40)
@given(rotation=rotations, angle=st.floats(0.5, 30), spacing=sizes)
def test_tilt_is_measured_from_positions_and_kept_in_the_affine(rotation, angle, spacing):
    positions, row, column = stack(8, spacing, rotation)
    lean = np.arange(8)[:, None] * spacing * np.tan(np.radians(angle)) * column
    certificate, order = certify(positions + lean, row, column, (1, 1))
    assert (certificate.verdict, certificate.reason) == ("resample", "gantry_tilt")
    assert certificate.tilt_deg == pytest.approx(angle)
    affine = affine_from((positions + lean)[order], row, column, (1, 1))
    np.testing.assert_allclose((affine @ [7, 0, 0, 1])[:3], (positions + lean)[7], atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(rotation=rotations, n=st.integers(3, 20), spacing=sizes, data=st.data())
def test_a_slice_given_again_is_found_wherever_it_stands(rotation, n, spacing, data):
    positions, row, column = stack(n, spacing, rotation)
    again = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n - 1, unique=True))
    twice = np.vstack([positions, positions[again]])
    order = np.random.default_rng(n).permutation(len(twice))
    certificate, _ = certify(twice[order], row, column, (1, 1))
    assert (certificate.verdict, certificate.reason) == ("quarantine", "duplicate_positions")
    assert certificate.duplicates == len(again)


@settings(deadline=None, max_examples=40)
@given(rotation=rotations, n=st.integers(5, 30), spacing=sizes, share=st.floats(0.08, 0.4))
def test_one_slice_off_its_place_asks_for_resampling_and_says_how_far(rotation, n, spacing, share):
    positions, row, column = stack(n, spacing, rotation)
    positions[n // 2] += share * spacing * np.cross(row, column)
    certificate, _ = certify(positions, row, column, (1, 1))
    assert (certificate.verdict, certificate.reason) == ("resample", "uneven_spacing")
    assert certificate.jitter_mm == pytest.approx(share * spacing, rel=1e-6)
    assert "even steps" in certificate.how


def test_spacing_is_the_distance_of_positions():
    positions, row, column = stack(5, 2.5)
    certificate, _ = certify(positions, row, column, (1, 1))
    assert certificate.spacing[0] == pytest.approx(2.5)
    assert certificate.jitter_mm == pytest.approx(0, abs=1e-12)


def test_descending_positions_are_turned_ascending():
    positions, row, column = stack(5)
    _, order = certify(positions[::-1], row, column, (1, 1))
    assert order.tolist() == [4, 3, 2, 1, 0]


def test_a_stray_duplicate_is_quarantined():
    positions, row, column = stack(6)
    certificate, _ = certify(np.vstack([positions, positions[2:3]]), row, column, (1, 1))
    assert (certificate.reason, certificate.duplicates) == ("duplicate_positions", 1)


@pytest.mark.parametrize("n", [1, 6])
def test_every_position_repeated_needs_grouping(n):
    positions, row, column = stack(n)
    certificate, _ = certify(np.repeat(positions, 3, axis=0), row, column, (1, 1))
    assert (certificate.verdict, certificate.reason) == ("quarantine", "needs_4d_grouping")
    assert certificate.duplicates == 2 * n


def test_uneven_steps_ask_for_resampling():
    positions, row, column = stack(6)
    positions[3:, 2] += 0.8
    certificate, _ = certify(positions, row, column, (1, 1))
    assert (certificate.verdict, certificate.reason) == ("resample", "uneven_spacing")
    assert certificate.jitter_mm > 0.3


def test_a_sideways_shift_of_one_slice_is_uneven():
    positions, row, column = stack(6)
    positions[3, 0] += 5
    assert certify(positions, row, column, (1, 1))[0].reason == "uneven_spacing"


def test_rounded_positions_are_accepted_with_their_jitter():
    positions, row, column = stack(50, 1.253)
    positions[:, 2] = positions[:, 2].round(2)
    certificate, _ = certify(positions, row, column, (1, 1))
    assert certificate.verdict == "accept"
    assert 0 < certificate.jitter_mm < 0.02


def test_turned_slices_are_mixed_orientation():
    positions, row, column = stack(6)
    rows = np.repeat(row[None], 6, axis=0)
    rows[2] = Rotation.from_euler("z", 1, degrees=True).apply(row)
    columns = np.repeat(column[None], 6, axis=0)
    columns[2] = Rotation.from_euler("z", 1, degrees=True).apply(column)
    assert certify(positions, rows, columns, (1, 1))[0].reason == "mixed_orientation"


def test_one_slice_is_accepted():
    certificate, order = certify([[1, 2, 3]], *AXIAL, (0.5, 0.5))
    assert (certificate.verdict, certificate.reason) == ("accept", "single_slice")
    assert order.tolist() == [0]


def test_certificate_is_json_able():
    positions, row, column = stack(6)
    certificate, _ = certify(np.delete(positions, 2, axis=0), row, column, (1, 1))
    assert certificate.to_dict()["gaps"] == [[1, 1]]


@pytest.mark.parametrize(
    ("normal", "name"),
    [
        ((0, 0, 1), "axial"),
        ((0, -1, 0), "coronal"),
        ((1, 0.05, 0), "sagittal"),
        ((0, 0.5, 1), "oblique axial"),
    ],
)
def test_planes_have_names(normal, name):
    assert plane_of(np.array(normal)) == name


@pytest.mark.parametrize(
    ("row", "spacing"),
    [([1, 0.5, 0], (1, 1)), ([np.nan, 0, 0], (1, 1)), ([1, 0, 0], (0, 1)), ([1, 0, 0], (1, 1e9))],
)
def test_impossible_geometry_is_refused(row, spacing):
    with pytest.raises(BadCase, match="invalid_geometry"):
        certify([[0, 0, 0], [0, 0, 1]], row, [0, 1, 0], spacing)


def test_a_place_no_scanner_reaches_is_damage():
    with pytest.raises(BadCase, match="invalid_geometry"):
        certify([[0, 0, 0], [0, 0, 1e200]], [1, 0, 0], [0, 1, 0], (1, 1))
