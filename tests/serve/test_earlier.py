"""A folder never holds results of two predictions."""

import json

from tasks.serve.earlier import take_away
from tasks.serve.results import ModelFacts, PredictionRow, write_predictions

MODEL = ModelFacts("lung", "Nodules", "lung", "1", "ab" * 32, "detection", "2026", classes=("n",))


def test_what_an_earlier_prediction_wrote_is_taken_away_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    for place in ("dicom/a_seg.dcm", "dicom/a_sr.dcm", "masks/a.nii.gz", "overlays/a.png"):
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        (out / place).write_bytes(b"old")
    (out / "dicom" / "mine.dcm").write_bytes(b"not radloop's")
    (out / "notes.txt").write_text("mine")
    row = PredictionRow(
        "a", seg="dicom/a_seg.dcm", sr="dicom/a_sr.dcm", mask="masks/a.nii.gz",
        overlay="overlays/a.png",
    )  # fmt: skip
    write_predictions(out, [row, PredictionRow("b")], MODEL, [("a", "/somewhere")])
    assert (out / "findings.csv").exists()
    assert take_away(out) == 2
    left = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert left == {"dicom/mine.dcm", "notes.txt"}
    assert take_away(out) == 0


def test_a_table_that_names_files_elsewhere_takes_none_of_them(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    other = tmp_path / "other.txt"
    other.write_text("mine")
    rows = [{"case_id": "a", "seg": "../other.txt", "sr": str(other)}]
    (out / "predictions.json").write_text(json.dumps({"predictions": rows}))
    assert take_away(out) == 1
    assert other.exists()
    for damaged in ("", "[]", '{"predictions": [3]}'):
        (out / "predictions.json").write_text(damaged)
        assert take_away(out) == 0
