import hashlib

import pytest
from sqlalchemy import Engine, func, select

from tasks.archive.commits import PartRow, commit_part, features, put_recipe, want_cases
from tasks.archive.database import writing
from tasks.archive.featuretable import put_features
from tasks.archive.tables import feature_rows, parts
from tasks.errors import LeaseHeld, StoreError


def key(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()[:32]


RECIPE, OTHER = key("recipe"), key("other recipe")
CASES = tuple(sorted(key("case", i) for i in range(4)))
MEASURED = {
    CASES[0]: {"roi_mean": 1 / 3, "roi_correlation": None},
    CASES[1]: {"roi_mean": -2.5e300, "roi_correlation": 0.0},
}
PART = PartRow(key("part"), "image", RECIPE, None, None, "parts/x", CASES[:2], 9, "d" * 64)


@pytest.fixture
def wanted(catalog: Engine) -> Engine:
    for recipe in (RECIPE, OTHER):
        put_recipe(catalog, recipe, recipe, {"steps": [recipe]}, "")
        want_cases(catalog, recipe, CASES)
    return catalog


def test_numbers_come_back_as_they_were_and_only_under_their_recipe(wanted: Engine) -> None:
    commit_part(wanted, PART, measured=MEASURED)
    assert features(wanted, RECIPE) == MEASURED
    assert list(features(wanted, RECIPE)) == list(CASES[:2])
    assert features(wanted, RECIPE, [CASES[1], CASES[3]]) == {CASES[1]: MEASURED[CASES[1]]}
    assert features(wanted, OTHER) == features(wanted, key("unknown")) == {}


def test_the_same_part_again_and_a_later_part_add_only_what_is_new(wanted: Engine) -> None:
    commit_part(wanted, PART, measured=MEASURED)
    commit_part(wanted, PART, measured=MEASURED)
    later = {CASES[2]: {"roi_correlation": 1.0, "roi_mean": 4.0}}
    commit_part(
        wanted,
        PartRow(key(2), "image", RECIPE, None, None, "parts/y", CASES[2:3], 9, "e" * 64),
        measured=later,
    )
    assert features(wanted, RECIPE) == MEASURED | later


@pytest.mark.parametrize(
    ("measured", "says"),
    [
        ({CASES[0]: {"roi_mean": 1.0, "roi_correlation": None}}, "with other numbers"),
        ({CASES[2]: {"roi_median": 1.0}}, "measures other columns than it did before"),
        ({CASES[2]: {"a": 1.0}, CASES[3]: {"b": 1.0}}, "different columns in different cases"),
    ],
)
def test_what_contradicts_is_refused_and_nothing_of_the_part_exists(
    wanted: Engine, measured: dict, says: str
) -> None:
    commit_part(wanted, PART, measured=MEASURED)
    other = PartRow(key(3), "image", RECIPE, None, None, "parts/z", CASES[2:], 9, "f" * 64)
    with pytest.raises(StoreError, match=says):
        commit_part(wanted, other, measured=measured)
    assert features(wanted, RECIPE) == MEASURED
    with wanted.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(parts)) == 1


def test_a_lost_lease_leaves_no_numbers(wanted: Engine) -> None:
    with pytest.raises(LeaseHeld):
        commit_part(wanted, PART, measured=MEASURED, lease=("store", 7))
    assert features(wanted, RECIPE) == {}


def test_a_row_holds_eight_bytes_a_number(wanted: Engine) -> None:
    with writing(wanted) as connection:
        put_features(connection, RECIPE, {CASES[0]: {f"column_{i}": i / 7 for i in range(200)}})
        (size,) = connection.scalars(select(func.length(feature_rows.c.numbers)))
    assert size == 1600
