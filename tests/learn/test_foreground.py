"""Positions of foreground: right, few, and found without holding masks."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tasks.learn import foreground
from tasks.learn.dataset import ArrayCases
from tasks.learn.foreground import find_foreground, positions, positions_kept


@given(
    arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.integers(0, 3)),
    st.integers(1, 40),
)
def test_every_position_is_of_its_class_and_stands_there_once(label, limit):
    found = positions(label, 3, limit)
    present = [value for value in (1, 2, 3) if (label == value).any()]
    assert len(found) == len(present)
    for value, places in zip(present, found, strict=True):
        assert (label[tuple(places.T)] == value).all()
        assert len(np.unique(places, axis=0)) == min((label == value).sum(), limit)


def test_positions_are_those_drawn_from_a_list_of_all_foreground():
    label = np.random.default_rng(0).integers(0, 3, (9, 17, 13)).astype(np.uint8)
    rng = np.random.default_rng(5)
    for value, found in zip((1, 2), positions(label, 5, 50), strict=True):
        chosen = rng.choice(np.flatnonzero(label == value), 50, replace=False)
        np.testing.assert_array_equal(found, np.column_stack(np.unravel_index(chosen, label.shape)))


def test_a_mask_without_foreground_has_no_positions():
    assert positions(np.zeros((3, 4, 5), np.uint8), 0) == ()


def test_the_number_of_readers_changes_nothing():
    rng = np.random.default_rng(1)
    labels = {str(i): rng.integers(0, 3, (6, 8, 7)).astype(np.uint8) for i in range(9)}
    source = ArrayCases({}, labels)
    one = find_foreground(source, list(labels), 3, 0, readers=1)
    many = find_foreground(source, list(labels), 3, 0, readers=4)
    assert list(one) == list(many) == list(labels)
    for case_id in labels:
        for a, b in zip(one[case_id], many[case_id], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("n_cases", "n_classes", "kept"),
    [(10, 2, 1000), (5_000, 2, 1000), (50_000, 2, 223), (50_000, 6, 44), (10**8, 2, 1)],
)
def test_all_positions_together_keep_to_their_budget(n_cases, n_classes, kept):
    assert positions_kept(n_cases, n_classes) == kept
    assert kept == 1 or n_cases * (n_classes - 1) * kept * 6 <= foreground.FOREGROUND_BYTES


class _Endless:
    """Masks made when asked for: what is held is what the search for foreground holds."""

    def label(self, case_id: str) -> np.ndarray:
        mask = np.zeros((32, 64, 64), np.uint8)
        mask[4:28, 8:56, 8:56] = 1
        return mask


def test_memory_grows_by_the_positions_and_not_by_the_masks(monkeypatch):
    monkeypatch.setattr(foreground, "FOREGROUND_SAMPLES", 50)
    peaks = {}
    tracemalloc.start()
    try:
        for n in (20, 220):
            tracemalloc.reset_peak()
            held = find_foreground(_Endless(), [str(i) for i in range(n)], 2, 0, readers=2)
            peaks[n] = tracemalloc.get_traced_memory()[1]
            del held
    finally:
        tracemalloc.stop()
    # A mask has 131,072 bytes, fifty positions 300 and their array about 200.
    assert (peaks[220] - peaks[20]) / 200 < 2_000
