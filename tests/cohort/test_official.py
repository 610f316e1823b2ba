"""A published split is kept as it is, or refused with counts."""

import pytest

from tasks.archive.catalog import Case, InstanceRow, SeriesRow, cases, open_catalog, upsert_series
from tasks.archive.commits import Assignment
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import Source
from tasks.cohort.official import assign_official, decide_sides, official_values
from tasks.cohort.split import PUBLIC_SPLIT_KEY, SplitConfig

OFFICIAL = SplitConfig(source="column", column="set", folds=3)


def _official(values, existing=None):
    patients = {f"{k:032x}": "all" for k in range(len(values))}
    given = {f"{k:032x}": value for k, value in enumerate(values)}
    rows = assign_official(existing or {}, patients, given, OFFICIAL, PUBLIC_SPLIT_KEY)
    return {int(row.patient_key, 16): row for row in rows}


def test_an_official_split_is_kept_and_gets_folds_where_it_has_none():
    rows = _official([["test"], ["Train"], ["val"], ["2"], ["2", "2"], ["train"]])
    assert [rows[k].side for k in range(6)] == ["test", "train", "train", "train", "train", "train"]
    assert (rows[0].edition, rows[3].fold, rows[4].fold) == (1, 2, 2)
    assert sorted(rows[k].fold for k in (1, 2, 5)) == [0, 0, 1]


def test_later_official_test_patients_wait_in_reserve():
    early = {f"{0:032x}": Assignment(f"{0:032x}", "test", 1, None, "all")}
    assert _official([["test"], ["test"]], early)[1].side == "reserve"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([["train"], [], []], "2 of 3 new patients have no row"),
        ([["train"], ["maybe"]], "1 of 2 new patients have a value that is neither"),
        ([["train", "test"]], "1 of 1 new patients have cases on several sides"),
        ([["7"]], r"1 of 1 new patients have a fold outside 0\.\.2"),
    ],
)
def test_an_official_split_that_cannot_be_obeyed_is_refused_with_counts(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        _official(values)


def test_a_column_may_hold_sides_or_fold_numbers_read_back_as_floats():
    patients = {
        "a": [{"set": 0.0, "target": "x"}, {"set": 0.0, "target": "x"}],
        "b": [{"set": 2.0, "target": "y"}],
        "c": [{"set": "test", "target": "y"}],
    }
    rows = decide_sides({}, patients, OFFICIAL, PUBLIC_SPLIT_KEY)
    assert [(row.patient_key, row.side, row.fold) for row in rows] == [
        ("a", "train", 0),
        ("b", "train", 2),
        ("c", "test", None),
    ]


def test_a_file_is_taken_only_with_its_values_and_keyed_needs_none():
    patients = {"a": [{"target": "x"}], "b": [{"target": "x"}]}
    config = SplitConfig(source="file", file="split.csv", column="set", folds=2)
    with pytest.raises(ValueError, match="needs the values of its file"):
        decide_sides({}, patients, config, PUBLIC_SPLIT_KEY)
    values = {"a": ["train"], "b": ["test"]}
    rows = decide_sides({}, patients, config, PUBLIC_SPLIT_KEY, file_values=values)
    assert [row.side for row in rows] == ["train", "test"]
    keyed = decide_sides({}, patients, SplitConfig(folds=2), PUBLIC_SPLIT_KEY, positive="x")
    assert {row.stratum for row in keyed} == {"target=x"}


NAMES = Pseudonymiser(b"k" * 32)


@pytest.fixture
def two_cases(tmp_path):
    """Two patients' cases in a catalog, and the source their split file stands beside."""
    engine = open_catalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    rows = [
        SeriesRow(
            series_key=NAMES.key("series", f"1.2.{n}"),
            study_key=NAMES.key("study", f"1.{n}"),
            patient_key=NAMES.patient(f"P{n}", "clinic", ""),
            accession_key=NAMES.key("accession", f"A{n}"),
            kind="dicom",
            source="clinic",
            facts={},
            instances=(InstanceRow(NAMES.key("sop", f"1.2.3.{n}"), None, f"{n:032x}", n),),
        )
        for n in range(2)
    ]
    upsert_series(engine, rows)
    yield engine, Source("clinic", "folder", str(tmp_path))
    engine.dispose()


@pytest.mark.parametrize(
    ("join", "column", "keys"),
    [
        ("patient", "patient_id", ("P0", "P1")),
        ("accession", "accession", ("A0", "A1")),
        ("study", "StudyInstanceUID", ("1.0", "1.1")),
        ("series", "series_uid", ("1.2.0", "1.2.1")),
        ("sop", "SOPInstanceUID", ("1.2.3.0", "1.2.3.1")),
    ],
)
def test_the_file_of_a_split_is_joined_as_it_says(two_cases, tmp_path, join, column, keys):
    catalog, source = two_cases
    lines = ["note,set," + column, f"x,train,{keys[0]}", f"y,test,{keys[1]}", "z,test,9.9.9", "n,,"]
    (tmp_path / "split.csv").write_text("\n".join(lines) + "\n")
    config = SplitConfig(source="file", file="split.csv", column="set", join=join, folds=2)
    found: list[Case] = cases(catalog, kind="dicom")
    values = official_values(source, config, found, NAMES, catalog)
    wanted = {
        NAMES.patient(f"P{n}", "clinic", ""): [side] for n, side in enumerate(["train", "test"])
    }
    assert values == wanted


def test_a_split_file_that_is_not_there_is_said_without_its_place(two_cases):
    catalog, source = two_cases
    config = SplitConfig(source="file", file="nowhere.csv", column="set", folds=2)
    with pytest.raises(FileNotFoundError, match="not in the source 'clinic'") as error:
        official_values(source, config, [], NAMES, catalog)
    assert "nowhere" not in str(error.value)
