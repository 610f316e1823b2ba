"""Volumes of a series are told apart by what really varies, and never by guessing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from tasks.archive.frames import Frame, Planes
from tasks.archive.groups import split

PLANES = Planes(Dataset())


def frame(z, *, kind=("ORIGINAL", "PRIMARY"), **varies):
    return Frame(PLANES, 0, (0.0, 0.0, float(z)), (1.0, 0, 0, 0, 1.0, 0), (1.0, 1.0),
                 "PixelSpacing", (4, 4), kind, None, varies)  # fmt: skip


def keys(frames):
    return [group.key for group in split(frames)]


def heights(group):
    return sorted(frame.position[2] for frame in group.frames)


@settings(deadline=None, max_examples=60)
@given(
    slices=st.integers(1, 12),
    values=st.lists(st.integers(0, 3000), min_size=1, max_size=6, unique=True),
    name=st.sampled_from(["te", "ti", "flip", "b", "time", "phase"]),
    seed=st.integers(0, 999),
)
def test_every_value_that_repeats_the_stack_is_a_volume(slices, values, name, seed):
    frames = [frame(2 * z, **{name: float(value)}) for value in values for z in range(slices)]
    order = np.random.default_rng(seed).permutation(len(frames))
    groups = split([frames[k] for k in order])
    assert len(groups) == len(values)
    assert all(heights(group) == [2 * z for z in range(slices)] for group in groups)
    assert all(len({f.varies[name] for f in group.frames}) == 1 for group in groups)
    expected = [""] if len(values) == 1 else [f"{name}={v:g}" for v in sorted(map(float, values))]
    assert [group.key for group in groups] == expected


@settings(deadline=None, max_examples=40)
@given(slices=st.integers(1, 8), weights=st.integers(1, 3), ways=st.integers(1, 4))
def test_b_values_and_directions_are_told_together(slices, weights, ways):
    series = [frame(z, b=0.0, direction=None) for z in range(slices)]
    series += [
        frame(z, b=1000.0 * w, direction=(1.0, float(d), 0.0))
        for w in range(1, weights + 1)
        for d in range(ways)
        for z in range(slices)
    ]
    groups = split(series)
    assert len(groups) == 1 + weights * ways
    assert all(len(group.frames) == slices for group in groups)


def test_a_whole_stack_is_never_split_by_what_varies_along_it():
    stack = [frame(z, acquisition=float(z), time=float(z), te=30.0 + z) for z in range(8)]
    assert keys(stack) == [""]


def test_a_field_that_differs_at_every_slice_does_not_part_repeats():
    series = [frame(z, te=float(10 * copy + z)) for copy in range(2) for z in range(5)]
    assert [len(group.frames) for group in split(series)] == [10]


def test_repeats_that_only_the_clock_tells_are_ranked_by_it():
    series = [frame(z, clock=100.0 * copy + 3 * z) for copy in (1, 0) for z in range(4)]
    groups = split(series)
    assert [group.key for group in groups] == ["repeat=1", "repeat=2"]
    assert {f.varies["clock"] for f in groups[0].frames} == {0.0, 3.0, 6.0, 9.0}


def test_one_slice_taken_again_is_not_a_volume():
    series = [frame(z, acquisition=1.0, clock=float(z)) for z in range(6)]
    series.append(frame(3, acquisition=2.0, clock=99.0))
    assert [len(group.frames) for group in split(series)] == [7]


def test_repeats_that_nothing_tells_apart_stay_together():
    assert [len(g.frames) for g in split([frame(z) for z in range(4)] * 2)] == [8]


def test_two_ranges_of_one_series_part_by_acquisition():
    thorax = [frame(5 * z, acquisition=1.0) for z in range(6)]
    abdomen = [frame(100 + 3 * z, acquisition=2.0) for z in range(6)]
    groups = split(thorax + abdomen)
    assert [group.key for group in groups] == ["acquisition=1", "acquisition=2"]
    assert heights(groups[1])[0] == 100


def test_step_and_shoot_with_a_gap_is_not_parted_to_hide_the_gap():
    series = [frame(5 * z, acquisition=float(z // 2)) for z in range(12) if z not in (4, 5)]
    assert len(split(series)) == 1


def test_image_types_are_volumes_and_name_only_what_differs():
    words = ("ORIGINAL", "PRIMARY")
    series = [frame(z, kind=(*words, kind)) for kind in ("P", "M") for z in range(3)]
    assert keys(series) == ["type=M", "type=P"]


@pytest.mark.parametrize("word", ["DOE^JOHN", "MRN123456", "DOE", "ST MARY", "7340"])
def test_words_that_might_name_somebody_do_not_become_keys(word):
    typed = [frame(z, kind=("ORIGINAL", said)) for said in (word, "M") for z in (0, 1)]
    stacked = [
        frame(50 * n + z, stack=said) for n, said in enumerate((word, "1")) for z in range(3)
    ]
    for series in (typed, stacked):
        assert len(keys(series)) == 2
        assert word not in "".join(keys(series))


@pytest.mark.parametrize("apart", [0.0, 0.005])
def test_positions_nearer_than_a_scanner_can_move_are_one(apart):
    series = [frame(z + copy * apart, te=float(copy)) for copy in range(2) for z in range(3)]
    assert keys(series) == ["te=0", "te=1"]
