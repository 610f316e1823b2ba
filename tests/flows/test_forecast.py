"""What `radloop check` tells of a cohort before anything is started."""

from flows.forecast import several_volumes
from tasks.archive.quarantine import QuarantineRow


def row(reason, detail):
    return QuarantineRow("q" * 32, "preprocess", reason, detail, None, None, "c" * 32, "r" * 32, "")


def test_series_without_the_one_volume_that_is_meant_are_counted_and_their_keys_told():
    rows = [
        row("several_volumes", "2 volumes in one series; name one: te=15, te=60"),
        row("gantry_tilt", "the stack leans"),
        row("no_such_volume", "none is te=60; the series holds one volume, te=15"),
    ]
    (line,) = several_volumes(rows)
    assert line.startswith("2 series do not hold the one volume")
    assert "te=15, te=60" in line
    assert "`volume` under cohort" in line


def test_nothing_is_said_where_every_series_holds_it():
    assert several_volumes([row("gantry_tilt", "the stack leans")]) == []
