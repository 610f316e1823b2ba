"""A part says where its time went."""

import time

import pytest

from tasks.store.spent import STAGES, Stopwatch


def test_stages_add_up_and_stay_below_the_wall():
    watch = Stopwatch()
    for _ in range(2):
        with watch.on("prepare"):
            time.sleep(0.02)
    with watch.on("publish"):
        pass
    assert set(watch.seconds) == set(STAGES)
    assert watch.seconds["prepare"] >= 0.04
    assert sum(watch.seconds.values()) <= watch.wall
    assert watch.core <= watch.wall + 0.05, "sleeping uses no core"


def test_a_stage_that_fails_is_counted_too():
    watch = Stopwatch()

    def fail() -> None:
        with watch.on("stage"):
            time.sleep(0.01)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail()
    assert watch.seconds["stage"] >= 0.01
