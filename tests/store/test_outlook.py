"""What a plan comes to, in numbers and words, and that it is refused where it cannot fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import RadloopError
from tasks.imaging.recipe import fit
from tasks.imaging.steps import parse_steps
from tasks.store.needs import CaseNeed
from tasks.store.outlook import (
    BEST_COMPRESSION,
    PART_SECONDS,
    START_SECONDS,
    WAVE_SECONDS,
    describe,
    describe_aside,
    outlook,
    refuse_what_cannot_fit,
    wall_seconds,
)
from tasks.store.plan import WAVE, PartPlan, plan_parts

PLAIN = fit(parse_steps([{"step": "normalise"}]), None)


def part(number: int, seconds: int) -> PartPlan:
    return PartPlan(f"{number:032x}", (f"{number:032x}",), 100, 1000, seconds)


def test_the_plan_is_told_in_numbers():
    parts = plan_parts([CaseNeed("a" * 32, 10**6, 10**8)], PLAIN, "r")
    text = " ".join(describe(outlook(parts, 2)))
    assert "1 cases in 1 parts, 1 wave of at most 256" in text
    assert "0.40 GB before compression" in text
    assert "2.72 GB of memory a worker" in text
    assert "with 2 workers" in text
    assert "nothing to make" in describe(outlook((), 2))[0]


def test_what_is_set_aside_is_told_with_what_it_needs():
    large = {"a" * 32: 2_715_000_000, "b" * 32: 10**9 + 1}
    text = describe_aside(large, 10**9)
    assert text.startswith("2 cases set aside: 2.71 GB of memory needed, 1.00 GB in the smallest")
    assert describe_aside({"a" * 32: 2 << 30}, 10**9).startswith("1 case set aside: ")
    assert not any(case_id in text for case_id in large)


def test_a_plan_for_a_larger_disk_is_refused():
    parts = [part(number, 10) for number in range(80)]
    least = 80 * 100 // BEST_COMPRESSION + 100
    refuse_what_cannot_fit(parts, least)
    refuse_what_cannot_fit(parts, None)
    with pytest.raises(RadloopError, match="make room, or set RADLOOP_STORE"):
        refuse_what_cannot_fit(parts, least - 1)
    refuse_what_cannot_fit((), 0)


def test_a_part_of_a_bucket_that_the_scratch_disk_cannot_hold_is_refused():
    parts = [part(number, 10) for number in range(80)]
    refuse_what_cannot_fit(parts, None, 100)
    with pytest.raises(RadloopError, match=r"until it is in the bucket.*RADLOOP_HOME"):
        refuse_what_cannot_fit(parts, None, 99)


def test_the_longest_part_goes_first_and_the_others_fill_up():
    parts = [part(number, seconds) for number, seconds in enumerate((10, 10, 10, 30))]
    fixed = START_SECONDS + WAVE_SECONDS
    assert wall_seconds(parts, 2) == pytest.approx(fixed + 30 + 3 * PART_SECONDS)
    assert wall_seconds(parts, 1) == pytest.approx(fixed + 60 + 4 * PART_SECONDS)


def test_every_wave_waits_for_its_last_part():
    parts = [part(number, 1) for number in range(WAVE + 1)]
    spent = wall_seconds(parts, WAVE)
    assert spent == pytest.approx(START_SECONDS + 2 * (WAVE_SECONDS + 1 + PART_SECONDS))


@given(st.lists(st.integers(1, 600), min_size=1, max_size=300), st.integers(1, 16))
def test_a_run_lasts_at_least_its_work_over_its_workers(seconds, workers):
    parts = [part(number, planned) for number, planned in enumerate(seconds)]
    found = outlook(parts, workers)
    assert found.wall_seconds > max(sum(seconds) / workers, max(seconds))
    assert found.core_seconds == sum(seconds)


def test_a_run_without_workers_is_refused():
    with pytest.raises(ValueError, match="workers is 0"):
        outlook((), 0)
