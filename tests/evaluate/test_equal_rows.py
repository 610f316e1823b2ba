"""A row that stands under two patients is found where chance has no room; usual ones are not."""

import csv

import numpy as np
import pytest

from tasks.evaluate.equal_rows import FEWEST, EqualRows, equal_rows
from tasks.learn.wisconsin import ID_COLUMN, LABEL_COLUMN, wisconsin_table

PLACES = ("fold 0", "fold 1", "fold 2", "test")


def found(rows, place=None) -> EqualRows:
    """Look at rows in the order given; without places, neighbours stand in different ones."""
    ids = [f"{number:032x}" for number in range(len(rows))]
    places = place or [PLACES[number % len(PLACES)] for number in range(len(rows))]
    named = {one: tuple(row) for one, row in zip(ids, rows, strict=True)}
    return equal_rows(named, dict(zip(ids, places, strict=True)))


def numbers_of(pairs) -> list[tuple[int, int]]:
    return [(int(a, 16), int(b, 16)) for a, b in pairs]


@pytest.fixture(scope="module")
def wisconsin(tmp_path_factory) -> list[tuple[float, ...]]:
    with wisconsin_table(tmp_path_factory.mktemp("table") / "w.csv").open(newline="") as stream:
        return [
            tuple(float(v) for name, v in row.items() if name not in (ID_COLUMN, LABEL_COLUMN))
            for row in csv.DictReader(stream)
        ]  # fmt: skip


def test_a_real_table_of_numbers_holds_nobody_twice(wisconsin):
    assert found(wisconsin) == EqualRows()


def test_every_patient_of_it_would_be_known_again(wisconsin):
    every = found([*wisconsin, *wisconsin])
    # 569 is no multiple of the places, so that a copy stands elsewhere than what it copies.
    assert numbers_of(every.copies) == [(n, n + 569) for n in range(569)]
    assert (every.alike, every.ordinary) == ((), 0)


def test_some_of_its_columns_do_and_codes_beside_them_change_nothing(wisconsin):
    rows = [(*row[:8], "grade", None) for row in wisconsin]
    assert numbers_of(found([*rows, rows[7]]).copies) == [(7, 569)]
    other = (*rows[7][:8], "other", None)
    assert found([*rows, other]) == EqualRows()


def test_one_who_stands_there_five_times_is_named_in_pairs_of_places(wisconsin):
    rows = [*wisconsin, *[wisconsin[0]] * 4]
    places = ["test"] * 569 + ["fold 0", "fold 0", "fold 1", "test"]
    pairs = numbers_of(found(rows, places).copies)
    assert pairs == [(0, 569), (0, 570), (0, 571), (569, 571), (569, 572), (570, 571), (570, 572),
                     (571, 572)]  # fmt: skip


def test_copies_within_a_place_are_none_of_the_split_s(wisconsin):
    rows = [*wisconsin, wisconsin[3]]
    assert found(rows, ["test"] * 570) == EqualRows()


def test_few_columns_of_few_values_are_equal_in_many_patients():
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, levels, 400) for levels in (2, 2, 2, 3, 4, 5)]
    usual = found(list(zip(*codes, strict=True)))
    assert (usual.copies, usual.alike) == ((), ())
    assert usual.ordinary > 150
    aged = found(list(zip(rng.integers(30, 90, 400), *codes, strict=True)))
    assert (aged.copies, aged.alike) == ((), ())
    assert aged.ordinary > 0


def test_many_codes_of_those_who_are_ill_alike_are_no_evidence():
    """Two patients say yes to 60 questions to which hardly anybody does; likewise on a scale."""
    rng = np.random.default_rng(1)
    rows = (rng.random((500, 60)) < 0.02).astype(int).tolist()
    rows[4] = rows[9] = [1] * 60
    assert found(rows).copies == ()
    scale = rng.integers(0, 5, (500, 60)).tolist()
    scale[4] = scale[9] = [10] * 60
    both = found(scale)
    assert (both.copies, both.alike, both.ordinary) == ((), (), 2)


def test_one_number_in_many_columns_counts_once():
    """Nothing was found in two patients: every measure of it is 0."""
    rows = np.random.default_rng(2).normal(50, 9, (200, 40)).tolist()
    rows[10] = rows[11] = [0.0] * 40
    both = found(rows)
    assert (both.copies, both.ordinary) == ((), 2)


def test_columns_that_follow_from_one_another_count_once():
    rng = np.random.default_rng(3)
    age, size = rng.integers(30, 90, 100), rng.choice(np.arange(5.0, 45.0, 0.5), 100)
    age[20], size[20:22] = age[21], 44.7
    powers = [size, size / 10, size**2, size**3, np.sqrt(size), np.log(size)]
    both = found(np.column_stack([age, *powers]).tolist())
    assert (both.copies, both.alike) == ((), ())
    assert both.ordinary >= 2
    # As many columns that do not follow from one another are evidence.
    loose = np.column_stack([age, *[rng.permutation(100) + 1000 * n for n in range(6)]])
    loose[21] = loose[20]
    assert numbers_of(found(loose.tolist()).copies) == [(20, 21)]


@pytest.mark.parametrize("aged", [True, False])
def test_values_that_were_filled_in_together_are_one_thing(aged):
    rng = np.random.default_rng(4)
    values = rng.normal(50, 9, (400, 30))
    empty = np.arange(400) % 10 < 2
    values[empty] = np.median(values, axis=0)
    if aged:
        values = np.column_stack([rng.integers(20, 90, 400), values])
    both = found(values.tolist())
    assert (both.copies, both.alike) == ((), ())
    assert both.ordinary >= 2 if aged else both.ordinary == empty.sum() > FEWEST
    values[1] = values[2] = rng.normal(50, 9, values.shape[1])
    assert numbers_of(found(values.tolist()).copies) == [(1, 2)]


def test_what_may_be_chance_is_told_and_not_refused():
    rng = np.random.default_rng(5)
    rows = np.stack([rng.permutation(300) + 1000 * n for n in range(3)], 1).tolist()
    rows[6] = rows[5]
    both = found(rows)
    assert both.copies == ()
    assert numbers_of(both.alike) == [(5, 6)]


def test_what_is_missing_is_equal_and_tells_nothing():
    rows = [[n, *[None] * 30] for n in range(100)]
    rows[3] = rows[4] = [None] * 31
    both = found(rows)
    assert (both.copies, both.alike, both.ordinary) == ((), (), 2)


def test_tables_too_small_to_tell_anything_pass():
    assert found([]) == EqualRows()
    assert found([(1.0, 2.0)]) == EqualRows()
    assert found([(1.0, 2.0), (1.0, 2.0)]).ordinary == 2
