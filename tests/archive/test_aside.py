"""Cases set aside for larger workers: never lost, told while it holds, back by themselves."""

import pytest

from tasks.archive.aside import REASON, cases_aside, set_aside
from tasks.archive.catalog import add_quarantine, quarantine
from tasks.archive.commits import (
    PartRow,
    commit_part,
    pending_cases,
    put_recipe,
    retry_cases,
    want_cases,
    work_states,
)

RECIPE, OTHER = "a" * 32, "b" * 32
CASES = tuple(f"{number:032x}" for number in range(4))


@pytest.fixture
def catalog(sqlite_catalog):
    """A catalog with two recipes, four cases wanted for each."""
    for recipe in (RECIPE, OTHER):
        put_recipe(sqlite_catalog, recipe, recipe[0], {"recipe": recipe}, "")
        want_cases(sqlite_catalog, recipe, CASES)
    return sqlite_catalog


def test_a_case_that_is_set_aside_stays_pending_and_is_told(catalog):
    set_aside(catalog, RECIPE, CASES, {CASES[1]: "3 GB"})
    assert pending_cases(catalog, RECIPE) == list(CASES)
    (row,) = quarantine(catalog)
    assert (row.stage, row.reason, row.detail) == ("preprocess", REASON, "3 GB")
    assert (row.case_id, row.recipe_id) == (CASES[1], RECIPE)
    assert cases_aside(catalog, RECIPE) == {CASES[1]: "3 GB"}
    assert cases_aside(catalog, OTHER) == {}


def test_what_is_told_is_what_the_last_run_found(catalog):
    set_aside(catalog, RECIPE, CASES, {CASES[1]: "3 GB", CASES[2]: "4 GB"})
    set_aside(catalog, RECIPE, CASES, {CASES[2]: "4 GB, with other workers", CASES[3]: "5 GB"})
    told = {CASES[2]: "4 GB, with other workers", CASES[3]: "5 GB"}
    assert cases_aside(catalog, RECIPE) == told
    set_aside(catalog, RECIPE, CASES, {})
    assert quarantine(catalog) == []


def test_cases_a_run_does_not_ask_for_other_recipes_and_other_reasons_stay_as_they_are(catalog):
    set_aside(catalog, RECIPE, CASES, {CASES[1]: "3 GB"})
    set_aside(catalog, OTHER, CASES, {CASES[2]: "4 GB"})
    add_quarantine(
        catalog,
        stage="preprocess",
        reason="out_of_memory",
        detail="",
        case_id=CASES[2],
        recipe_id=RECIPE,
    )
    set_aside(catalog, RECIPE, CASES[2:], {})
    assert cases_aside(catalog, RECIPE) == {CASES[1]: "3 GB"}
    assert cases_aside(catalog, OTHER) == {CASES[2]: "4 GB"}
    assert len(quarantine(catalog)) == 3


def test_more_cases_than_one_statement_takes_come_back(catalog):
    many = [f"{number:032x}" for number in range(2500)]
    want_cases(catalog, RECIPE, many)
    set_aside(catalog, RECIPE, many, dict.fromkeys(many, "3 GB"))
    assert len(cases_aside(catalog, RECIPE)) == len(many)
    set_aside(catalog, RECIPE, many, {})
    assert quarantine(catalog) == []


def test_the_others_are_committed_and_a_retry_loses_nothing(catalog):
    set_aside(catalog, RECIPE, CASES, {CASES[1]: "3 GB"})
    held = tuple(case for case in CASES if case != CASES[1])
    commit_part(catalog, PartRow("c" * 32, "image", RECIPE, None, None, "p", held, 9, "d"))
    assert work_states(catalog, RECIPE) == {"done": 3, "pending": 1}
    assert retry_cases(catalog, RECIPE) == 0
    assert pending_cases(catalog, RECIPE) == [CASES[1]]
