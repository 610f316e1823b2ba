"""Leaning and uneven stacks come out upright and even, each voxel where it was in the patient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tasks.archive.geometry import affine_from
from tasks.archive.straighten import straightened
from tasks.errors import BadCase

WAVE = np.array([0.021, 0.034, 0.017])
"""A plane through space (mm to grey): linear interpolation keeps it exactly."""


def stack(rotation, heights, leans, shape=(20, 24), spacing=(0.8, 0.7)):
    """Positions, affine and voxels that sample the plane of grey in the patient."""
    row, column, normal = rotation.as_matrix().T
    positions = np.array([-3.0, 8.0, 20.0]) + np.outer(heights, normal)
    positions += np.outer(leans[0], column) + np.outer(leans[1], row)
    y, x = np.indices(shape)
    world = (
        positions[:, None, None]
        + (y * spacing[0])[..., None] * column
        + (x * spacing[1])[..., None] * row
    )
    affine = affine_from(positions, row, column, spacing)
    return positions, affine, (world @ WAVE).astype(np.float32)


def truth(affine, shape):
    index = np.indices(shape).reshape(3, -1)
    world = affine @ np.vstack([index, np.ones(index.shape[1])])
    return (WAVE @ world[:3]).reshape(shape)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    angles=st.tuples(st.floats(-25, 25), st.floats(-25, 25)),
    n=st.integers(2, 8),
)
def test_a_tilted_stack_keeps_every_voxel_in_its_place(seed, angles, n):
    heights = np.arange(n) * 2.0
    leans = [heights * np.tan(np.radians(angle)) for angle in angles]
    rotation = Rotation.random(random_state=np.random.RandomState(seed))
    positions, leaning, array = stack(rotation, heights, leans)
    upright, affine = straightened(array, positions, leaning, np.nan)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    known = np.isfinite(upright)
    assert known.sum() > 0.8 * array.size
    np.testing.assert_allclose(upright[known], truth(affine, upright.shape)[known], atol=2e-4)


def test_uneven_slices_are_interpolated_at_even_steps():
    heights = np.array([0, 2.0, 4.0, 7.0, 9.0, 11.0])
    positions, leaning, array = stack(Rotation.identity(), heights, np.zeros((2, 6)))
    even, affine = straightened(array, positions, leaning, 0.0)
    assert even.shape == (6, 20, 24)
    assert np.linalg.norm(affine[:3, 0]) == pytest.approx(2.0)
    np.testing.assert_allclose(even, truth(affine, even.shape), atol=2e-4)


def test_a_whole_shift_of_pixels_changes_no_value():
    heights = np.arange(4) * 2.0
    positions, leaning, array = stack(
        Rotation.identity(), heights, [np.arange(4) * 1.6, np.zeros(4)]
    )
    upright, _ = straightened(array, positions, leaning, -1.0)
    assert upright.shape == (4, 26, 24)
    for k in range(4):
        np.testing.assert_array_equal(upright[k, 2 * k : 2 * k + 20], array[k])
    assert (upright[0, 20:] == -1).all()


def test_a_stack_that_hardly_overlaps_is_refused():
    positions, leaning, array = stack(
        Rotation.identity(), np.arange(3.0), [np.arange(3) * 60.0, np.zeros(3)]
    )
    with pytest.raises(BadCase, match="times as large"):
        straightened(array, positions, leaning, 0.0)
