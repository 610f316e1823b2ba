"""A fingerprint says what the training cases have in common, whatever their order."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cohort.fingerprint import Fingerprint, case_fingerprint, merge, target_spacing

SPACED = np.diag([3.0, 0.5, 0.7, 1.0])

PERCENTILE_TOLERANCE = 0.15
"""Pooled quantiles of half a per cent against all voxels, in units of one standard deviation."""


def _case(seed: int, *, shape=(4, 20, 30), shift=0.0, case_id=""):
    values = np.random.default_rng(seed).normal(100 + shift, 10, shape)
    return case_fingerprint(values, SPACED, case_id=case_id or f"case{seed}")


def test_spacing_is_read_from_a_turned_affine():
    turn = np.eye(4)
    turn[:3, :3] = [[0, 0, 0.7], [0, -0.5, 0], [3.0, 0, 0]]
    assert case_fingerprint(np.ones((2, 3, 4)), turn).spacing == pytest.approx((3.0, 0.5, 0.7))


def test_foreground_is_the_mask_when_there_is_one():
    image = np.zeros((1, 4, 4))
    image[0, 0] = 5
    image[0, 1] = 9
    mask = np.zeros((1, 4, 4), dtype=np.uint8)
    mask[0, 1] = 2
    record = case_fingerprint(image, np.eye(4), mask)
    assert (record.n, record.mean, record.std) == (4, 9.0, 0.0)


def test_foreground_is_what_is_not_zero_without_a_mask_or_under_an_empty_one():
    image = np.zeros((1, 4, 4))
    image[0, 0] = 5
    for mask in (None, np.zeros((1, 4, 4), dtype=np.uint8)):
        assert case_fingerprint(image, np.eye(4), mask).mean == 5.0
    assert case_fingerprint(np.zeros((1, 2, 2)), np.eye(4)).n == 4


def test_pooled_moments_and_percentiles_are_those_of_all_voxels():
    arrays = [np.random.default_rng(k).normal(50 * k, 10, (4, 40, 50)) for k in range(5)]
    pooled = merge([case_fingerprint(a, SPACED, case_id=str(k)) for k, a in enumerate(arrays)])
    everything = np.concatenate([a.ravel() for a in arrays])
    assert pooled.mean == pytest.approx(everything.mean())
    assert pooled.std == pytest.approx(everything.std())
    expected = np.quantile(everything, (0.005, 0.995))
    assert (pooled.p005, pooled.p995) == pytest.approx(expected, abs=10 * PERCENTILE_TOLERANCE)


def test_a_large_case_weighs_no_more_than_a_small_one():
    small, large = _case(1, shape=(2, 10, 10)), _case(2, shape=(8, 60, 60), shift=100)
    assert merge([small, large]).mean == pytest.approx((small.mean + large.mean) / 2)


@given(st.permutations(range(6)))
def test_order_does_not_matter(order):
    cases = [_case(seed, shape=(2, 5 + seed, 6)) for seed in range(6)]
    assert merge([cases[k] for k in order]) == merge(cases)


def test_the_hash_names_the_fitting_cases():
    first, second = merge([_case(1), _case(2)]), merge([_case(1), _case(2, case_id="other")])
    assert first.case_hash != second.case_hash
    assert first.n_cases == 2


def test_what_cannot_be_used_is_refused_with_the_number():
    with pytest.raises(ValueError, match="got 0"):
        merge([])
    with pytest.raises(ValueError, match=r"mask shape \(1, 2, 3\)"):
        case_fingerprint(np.ones((1, 2, 2)), np.eye(4), np.ones((1, 2, 3)))
    with pytest.raises(ValueError, match="1 foreground voxels are not finite"):
        case_fingerprint(np.array([[[1.0, np.nan]]]), np.eye(4))


def test_thick_slices_are_brought_to_a_tenth_of_their_spacings():
    # The spleen of the Decathlon: a median of 5 mm becomes 1.6 mm, planes keep their median.
    spacings = np.array([[z, 0.793, 0.793] for z in (1.5, *[1.6] * 5, *[5.0] * 20, *[7.5] * 4)])
    shapes = np.tile([90, 512, 512], (len(spacings), 1))
    assert target_spacing(spacings, shapes) == pytest.approx((1.6, 0.793, 0.793))


@pytest.mark.parametrize(
    ("spacing", "size"),
    [((2.0, 0.9, 0.9), (90, 512, 512)), ((5.0, 0.8, 0.8), (400, 512, 512))],
    ids=["not three times as thick", "as many slices as pixels"],
)
def test_other_cohorts_are_brought_to_their_median(spacing, size):
    spacings = np.array([spacing, np.array(spacing) * 0.8, np.array(spacing) * 1.3])
    assert target_spacing(spacings, np.tile(size, (3, 1))) == pytest.approx(spacing)


def test_thick_slices_never_become_finer_than_the_planes():
    spacings = np.array([[0.5, 0.8, 0.8], *[[6.0, 0.8, 0.8]] * 4])
    assert target_spacing(spacings, np.tile([40, 512, 512], (5, 1)))[0] >= 0.8


def _slab(thick, share, number):
    """A case of 20 slices ``thick`` mm thick, of whose rows a ``share`` is not 0."""
    image = np.zeros((20, 100, 100))
    image[:, : round(100 * share)] = 7
    return case_fingerprint(image, np.diag([thick, 1, 1, 1]), None, f"{number}", "MR")


def test_the_merge_says_what_nnunet_plans_from():
    merged = merge([_slab(t, s, n) for n, (t, s) in enumerate([(4, 0.8), (6, 0.7), (6, 0.9)])])
    assert merged.target_spacing == pytest.approx((np.percentile([4, 6, 6], 10), 1, 1))
    assert merged.median_spacing == (6, 1, 1)
    assert merged.median_inside == (20, 80, 100)
    assert merged.inside_share == pytest.approx(0.8)
    assert merged.modalities == ("MR",)


def test_an_image_of_zeros_is_inside_as_a_whole():
    assert case_fingerprint(np.zeros((2, 3, 4)), np.eye(4)).inside == (2, 3, 4)


def test_a_fingerprint_comes_back_from_json():
    merged = merge([_case(1), _case(2)])
    assert Fingerprint.from_dict(json.loads(json.dumps(merged.to_dict()))) == merged
