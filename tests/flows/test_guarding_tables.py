"""A row of a table that stands under two patients stops a training; equal codes do not."""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from flows.cohorts import settle
from flows.guarding import Guarded, guard, seen_columns
from flows.home import Home
from flows.jobs import places_of, write_job
from flows.settings import Settings
from tasks.archive.intake import ingest
from tasks.archive.sources import resolve_source
from tasks.archive.vault import put_source
from tasks.errors import LeakageError
from tasks.learn.job import TrainingJob
from tasks.learn.wisconsin import wisconsin_table

NOWHERE = "tcp://127.0.0.1:1"
"""A table needs no scheduler."""

COPIES = 12
"""Rows of somebody else: most land in another place than the other."""

CODES = """\
name: codes
title: A drawn table of few codes
task: classification
synthetic: true
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody. Drawn by a program.
cohort: {kind: row, table: codes}
labels: {format: column, column: outcome, classes: [well, ill], positive: ill}
split: {source: keyed, test: 0.25, folds: 3, key: public}
candidates: [{name: tree, kind: tabular, estimator: tree}]
evaluate: {primary: auroc, bootstrap: 200}
gate: {margin: 0.05, undecidable: refuse}
"""


@contextmanager
def training_on(table: Path, scenario: str, folder: Path) -> Iterator[tuple]:
    """Take a table in and give what a training of the scenario would be asked to guard."""
    home = Home(Settings(home=folder / "home"))
    source = resolve_source(str(table), "here")
    put_source(home.vault, source)
    ingest(source, home.catalog, home.vault, home.names)
    ready = settle(home, home.scenario(scenario))
    try:
        yield home, ready, write_job(home, ready)
    finally:
        home.catalog.dispose()
        home.vault.dispose()


def rows_of(table: Path) -> list[list[str]]:
    with table.open(newline="") as stream:
        return list(csv.reader(stream))


def write_rows(table: Path, rows: Sequence[Sequence[str]]) -> Path:
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return table


def test_the_real_table_passes_and_the_report_says_what_was_looked_for(tmp_path):
    with training_on(wisconsin_table(tmp_path / "wisconsin.csv"), "breast-cancer", tmp_path) as it:
        found = guard(*it, NOWHERE)
        assert len(it[2].cases) == 569
        assert len(seen_columns(it[2])) == 30
    assert found.warnings == ()
    assert found.checks[-1] == "No row of the table stands on two sides or in two folds twice."


def test_a_copied_row_under_another_id_is_refused_by_case(tmp_path):
    table = wisconsin_table(tmp_path / "wisconsin.csv")
    head, *rows = rows_of(table)
    copies = [[f"wdbc-9{n:02d}", *row[1:]] for n, row in enumerate(rows[:COPIES])]
    write_rows(table, [head, *rows, *copies])
    with training_on(table, "breast-cancer", tmp_path) as it:
        with pytest.raises(LeakageError) as refused:
            guard(*it, NOWHERE)
        job: TrainingJob = it[2]
    said = str(refused.value)
    place = places_of(job)
    of_patient = {case.case_id: case.patient_key for case in job.cases}
    twice: dict[tuple, list[str]] = {}
    for case in job.cases:
        twice.setdefault(tuple(sorted(case.facts.items())), []).append(case.case_id)
    apart = [ids for ids in twice.values() if len({place[one] for one in ids}) > 1]
    assert 1 < len(apart) <= COPIES
    assert said.startswith(f"{len(apart)} pairs of rows stand under two patients")
    assert "the same in all 30 columns" in said
    pairs = re.findall(r"([0-9a-f]{12}) \((.*?)\) and ([0-9a-f]{12}) \((.*?)\)", said)
    assert len(pairs) == min(5, len(apart))
    for first, at, second, beside in pairs:
        assert at != beside
        ids = [[one for one in place if one[:12] == short] for short in (first, second)]
        assert [place[one] for (one,) in ids] == [at, beside]
        assert sorted(one for (one,) in ids) in [sorted(both) for both in apart]
        assert len({of_patient[one] for (one,) in ids}) == 2
    assert "`without` under cohort" in said
    # Named by pseudonyms alone.
    assert "wdbc" not in said


def test_equal_rows_of_few_codes_pass_and_are_counted(tmp_path):
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, levels, 300) for levels in (2, 2, 3, 4, 2)]
    rows = [[f"ZQ{n:04d}", *map(str, row[:4]), ("well", "ill")[row[4]]]
            for n, row in enumerate(zip(*codes, strict=True))]  # fmt: skip
    head = ["id", "smoker", "married", "grade", "stage", "outcome"]
    scenario = tmp_path / "codes.yaml"
    scenario.write_text(CODES)
    with training_on(
        write_rows(tmp_path / "codes.csv", [head, *rows]), str(scenario), tmp_path
    ) as it:
        found: Guarded = guard(*it, NOWHERE)
        # Of 48 patterns hardly one is nobody else's too.
        (equal,) = re.findall(r"(\d+) rows are equal to one elsewhere", found.checks[-1])
        assert 250 < int(equal) <= 300
    assert found.warnings == ()


def test_columns_that_no_candidate_sees_do_not_part_copies(tmp_path):
    table = wisconsin_table(tmp_path / "wisconsin.csv")
    head, *rows = rows_of(table)
    copies = [[f"wdbc-9{n:02d}", *row[1:]] for n, row in enumerate(rows[:COPIES])]
    beside = [[*row, str(number)] for number, row in enumerate([*rows, *copies])]
    write_rows(table, [[*head, "minute"], *beside])
    seen = ", ".join(head[1:9])
    body = (
        CODES.replace("table: codes", "table: wisconsin")
        .replace("name: codes", "name: some")
        .replace("column: outcome, classes: [well, ill], positive: ill",
                 "column: diagnosis, classes: [benign, malignant], positive: malignant")
        .replace("estimator: tree}", f"estimator: tree, features: [{seen}]}}")
    )  # fmt: skip
    scenario = tmp_path / "some.yaml"
    scenario.write_text(body)
    with training_on(table, str(scenario), tmp_path) as it:
        assert seen_columns(it[2]) == sorted(head[1:9])
        with pytest.raises(LeakageError, match="the same in all 8 columns"):
            guard(*it, NOWHERE)
