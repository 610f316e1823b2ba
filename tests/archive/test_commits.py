"""Recipes, work, parts, splits, editions and leases: append-only, one way, one owner at a time."""

import hashlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, text, update
from sqlalchemy.exc import IntegrityError

from tasks.archive import leases
from tasks.archive.catalog import quarantine, status
from tasks.archive.commits import (
    Assignment,
    PartRow,
    acquire_lease,
    all_parts,
    assign,
    assignments,
    commit_part,
    editions,
    heartbeat_lease,
    open_edition,
    part_of_case,
    parts,
    pending_cases,
    put_recipe,
    recipe_for,
    release_lease,
    retry_cases,
    sides_of_patient,
    use_edition,
    want_cases,
    work_states,
)
from tasks.archive.database import writing
from tasks.archive.tables import leases as leases_table
from tasks.archive.work import pending_query
from tasks.errors import LeaseHeld, StoreError

ROOT = Path(__file__).resolve().parents[2]


def key(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()[:32]


RECIPE, SPLIT = key("recipe"), key("split")
CASES = tuple(sorted(key("case", i) for i in range(6)))


@pytest.fixture
def wanted(catalog: Engine) -> Engine:
    put_recipe(catalog, RECIPE, "chest-xray", {"steps": [{"step": "window"}]}, key("fit"))
    want_cases(catalog, RECIPE, CASES)
    return catalog


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


def place(patient: object, side: str, edition: int = 1, fold: int | None = None) -> Assignment:
    return Assignment(key("patient", patient), side, edition, fold, "pneumonia")


class TestSplits:
    def test_assignments_are_kept_and_repeated_in_peace(self, catalog: Engine) -> None:
        rows = [place(1, "train", fold=0), place(2, "test"), place(3, "reserve", 2)]
        assert assign(catalog, SPLIT, rows) == 3
        assert assign(catalog, SPLIT, rows) == 0
        assert assignments(catalog, SPLIT) == {row.patient_key: row for row in rows}
        assert assignments(catalog, key("other split")) == {}
        assert sides_of_patient(catalog, rows[1].patient_key) == [(SPLIT, "test", 1)]

    @pytest.mark.parametrize(
        ("first", "then"),
        [
            (place(1, "train", fold=0), place(1, "test")),
            (place(1, "test"), place(1, "train", fold=1)),
            (place(1, "test"), place(1, "reserve", 2)),
            (place(1, "reserve", 2), place(1, "train", fold=0)),
            (place(1, "reserve", 1), place(1, "test", 1)),
            (place(1, "train", fold=0), place(1, "train", fold=1)),
            (place(1, "test", 1), place(1, "test", 2)),
        ],
    )
    def test_sides_never_change(self, catalog: Engine, first: Assignment, then: Assignment) -> None:
        assign(catalog, SPLIT, [first])
        with pytest.raises(ValueError, match=first.side) as caught:
            assign(catalog, SPLIT, [place(7, "train", fold=0), then])
        said = str(caught.value)
        assert then.side in said
        assert first.patient_key[:8] in said
        assert first.patient_key not in said
        assert assignments(catalog, SPLIT) == {first.patient_key: first}

    def test_contradiction_within_one_call_is_refused(self, catalog: Engine) -> None:
        with pytest.raises(ValueError, match="cannot move"):
            assign(catalog, SPLIT, [place(1, "train", fold=0), place(1, "test")])
        assert assignments(catalog, SPLIT) == {}

    def test_reserve_comes_into_the_next_edition(self, catalog: Engine) -> None:
        assign(catalog, SPLIT, [place(1, "test"), place(2, "reserve", 2)])
        assign(catalog, SPLIT, [place(2, "test", 2)])
        assert assignments(catalog, SPLIT)[key("patient", 2)].side == "test"
        assert sides_of_patient(catalog, key("patient", 2)) == [(SPLIT, "test", 2)]
        with pytest.raises(ValueError, match="cannot move"):
            assign(catalog, SPLIT, [place(2, "reserve", 2)])

    def test_unknown_side_is_refused(self, catalog: Engine) -> None:
        with pytest.raises(ValueError, match="train, test, reserve"):
            assign(catalog, SPLIT, [place(1, "validation")])

    def test_used_edition_takes_no_more_patients(self, catalog: Engine) -> None:
        assign(catalog, SPLIT, [place(1, "test")])
        open_edition(catalog, SPLIT, 1, 1)
        assign(catalog, SPLIT, [place(2, "test")])
        use_edition(catalog, SPLIT, 1, "run", "evaluate")
        assert assign(catalog, SPLIT, [place(1, "test")]) == 0
        with pytest.raises(ValueError, match="has been used"):
            assign(catalog, SPLIT, [place(3, "test")])


class TestEditions:
    def test_uses_are_counted_once_a_run_and_purpose(self, catalog: Engine) -> None:
        open_edition(catalog, SPLIT, 1, 140)
        assert use_edition(catalog, SPLIT, 1, "run 1", "challenger") == 1
        assert use_edition(catalog, SPLIT, 1, "run 1", "challenger") == 1
        assert use_edition(catalog, SPLIT, 1, "run 1", "champion") == 2
        assert use_edition(catalog, SPLIT, 1, "run 2", "challenger") == 3
        (edition,) = editions(catalog, SPLIT)
        assert (edition.edition, edition.n_patients, edition.uses) == (1, 140, 3)

    def test_editions_open_one_after_the_other_and_stay(self, catalog: Engine) -> None:
        with pytest.raises(ValueError, match="next edition is 1"):
            open_edition(catalog, SPLIT, 2, 10)
        open_edition(catalog, SPLIT, 1, 10)
        open_edition(catalog, SPLIT, 1, 10)
        with pytest.raises(ValueError, match="open with 10"):
            open_edition(catalog, SPLIT, 1, 11)
        open_edition(catalog, SPLIT, 2, 30)
        assert [edition.edition for edition in editions(catalog, SPLIT)] == [1, 2]

    def test_edition_that_is_not_open_cannot_be_used(self, catalog: Engine) -> None:
        with pytest.raises(ValueError, match="is not open"):
            use_edition(catalog, SPLIT, 1, "run", "evaluate")


class TestLeases:
    def test_one_owner_at_a_time(self, catalog: Engine) -> None:
        fence = acquire_lease(catalog, "store", "one")
        with pytest.raises(LeaseHeld, match=r"held by one.*60 s"):
            acquire_lease(catalog, "store", "two")
        assert acquire_lease(catalog, "another", "two") == 1
        heartbeat_lease(catalog, "store", "one", fence)
        assert release_lease(catalog, "store", "one", fence)
        assert not release_lease(catalog, "store", "one", fence)
        assert acquire_lease(catalog, "store", "two") > fence

    def test_lease_without_heartbeat_is_taken_over_and_its_owner_fenced_out(
        self, catalog: Engine
    ) -> None:
        first = acquire_lease(catalog, "store", "one", ttl_s=0.2)
        with pytest.raises(LeaseHeld):
            acquire_lease(catalog, "store", "two", ttl_s=0.2)
        time.sleep(0.3)
        second = acquire_lease(catalog, "store", "two")
        assert second > first
        with pytest.raises(LeaseHeld, match="no longer held"):
            heartbeat_lease(catalog, "store", "one", first)
        assert not release_lease(catalog, "store", "one", first)
        heartbeat_lease(catalog, "store", "two", second)

    def test_heartbeat_keeps_it(self, catalog: Engine) -> None:
        fence = acquire_lease(catalog, "store", "one", ttl_s=1.0)
        for _ in range(4):
            time.sleep(0.4)
            heartbeat_lease(catalog, "store", "one", fence)
        with pytest.raises(LeaseHeld):
            acquire_lease(catalog, "store", "two")

    def test_heartbeat_from_the_future_does_not_hold_for_ever(self, catalog: Engine) -> None:
        acquire_lease(catalog, "store", "one")
        with writing(catalog) as connection:
            ahead = time.time() + 2 * leases.CLOCK_SLACK_S
            connection.execute(update(leases_table).values(heartbeat=ahead))
        assert acquire_lease(catalog, "store", "two") == 2

    def test_of_many_threads_exactly_one_acquires(self, catalog: Engine) -> None:
        for turn in range(5):
            won, lost = self.race(catalog, f"store {turn}", 8)
            assert (len(won), lost) == (1, 7)
            assert won == [1]

    @staticmethod
    def race(catalog: Engine, name: str, n: int) -> tuple[list[int], int]:
        start = threading.Barrier(n)
        won: list[int] = []
        lost: list[LeaseHeld] = []

        def trying(owner: str) -> None:
            start.wait()
            try:
                won.append(acquire_lease(catalog, name, owner))
            except LeaseHeld as error:
                lost.append(error)

        threads = [threading.Thread(target=trying, args=(f"owner {i}",)) for i in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return won, len(lost)

    def test_of_two_processes_exactly_one_acquires_and_numbers_only_grow(
        self, catalog: Engine, catalog_url: str
    ) -> None:
        code = (
            "import sys, time\n"
            "from tasks.archive.catalog import open_catalog\n"
            "from tasks.archive.commits import acquire_lease, release_lease\n"
            "from tasks.errors import LeaseHeld\n"
            "catalog, owner, got = open_catalog(sys.argv[1]), sys.argv[2], []\n"
            "while len(got) < 15:\n"
            "    try:\n"
            "        fence = acquire_lease(catalog, 'store', owner)\n"
            "    except LeaseHeld:\n"
            "        time.sleep(0.002)\n"
            "        continue\n"
            "    got.append(fence)\n"
            "    assert release_lease(catalog, 'store', owner, fence)\n"
            "    time.sleep(0.001)\n"
            "print(*got)\n"
        )
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, catalog_url, owner],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for owner in ("one", "two")
        ]
        fences = [[int(word) for word in p.communicate()[0].split()] for p in started]
        assert [p.returncode for p in started] == [0, 0]
        assert all(numbers == sorted(set(numbers)) for numbers in fences)
        # No number was given twice: the two never held the lease together.
        assert sorted(fences[0] + fences[1]) == list(range(1, 31))
