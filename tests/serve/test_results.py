import csv
import json
import os
import re
import stat

import pytest

from tasks.serve.results import (
    FAILED,
    HEADER_UNLIKE,
    IN_TRAINING,
    UNLIKE_TRAINING,
    ModelFacts,
    PredictionRow,
    write_predictions,
)

MODEL = ModelFacts(
    scenario="chest",
    title="Pneumonia <b>",
    name="chest",
    version="3",
    digest="ab" * 32,
    task="classification",
    created="2026-01-01",
    threshold=0.32,
    novelty_limit=1.75,
    positive="pneumonia",
    classes=("normal", "pneumonia"),
)
ROWS = (
    PredictionRow(
        "a" * 32,
        label="pneumonia",
        score=0.9,
        probabilities={"normal": 0.1, "pneumonia": 0.9},
        flags=(IN_TRAINING, UNLIKE_TRAINING),
        overlay="overlays/a b.png",
        measures={"volume ml": 2.5},
    ),
    PredictionRow("b" * 32, status=FAILED, reason="missing_slices: 3 of 20"),
    PredictionRow("c" * 32, label="normal", score=0.1, novelty=float("nan")),
    PredictionRow(
        "d" * 32,
        label="normal",
        score=0.2,
        novelty=2.5,
        flags=(UNLIKE_TRAINING, HEADER_UNLIKE),
        header=("manufacturer", "slice_thickness"),
    ),
)


def test_tables_hold_every_case_and_the_model(tmp_path):
    written = write_predictions(tmp_path, ROWS, MODEL)
    with written.csv.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case_id"][0] for row in rows] == ["a", "b", "c", "d"]
    assert (rows[3]["novelty"], rows[3]["novelty_limit"]) == ("2.5", "1.75")
    assert rows[3]["header"] == "manufacturer slice_thickness"
    assert rows[0]["p_pneumonia"] == "0.9"
    assert rows[0]["flags"] == "patient_in_training unlike_training"
    assert rows[1]["score"] == ""
    assert rows[1]["status"] == "failed"
    assert {row["digest"] for row in rows} == {"ab" * 32}
    body = json.loads(written.json.read_text())
    assert body["model"]["threshold"] == 0.32
    assert body["predictions"][2]["novelty"] is None


def test_the_page_counts_flags_and_links_relatively(tmp_path):
    page = write_predictions(tmp_path, ROWS, MODEL).index.read_text()
    assert "RESEARCH USE ONLY" in page
    assert "patient was in training" in page
    assert "unlike anything seen" in page
    assert "Pneumonia <b>" not in page
    places = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert set(places) == {"overlays/a%20b.png", "predictions.csv", "predictions.json"}
    assert 'loading="lazy"' in page
    assert "http" not in page


def test_the_page_says_of_every_case_how_unlike_the_training_it_is(tmp_path):
    page = write_predictions(tmp_path, ROWS, MODEL).index.read_text()
    assert "Unlike training" in page
    assert 'data-novelty="2.5"' in page
    assert "2.50 <span" in page
    assert "of 1.75" in page
    assert "header unlike training" in page
    assert "manufacturer, slice thickness" in page
    plain = write_predictions(tmp_path, ROWS[:2], MODEL).index.read_text()
    assert 'data-sort="novelty"' not in plain


def test_sources_are_for_the_user_alone(tmp_path):
    old = os.umask(0)
    try:
        written = write_predictions(tmp_path, ROWS, MODEL, [("a" * 32, "/data/Doe^Jane.dcm")])
    finally:
        os.umask(old)
    assert stat.S_IMODE(written.sources.stat().st_mode) == 0o600
    others = [p for p in tmp_path.iterdir() if p != written.sources]
    assert len(others) == 3
    assert all("Doe" not in p.read_text() for p in others)


def test_without_sources_an_old_list_goes_too(tmp_path):
    write_predictions(tmp_path, ROWS, MODEL, [("a" * 32, "/x")])
    assert write_predictions(tmp_path, ROWS, MODEL).sources is None
    assert not (tmp_path / "sources.csv").exists()


@pytest.mark.parametrize("path", ["/etc/x.png", "../x.png", "a/../../x.png"])
def test_paths_outside_the_folder_are_refused(tmp_path, path):
    with pytest.raises(ValueError, match="inside the output"):
        write_predictions(tmp_path, [PredictionRow("a" * 32, overlay=path)], MODEL)


def test_a_segmentation_without_scores_has_no_score_column(tmp_path):
    rows = [PredictionRow("a" * 32, measures={"anterior ml": 1.5}, mask="masks/a.nii.gz")]
    page = write_predictions(tmp_path, rows, MODEL).index.read_text()
    assert 'data-sort="score"' not in page
    assert "anterior ml" in page
    assert 'href="masks/a.nii.gz"' in page
