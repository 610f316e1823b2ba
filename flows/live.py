"""What a run shows while parts are made: cases, bytes, time left and failures by reason.

Workers say now and then how far their part is, over Dask's events: at most one small word a second
and worker, with counts and reasons and no id of a case.  A word holds the part's sums so far, so
that one that is lost, or said twice by a task that ran twice, does no harm.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from flows.console import Advance, progress
from flows.runners import listening, tell
from tasks.store.write import CaseDone, OnCase, PartRecord

TOPIC = "radloop-parts"

TELL_SECONDS = 2.0
"""A worker says at most this often how far it is."""

_tally: ContextVar["Tally | None"] = ContextVar("tally", default=None)


def telling(part_id: str) -> OnCase:
    """Return what a worker calls after each case of a part, so that the coordinator hears of it."""
    sums = {"part": part_id, "cases": 0, "bytes": 0, "failed": {}}
    said = time.monotonic()

    def on_case(done: CaseDone) -> None:
        nonlocal said
        sums["cases"] += 1
        sums["bytes"] += done.bytes
        if done.reason:
            sums["failed"][done.reason] = sums["failed"].get(done.reason, 0) + 1
        if time.monotonic() - said >= TELL_SECONDS:
            said = time.monotonic()
            tell(TOPIC, sums)

    return on_case


@dataclass
class Tally:
    """How far the parts of a plan are."""

    planned: Mapping[str, tuple[int, float]]
    """part id -> cases, planned seconds"""
    now: Mapping[str, Any] = field(default_factory=dict)
    landed: dict[str, PartRecord] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def hear(self, word: Mapping[str, Any]) -> None:
        """Take what a worker says of a part."""
        if word["part"] in self.planned:
            self.now = {**self.now, word["part"]: word}

    def land(self, record: PartRecord) -> None:
        """Take a part as made: its record is right, whatever was said before."""
        if record.part_id in self.planned:
            self.landed[record.part_id] = record

    @property
    def cases(self) -> int:
        """Cases that are off the list."""
        under_way = sum(word["cases"] for word in self._under_way())
        return under_way + sum(self.planned[part][0] for part in self.landed)

    def share(self) -> float:
        """Return the share of the planned work that is done, 0 to 1."""
        whole = sum(seconds for _, seconds in self.planned.values())
        done = sum(self.planned[part][1] for part in self.landed)
        for word in self._under_way():
            cases, seconds = self.planned[word["part"]]
            done += seconds * min(word["cases"] / max(cases, 1), 1.0)
        return done / whole if whole else 1.0

    def failures(self) -> Counter[str]:
        """Return how many cases failed, by reason."""
        found = Counter(r for record in self.landed.values() for _, r, _ in record.failures)
        for word in self._under_way():
            found.update(word["failed"])
        return found

    def line(self, now: float | None = None) -> str:
        """Say parts, bytes, time left and failures."""
        size = sum(record.bytes for record in self.landed.values())
        staged = sum(word["bytes"] for word in self._under_way())
        pieces = [
            f"{len(self.landed)} of {len(self.planned)} parts",
            f"{size / 1e9:.2f} GB made, {staged / 1e9:.2f} GB under way",
            self._left((time.monotonic() if now is None else now) - self.started),
        ]
        failed = self.failures()
        if failed:
            told = ", ".join(f"{reason} {count}" for reason, count in failed.most_common())
            pieces.append(f"failed: {told}")
        return "; ".join(pieces)

    def _left(self, elapsed: float) -> str:
        share = self.share()
        if share <= 0:
            return "time left not known yet"
        return f"about {elapsed * (1 - share) / share / 60:.1f} minutes left"

    def _under_way(self) -> list[Mapping[str, Any]]:
        return [word for part, word in self.now.items() if part not in self.landed]


@contextmanager
def watching(address: str, label: str, planned: Mapping[str, tuple[int, float]]) -> Iterator[None]:
    """Show how far a plan is while the block makes its parts, wave after wave.

    Parameters
    ----------
    address : str
        Of the Dask scheduler.
    label : str
        What is made.
    planned : mapping of part id to (cases, seconds)
    """
    tally = Tally(planned)
    total = sum(cases for cases, _ in planned.values())
    with progress(label, total=total, unit="cases") as advance:

        def hear(word: Mapping[str, Any]) -> None:
            tally.hear(word)
            _show(tally, advance)

        token = _tally.set(tally)
        _shown.set(advance)
        try:
            with listening(address, TOPIC, hear):
                yield
        finally:
            _tally.reset(token)


_shown: ContextVar[Advance | None] = ContextVar("shown", default=None)


def landed(record: PartRecord) -> None:
    """Tell whoever watches that a part is committed; nobody may."""
    tally, advance = _tally.get(), _shown.get()
    if tally is not None and advance is not None:
        tally.land(record)
        _show(tally, advance)


def _show(tally: Tally, advance: Advance) -> None:
    advance(tally.cases, None, tally.line())
