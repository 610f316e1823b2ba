"""Label tables: keys are text, and a spreadsheet's damage is refused with the line."""

import gzip

import pandas
import pytest

from tasks.labels.tables import read_label_table


def _read(tmp_path, content, join="accession", name="labels.csv", **more):
    place = tmp_path / name
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_label_table(place, join, "target", **more)


def test_keys_stay_the_text_they_are(tmp_path):
    table = _read(tmp_path, "accession_number,target\n00123,yes\n12E45,no\n 7 ,yes\n")
    assert [row.key for row in table.rows] == ["00123", "12E45", "7"]
    assert [row.line for row in table.rows] == [2, 3, 4]


@pytest.mark.parametrize("key", ["1234.0", "1234.", "1.2E+05", "1E+05", "1.2e5", ""])
def test_damaged_keys_are_refused_with_their_line(tmp_path, key):
    table = _read(tmp_path, f"accession_number,target\nA1,yes\n{key},no\n")
    assert [line for line, _ in table.problems] == [3]
    assert not key or key not in table.problems[0][1]


@pytest.mark.parametrize("key", ["1.2.840.x", "1.2E+05", "12345", "1" * 60 + ".1234567"])
@pytest.mark.parametrize(("join", "column"), [("sop", "SOPInstanceUID"), ("study", "study_uid")])
def test_uids_must_be_uids(tmp_path, key, join, column):
    table = _read(tmp_path, f"{column},target\n1.2.840.10,yes\n{key},no\n", join=join)
    assert (len(table.rows), [line for line, _ in table.problems]) == (1, [3])


def test_ragged_and_empty_rows_are_listed(tmp_path):
    table = _read(tmp_path, "accession,target\nA1\nA2,\n\nA3,yes,more\nA4,yes\n")
    assert [row.key for row in table.rows] == ["A4"]
    assert [line for line, _ in table.problems] == [2, 3, 5]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffaccession;target\nÅ1;yes\n".encode(),
        "accession\ttarget\nÅ1\tyes\n".encode("utf-16"),
        "accession,target\nÅ1,yes\n".encode("cp1252"),
        '"accession","target"\r\n"Å1","yes"\r\n'.encode(),
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, content):
    assert [row.key for row in _read(tmp_path, content).rows] == ["Å1"]


def test_packed_and_parquet_tables_are_read(tmp_path):
    packed = gzip.compress(b"accession,target\nA1,yes\n")
    assert _read(tmp_path, packed, name="labels.csv.gz").rows[0].key == "A1"
    place = tmp_path / "labels.parquet"
    frame = pandas.DataFrame({"accession": ["A1", "A2"], "target": ["yes", "no"]})
    frame.to_parquet(place)
    assert [row.value for row in read_label_table(place, "accession", "target").rows] == [
        "yes",
        "no",
    ]
    frame.assign(accession=[12.0, 13.0]).to_parquet(place)
    assert [n for n, _ in read_label_table(place, "accession", "target").problems] == [1, 2]


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    with pytest.raises(ValueError, match="no column 'target'; it has: accession, other"):
        _read(tmp_path, "accession,other\nA1,yes\n")
    with pytest.raises(ValueError, match="key_column"):
        _read(tmp_path, "number,target\nA1,yes\n")
    table = _read(tmp_path, "number,target\nA1,yes\n", key_column="number")
    assert table.rows[0].key == "A1"


@pytest.mark.parametrize("content", ["", "a,a\n1,2\n", 'accession,target\n"never closed' * 3])
def test_what_is_no_table_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="table"):
        _read(tmp_path, content)
