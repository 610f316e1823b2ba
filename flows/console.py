"""What a person sees: lines, and a bar where there is a terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_SECONDS = 10
"""Without a terminal a long step says where it is about this often."""

_console = Console(file=sys.stderr, highlight=False, soft_wrap=True)


class Advance(Protocol):
    """Says how far a long step is."""

    def __call__(self, done: int, of: int | None = None, note: str = "") -> None:
        """Take how many are done, of how many when that is known, and what else to show."""


def say(text: str = "") -> None:
    """Print one line for a person, on standard error so that standard output stays for results."""
    _console.print(text, markup=False)


def heading(text: str) -> None:
    """Print a line that opens a stage."""
    _console.print(f"\n{text}", style="bold", markup=False)


@contextmanager
def progress(label: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
    """Show how far a long step is.

    Yields
    ------
    callable
        ``advance(done, total, note)``: how many are done, of how many when that is known, and a
        word beside it.
    """
    if _console.is_terminal:
        with _bar() as bar:
            row = bar.add_task(label, total=total)

            def advance(done: int, of: int | None = None, note: str = "") -> None:
                known = of if of is not None else total
                bar.update(row, completed=done, total=known, description=f"{label}  {note}".strip())

            yield advance
        return
    started = last = time.monotonic()

    def advance_plainly(done: int, of: int | None = None, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_SECONDS:
            last = now
            known = of if of is not None else total
            told = f"{done} of {known}" if known else f"{done}"
            beside = f"; {note}" if note else ""
            say(f"  {label}: {told} {unit}, {now - started:.0f} s{beside}")

    yield advance_plainly


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=_console,
        transient=True,
    )
