"""A folder never holds results of two predictions, and loses nothing that is not of one."""

import json
from pathlib import Path

import pytest

from tasks.serve.earlier import Earlier, take_away
from tasks.serve.result_files import FILES, result_file
from tasks.serve.results import (
    PREDICTIONS_JSON,
    ModelFacts,
    PredictionRow,
    write_predictions,
)

MODEL = ModelFacts("lung", "Nodules", "lung", "1", "ab" * 32, "detection", "2026", classes=("n",))

CASE, OTHER = "0a" * 16, "1b" * 16


def write_files(out: Path, *names: str) -> None:
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"here")


def files_of(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir()}


def predicted(out: Path) -> dict:
    """Write what a prediction writes of two cases and return its table."""
    named = {column: result_file(column, CASE) for column in FILES}
    write_files(out, *named.values())
    rows = [PredictionRow(CASE, **named), PredictionRow(OTHER)]
    write_predictions(out, rows, MODEL, [(CASE, "/somewhere")])
    return json.loads((out / PREDICTIONS_JSON).read_text())


def change(out: Path, table: dict, **columns: object) -> None:
    table["predictions"][0] |= columns
    (out / PREDICTIONS_JSON).write_text(json.dumps(table))


def test_what_an_earlier_prediction_wrote_is_taken_away_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    write_files(out, "dicom/mine.dcm", "notes.txt")
    predicted(out)
    assert (out / "findings.csv").exists()
    assert take_away(out) == Earlier(2)
    assert files_of(out) == {"dicom/mine.dcm", "notes.txt"}
    assert take_away(out) == Earlier()


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "masks/mine.nii.gz",
        # Of this case, but not what its column names; and of another case than its row.
        f"masks/{CASE}.txt",
        f"dicom/{CASE}_sr.dcm",
        f"masks/{OTHER}.nii.gz",
        f"./masks/{CASE}.nii.gz",
        f"masks/../masks/{CASE}.nii.gz",
    ],
)
def test_a_file_that_no_prediction_calls_so_is_left_whatever_the_table_says(name, tmp_path):
    out = tmp_path / "out"
    table = predicted(out)
    write_files(out, name)
    change(out, table, mask=name, sr=None)
    found = take_away(out)
    assert found == Earlier(2, (name,))
    assert (out / name).read_bytes() == b"here"
    # The rest of the prediction goes all the same.
    assert not (out / f"overlays/{CASE}.png").exists()
    assert not (out / f"dicom/{CASE}_seg.dcm").exists()
    assert not (out / PREDICTIONS_JSON).exists()
    gone, left = found.lines(out)
    assert "earlier prediction (2 cases): taken away" in gone
    assert f"named there and that no prediction calls so: {name!r}" in left
    assert left.startswith("left as they are: 1 files that predictions.json")


@pytest.mark.parametrize("case_id", ["../../other", "notes", "", None, 7, ["a"], CASE.upper()])
def test_a_case_that_is_none_leads_to_no_file(case_id, tmp_path):
    out = tmp_path / "out"
    table = predicted(out)
    name = result_file("mask", case_id)
    write_files(out, name)
    change(out, table, case_id=case_id, mask=name, overlay=None, seg=None, sr=None)
    assert take_away(out) == Earlier(2, (name,))
    assert (out / name).read_bytes() == b"here"


def test_names_elsewhere_take_nothing_there(tmp_path):
    out = tmp_path / "out"
    table = predicted(out)
    write_files(tmp_path, "other.txt", f"masks/{CASE}.nii.gz")
    beside, absolute = f"../masks/{CASE}.nii.gz", str(tmp_path / "other.txt")
    change(out, table, seg="../other.txt", sr=absolute, mask=beside, overlay=[1])
    found = take_away(out)
    assert set(found.left) == {"../other.txt", absolute, beside, "[1]"}
    assert {"other.txt", f"masks/{CASE}.nii.gz"} <= files_of(tmp_path)


def test_a_folder_that_is_a_link_loses_nothing_where_it_leads(tmp_path):
    out = tmp_path / "out"
    predicted(out)
    (out / "masks").rename(tmp_path / "elsewhere")
    (out / "masks").symlink_to(tmp_path / "elsewhere")
    assert take_away(out).left == (f"masks/{CASE}.nii.gz",)
    assert (tmp_path / "elsewhere" / f"{CASE}.nii.gz").exists()


def test_a_folder_of_that_name_is_left(tmp_path):
    out = tmp_path / "out"
    predicted(out)
    place = out / result_file("mask", CASE)
    place.unlink()
    place.mkdir()
    assert take_away(out).left == (f"masks/{CASE}.nii.gz",)
    assert place.is_dir()


def test_of_many_that_are_left_some_are_named(tmp_path):
    rows = [{"case_id": CASE, "mask": f"mine {n}\n"} for n in range(8)]
    write_files(tmp_path, PREDICTIONS_JSON)
    (tmp_path / PREDICTIONS_JSON).write_text(json.dumps({"predictions": rows}))
    (_, said) = take_away(tmp_path).lines(tmp_path)
    assert "8 files" in said
    assert said.endswith(r"'mine 4\n' and 3 more")


@pytest.mark.parametrize("damaged", ["", "[]", '{"predictions": [3]}', '{"predictions": 3}'])
def test_a_table_that_is_none_takes_nothing(damaged, tmp_path):
    predicted(tmp_path)
    before = files_of(tmp_path)
    (tmp_path / PREDICTIONS_JSON).write_text(damaged)
    assert take_away(tmp_path) == Earlier()
    assert files_of(tmp_path) == before
