"""What a run says of itself while it makes parts."""

import pytest

from flows import live
from flows.live import Tally, telling
from tasks.store.write import CaseDone, PartRecord


def record(part: str, failures=()) -> PartRecord:
    return PartRecord(part, "image", part, ("c",), 2 * 10**9, "d", tuple(failures), 1.0, 0)


@pytest.fixture
def tally() -> Tally:
    """Two parts of ten cases; the second is three times the work."""
    return Tally({"one": (10, 100.0), "two": (10, 300.0)}, started=0.0)


def word(part: str, cases: int, failed=None, size=10**9) -> dict:
    return {"part": part, "cases": cases, "bytes": size, "failed": failed or {}}


def test_words_are_sums_so_that_one_said_twice_does_no_harm(tally):
    for _ in range(2):
        tally.hear(word("one", 5, {"no_slices": 1}))
    assert tally.cases == 5
    assert tally.failures() == {"no_slices": 1}
    assert tally.share() == pytest.approx(50 / 400)


def test_the_record_of_a_part_takes_the_place_of_what_was_said(tally):
    tally.hear(word("one", 9, {"no_slices": 1}))
    tally.land(record("one", [("c", "no_slices", ""), ("e", "other", "")]))
    tally.hear(word("one", 2))
    assert tally.cases == 10
    assert tally.failures() == {"no_slices": 1, "other": 1}
    assert tally.share() == pytest.approx(0.25)


def test_the_line_says_parts_bytes_time_left_and_failures(tally):
    tally.land(record("one", [("c", "no_slices", "")]))
    tally.hear(word("two", 5))
    line = tally.line(now=250.0)
    assert line == (
        "1 of 2 parts; 2.00 GB made, 1.00 GB under way; about 2.5 minutes left; failed: no_slices 1"
    )
    assert "not known yet" in Tally({"one": (1, 1.0)}).line()


def test_words_of_other_runs_are_not_heard(tally):
    tally.hear(word("three", 5))
    tally.land(record("three"))
    assert (tally.cases, tally.share()) == (0, 0.0)


def test_a_worker_says_sums_and_reasons_and_no_case(monkeypatch):
    said = []
    monkeypatch.setattr(live, "tell", lambda topic, word: said.append(dict(word)))
    monkeypatch.setattr(live, "TELL_SECONDS", 0.0)
    on_case = telling("one")
    on_case(CaseDone("identified", 100, None))
    on_case(CaseDone("identified", 0, "no_slices"))
    assert said[-1] == {"part": "one", "cases": 2, "bytes": 100, "failed": {"no_slices": 1}}
    assert "identified" not in str(said)


def test_a_worker_says_at_most_one_word_a_second(monkeypatch):
    said = []
    monkeypatch.setattr(live, "tell", lambda topic, word: said.append(word))
    on_case = telling("one")
    for _ in range(1000):
        on_case(CaseDone("c", 1, None))
    assert said == []
