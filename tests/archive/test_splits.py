"""Sides of patients and test editions: kept for ever, counted at every use."""

import pytest
from sqlalchemy import Engine

from tasks.archive.commits import (
    Assignment,
    assign,
    assignments,
    editions,
    open_edition,
    sides_of_patient,
    use_edition,
)
from tests.archive.made_rows import SPLIT, key


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
