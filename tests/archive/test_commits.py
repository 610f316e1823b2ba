"""Recipes, work and parts: append-only, one way, whole or not at all."""

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from tasks.archive.catalog import quarantine, status
from tasks.archive.commits import (
    PartRow,
    acquire_lease,
    all_parts,
    commit_part,
    part_of_case,
    parts,
    pending_cases,
    put_recipe,
    recipe_for,
    retry_cases,
    want_cases,
    work_states,
)
from tasks.archive.database import writing
from tasks.archive.work import pending_query
from tasks.errors import LeaseHeld, StoreError
from tests.archive.made_rows import CASES, RECIPE, key


def a_part(case_ids=CASES[:3], **changes: object) -> PartRow:
    values = {
        "part_id": key("part"),
        "kind": "image",
        "recipe_id": RECIPE,
        "label_set_id": None,
        "image_part_id": None,
        "path": "parts/x.zarr",
        "case_ids": tuple(case_ids),
        "bytes": 5_000_000_000,
        "digest": "d" * 64,
    }
    return PartRow(**{**values, **changes})


class TestRecipes:
    def test_newest_generation_is_the_scenarios(self, catalog: Engine) -> None:
        assert recipe_for(catalog, "chest-xray") is None
        put_recipe(catalog, key(1), "chest-xray", {"a": [1, 2.5]}, "")
        put_recipe(catalog, key(2), "chest-xray", {"a": 2}, "")
        put_recipe(catalog, key(1), "other", {"a": [1, 2.5]}, "")
        assert recipe_for(catalog, "chest-xray") == (key(2), {"a": 2})
        assert recipe_for(catalog, "other") == (key(1), {"a": [1, 2.5]})
        put_recipe(catalog, key(1), "chest-xray", {"a": [1, 2.5]}, "")
        assert recipe_for(catalog, "chest-xray")[0] == key(1)

    def test_one_id_has_one_content(self, catalog: Engine) -> None:
        put_recipe(catalog, key(1), "s", {"a": 1}, "")
        with pytest.raises(ValueError, match="another content"):
            put_recipe(catalog, key(1), "s", {"a": 2}, "")


class TestWork:
    def test_wanted_cases_are_pending_once(self, wanted: Engine) -> None:
        assert pending_cases(wanted, RECIPE) == list(CASES)
        assert want_cases(wanted, RECIPE, [*CASES, key("new")]) == 1
        assert work_states(wanted, RECIPE) == {"pending": 7}
        assert pending_cases(wanted, key("another recipe")) == []

    def test_recipe_must_be_known(self, catalog: Engine) -> None:
        with pytest.raises(ValueError, match="not in the catalog"):
            want_cases(catalog, RECIPE, CASES)

    def test_states_move_one_way(self, wanted: Engine) -> None:
        commit_part(wanted, a_part(CASES[:2]), [(CASES[2], "tilt", "31 degrees")])
        assert want_cases(wanted, RECIPE, CASES) == 0
        assert work_states(wanted, RECIPE) == {"done": 2, "pending": 3, "quarantined": 1}
        # A late record about cases that are finished moves none of them.
        late = a_part(CASES[2:3], part_id=key("late"))
        commit_part(wanted, late, [(CASES[0], "tilt", "x")])
        assert work_states(wanted, RECIPE) == {"done": 2, "pending": 3, "quarantined": 1}

    def test_failed_cases_can_be_wanted_again_by_a_person(self, wanted: Engine) -> None:
        commit_part(wanted, a_part(CASES[:2]), [(CASES[2], "tilt", "31 degrees")])
        assert retry_cases(wanted, key("another recipe")) == 0
        assert retry_cases(wanted, RECIPE) == 1
        assert quarantine(wanted) == []
        assert want_cases(wanted, RECIPE, CASES) == 1
        assert CASES[2] in pending_cases(wanted, RECIPE)

    def test_not_yet_processed_is_answered_by_the_partial_index(
        self, sqlite_catalog: Engine
    ) -> None:
        query = pending_query(RECIPE).compile(
            dialect=sqlite_catalog.dialect, compile_kwargs={"literal_binds": True}
        )
        with sqlite_catalog.connect() as connection:
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN {query}")).all()
        steps = [row.detail for row in plan]
        assert len(steps) == 1
        assert "USING INDEX ix_work_pending (recipe_id=?)" in steps[0]

    def test_unknown_state_is_refused_by_the_database(self, wanted: Engine) -> None:
        with pytest.raises(IntegrityError), writing(wanted) as connection:
            connection.execute(text("UPDATE work SET state = 'maybe'"))


class TestParts:
    def test_commit_moves_work_and_makes_the_part_exist(self, wanted: Engine) -> None:
        part = a_part(CASES[2::-1])
        commit_part(wanted, part, [(CASES[3], "missing_slices", "2 of 40 are missing")])
        assert parts(wanted, recipe_id=RECIPE, kind="image") == [part]
        assert pending_cases(wanted, RECIPE) == list(CASES[4:])
        (row,) = quarantine(wanted)
        assert (row.stage, row.reason, row.case_id, row.recipe_id) == (
            "preprocess",
            "missing_slices",
            CASES[3],
            RECIPE,
        )
        assert part_of_case(wanted, RECIPE, CASES) == dict.fromkeys(CASES[:3], part.part_id)
        assert status(wanted)["part_bytes"] == 5_000_000_000

    def test_committing_again_is_a_no_op(self, wanted: Engine) -> None:
        failures = [(CASES[3], "tilt", "x")]
        commit_part(wanted, a_part(), failures)
        before = (parts(wanted), quarantine(wanted), work_states(wanted, RECIPE))
        commit_part(wanted, a_part(), failures)
        assert (parts(wanted), quarantine(wanted), work_states(wanted, RECIPE)) == before

    @pytest.mark.parametrize("change", [{"digest": "e" * 64}, {"case_ids": CASES[:2]}])
    def test_same_part_with_other_content_is_refused_whole(
        self, wanted: Engine, change: dict
    ) -> None:
        commit_part(wanted, a_part())
        with pytest.raises(StoreError, match="radloop verify"):
            commit_part(wanted, a_part(**change), [(CASES[5], "tilt", "x")])
        assert quarantine(wanted) == []
        assert CASES[5] in pending_cases(wanted, RECIPE)

    def test_nothing_of_a_commit_stays_when_a_piece_fails(self, wanted: Engine) -> None:
        with pytest.raises(IntegrityError):
            commit_part(wanted, a_part(image_part_id=key("no such part")), [(CASES[3], "x", "x")])
        assert parts(wanted) == []
        assert quarantine(wanted) == []
        assert pending_cases(wanted, RECIPE) == list(CASES)

    def test_part_of_which_every_case_failed_does_not_exist(self, wanted: Engine) -> None:
        commit_part(wanted, a_part(()), [(case_id, "tilt", "x") for case_id in CASES[:3]])
        assert parts(wanted) == []
        assert work_states(wanted, RECIPE) == {"pending": 3, "quarantined": 3}

    def test_label_parts_leave_the_work_on_images_alone(self, wanted: Engine) -> None:
        from tasks.archive.catalog import put_label_set

        label_set = put_label_set(wanted, name="n", source="s", author="a", digest="d", rows=[])
        commit_part(wanted, a_part())
        label = a_part(
            part_id=key("label"),
            kind="label",
            label_set_id=label_set,
            image_part_id=key("part"),
        )
        commit_part(wanted, label, [(CASES[4], "mask_grid", "other affine")])
        assert pending_cases(wanted, RECIPE) == list(CASES[3:])
        assert parts(wanted, recipe_id=RECIPE, kind="label", label_set_id=label_set) == [label]
        assert [part.kind for part in all_parts(wanted)] == ["image", "label"]
        assert part_of_case(wanted, RECIPE, CASES[:1], label_set) == {CASES[0]: key("label")}
        assert [row.stage for row in quarantine(wanted)] == ["label"]

    def test_other_kinds_and_unknown_recipes_are_refused(self, wanted: Engine) -> None:
        with pytest.raises(ValueError, match="image, label"):
            commit_part(wanted, a_part(kind="mask"))
        with pytest.raises(ValueError, match="not in the catalog"):
            commit_part(wanted, a_part(recipe_id=key("unknown")))

    def test_owner_that_lost_its_lease_commits_nothing(self, wanted: Engine) -> None:
        fence = acquire_lease(wanted, "store", "one", ttl_s=-1)
        newer = acquire_lease(wanted, "store", "two")
        with pytest.raises(LeaseHeld, match="nothing was written"):
            commit_part(wanted, a_part(), lease=("store", fence))
        assert parts(wanted) == []
        commit_part(wanted, a_part(), lease=("store", newer))
        assert len(parts(wanted)) == 1
