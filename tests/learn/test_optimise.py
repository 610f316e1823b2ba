"""A search finds the good corner of a space, stops what falls short, and goes on after a kill."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.learn.optimise import ROUND, Ask, Search, Told, optimise
from tasks.learn.space import Span

SPACE = {
    "lr": Span(low=1e-4, high=1e-1, log=True),
    "batch": Span(low=2, high=8),
    "kind": ["a", "b"],
}

EPOCHS = 8


def score(params):
    import math

    far = (math.log10(params["lr"]) + 2) ** 2
    return -far - 0.01 * abs(params["batch"] - 4) - (params["kind"] == "b")


def train(ask):
    """Return a trial whose curve rises to its score over the epochs."""
    values = []
    for epoch in range(1, EPOCHS + 1):
        values.append(score(ask.params) - 1 / epoch)
        if ask.falls_short(values, EPOCHS):
            return Told(ask.number, ask.params, tuple(values), stopped=True)
    return Told(ask.number, ask.params, tuple(values))


def run_here(asked):
    return [train(ask) for ask in asked]


def test_the_best_of_a_search_beats_its_first_rounds_and_draws_what_was_declared():
    search = Search(SPACE, 32, seed=0)
    best = optimise(search, run_here)
    told = search.told()
    assert [one.number for one in told] == list(range(32))
    assert all(1e-4 <= one.params["lr"] <= 1e-1 for one in told)
    assert {one.params["batch"] for one in told} <= set(range(2, 9))
    assert best.score == max(one.score for one in told if not one.stopped)
    assert score(best.params) > max(score(one.params) for one in told[: 2 * ROUND])
    assert 1e-3 < best.params["lr"] < 1e-1


def test_what_falls_short_is_stopped_after_the_warm_up_and_is_never_the_best():
    search = Search(SPACE, 24, seed=1)
    best = optimise(search, run_here)
    stopped = [one for one in search.told() if one.stopped]
    assert stopped
    assert all(one.number >= ROUND and 2 < len(one.values) < EPOCHS for one in stopped)
    assert not best.stopped
    spent = sum(len(one.values) for one in search.told())
    assert spent < 24 * EPOCHS


def test_the_bar_is_the_median_of_the_earlier_rounds_best_so_far():
    search = Search({"a": [1, 2]}, 2 * ROUND, seed=0)
    curves = [(0.1, 0.5, 0.4), (0.2, 0.3, 0.3), (0.3, 0.2, 0.9), (0.0, 0.1, 0.2)]
    for ask, values in zip(search.ask(), curves, strict=True):
        assert ask.bar == ()
        search.tell(Told(ask.number, ask.params, values))
    assert search.ask()[0].bar == pytest.approx((0.15, 0.3, 0.4))
    ask = Ask(4, {}, (0.15, 0.3, 0.4))
    assert ask.falls_short([0.0, 0.29], 4)
    assert not ask.falls_short([0.0], 4)  # a quarter of the epochs is warm-up
    assert not ask.falls_short([0.0, 0.3], 4)


def test_the_last_value_counts_not_one_that_was_better_on_the_way():
    search = Search({"a": [1, 2]}, 2, seed=0)
    for ask, values in zip(search.ask(), [(0.1, 0.9, 0.4), (0.1, 0.3, 0.5)], strict=True):
        search.tell(Told(ask.number, ask.params, values))
    assert [one.score for one in search.told()] == [0.4, 0.5]
    assert search.best.number == 1


def test_the_same_trials_come_however_many_workers_run_them():
    def pooled(asked):
        with ThreadPoolExecutor(4) as pool:
            return list(reversed(list(pool.map(train, asked))))

    one, other = Search(SPACE, 16, seed=3), Search(SPACE, 16, seed=3)
    optimise(one, run_here)
    optimise(other, pooled)
    assert one.told() == other.told()
    assert Search(SPACE, 4, seed=4).ask() != Search(SPACE, 4, seed=3).ask()


def test_a_search_killed_in_a_round_ends_with_the_trials_of_an_undisturbed_one(tmp_path):
    undisturbed = Search(SPACE, 16, seed=5)
    optimise(undisturbed, run_here)
    done = subprocess.run([sys.executable, __file__, str(tmp_path / "s.jsonl")], check=False)
    assert done.returncode == -signal.SIGKILL
    for line in (tmp_path / "s.jsonl").read_text().splitlines():
        json.loads(line)  # a journal of plain lines: nothing pickled
    search = Search(SPACE, 16, seed=5, journal=tmp_path / "s.jsonl")
    assert 0 < len(search.told()) < 16
    optimise(search, run_here)
    assert search.told() == undisturbed.told()
    assert search.ask() == []


def test_a_span_that_cannot_be_drawn_from_is_refused():
    for fields, words in [
        ({"low": 2, "high": 1}, "not below"),
        ({"low": 0, "high": 1, "log": True}, "logarithmic"),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "not together with log"),
    ]:
        with pytest.raises(ValueError, match=words):
            Span(**fields)


if __name__ == "__main__":
    killed = Search(SPACE, 16, seed=5, journal=__import__("pathlib").Path(sys.argv[1]))
    for number, asked in enumerate(iter(killed.ask, [])):
        for place, one in enumerate(asked):
            if (number, place) == (2, 2):
                os.kill(os.getpid(), signal.SIGKILL)
            killed.tell(train(one))
