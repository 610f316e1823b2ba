"""Parts leave the catalog whole: forgotten with their work, replaced with nothing lost."""

import pytest
from sqlalchemy import Engine

from tasks.archive.commits import (
    PartRow,
    acquire_lease,
    all_parts,
    commit_part,
    part_of_case,
    pending_cases,
    put_recipe,
    want_cases,
    work_states,
)
from tasks.archive.leases import live_leases, release_lease
from tasks.archive.retire import forget_recipe, known_recipes, newest_recipes, replace_parts
from tasks.errors import LeaseHeld, StoreError
from tests.archive.made_rows import CASES, RECIPE, key

OTHER = key("another recipe")


def row(name: str, case_ids, **more) -> PartRow:
    return PartRow(
        **{
            "part_id": key(name),
            "kind": "image",
            "recipe_id": RECIPE,
            "label_set_id": None,
            "image_part_id": None,
            "path": f"parts/{key(name)}.zarr",
            "case_ids": tuple(case_ids),
            "bytes": 1000,
            "digest": key(name, "digest"),
            **more,
        }
    )


@pytest.fixture
def stored(wanted: Engine) -> Engine:
    commit_part(wanted, row("a", CASES[:2]))
    commit_part(wanted, row("b", CASES[2:4]))
    return wanted


def test_newest_and_known_recipes_are_those_of_all_scenarios(stored):
    put_recipe(stored, OTHER, "chest-xray", {"steps": []}, "")
    put_recipe(stored, RECIPE, "other", {"steps": [{"step": "window"}]}, key("fit"))
    assert newest_recipes(stored) == {"chest-xray": OTHER, "other": RECIPE}
    assert known_recipes(stored) == {OTHER, RECIPE}


def test_a_recipe_in_use_is_not_forgotten(stored):
    with pytest.raises(StoreError, match="in use by a scenario again"):
        forget_recipe(stored, RECIPE)
    assert len(all_parts(stored)) == 2


def test_cases_of_a_forgotten_recipe_are_wanted_again_when_it_comes_back(stored):
    put_recipe(stored, OTHER, "chest-xray", {"steps": []}, "")
    assert sorted(forget_recipe(stored, RECIPE)) == sorted(
        f"parts/{key(name)}.zarr" for name in ("a", "b")
    )
    assert all_parts(stored) == []
    assert part_of_case(stored, RECIPE, CASES) == {}
    put_recipe(stored, RECIPE, "chest-xray", {"steps": [{"step": "window"}]}, key("fit"))
    assert want_cases(stored, RECIPE, CASES) == len(CASES)
    assert pending_cases(stored, RECIPE) == list(CASES)


def test_one_part_takes_the_place_of_two_and_of_nothing_else(stored):
    old, new = [key("a"), key("b")], row("c", CASES[:4])
    before = work_states(stored, RECIPE)
    with pytest.raises(StoreError, match="they stay as they are"):
        replace_parts(stored, old, row("c", CASES[:3]))
    assert len(all_parts(stored)) == 2
    replace_parts(stored, old, new)
    assert all_parts(stored) == [new]
    assert set(part_of_case(stored, RECIPE, CASES).values()) == {key("c")}
    assert work_states(stored, RECIPE) == before


def test_a_fenced_out_run_changes_nothing(stored):
    number = acquire_lease(stored, "store", "first", 60)
    release_lease(stored, "store", "first", number)
    acquire_lease(stored, "store", "second", 60)
    with pytest.raises(LeaseHeld):
        replace_parts(stored, [key("a"), key("b")], row("c", CASES[:4]), lease=("store", number))
    put_recipe(stored, OTHER, "chest-xray", {"steps": []}, "")
    with pytest.raises(LeaseHeld):
        forget_recipe(stored, RECIPE, lease=("store", number))
    assert len(all_parts(stored)) == 2


def test_only_leases_with_a_beating_heart_are_live(stored):
    acquire_lease(stored, "train x", "one", 60)
    acquire_lease(stored, "train y", "two", -1)
    number = acquire_lease(stored, "train z", "three", 60)
    release_lease(stored, "train z", "three", number)
    assert live_leases(stored) == ("train x",)
