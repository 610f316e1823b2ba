"""What a registered model is asked beyond its figures: reads the homes that the loop made."""

import csv
import io
import json
import math
import re
from pathlib import Path

from flows.data import data_folder
from tasks.evaluate.stress import CORRUPTIONS, SEVERITIES
from tasks.serve.names import load_names
from tasks.serve.tracking import Tracker, client_of, search


def run_of(home) -> tuple:
    names = load_names(data_folder("mlflow") / "names.yaml")
    tracker = Tracker(f"sqlite:///{home.home / 'mlflow.db'}", home.name, names)
    (run,) = search(tracker, "tags.kind = 'training'")
    return client_of(tracker), run.info.run_id


def rows_of(home, name: str) -> list[dict]:
    client, run_id = run_of(home)
    path = client.download_artifacts(run_id, f"tables/{name}.csv")
    return list(csv.DictReader(io.StringIO(Path(path).read_text())))


def report_of(home) -> str:
    return Path(re.search(r"^report +(\S+)$", home.ran["retrain"].out, re.M)[1]).read_text()


def test_every_corruption_of_a_radiograph_has_its_curve(loop):
    rows = rows_of(loop, "robustness")
    expected = [(one.name, s) for one in CORRUPTIONS["radiograph"] for s in SEVERITIES]
    assert [(row["corruption"], int(row["severity"])) for row in rows] == [("clean", 0), *expected]
    for row in rows:
        assert row["metric"] == "auroc"
        assert float(row["lo"]) <= float(row["value"]) <= float(row["hi"])
    assert re.search(r"robustness: \d+ test cases, 10 corruptions of kind radiograph, "
                     r"5 severities: [\d,]+ images", loop.ran["retrain"].err)  # fmt: skip


def test_the_maps_of_a_network_come_with_the_figures_that_try_them(loop):
    rows = rows_of(loop, "explanations")
    assert {row["method"] for row in rows} == {"grad_cam", "integrated_gradients", "occlusion"}
    ranks = [float(row["rank/5"]) for row in rows]
    # After two epochs a Grad-CAM may be the same everywhere: what it kept is then undefined.
    defined = [rank for rank in ranks if not math.isnan(rank)]
    assert defined
    assert all(-1 <= rank <= 1 for rank in defined)


def test_a_table_is_explained_by_its_columns_and_not_corrupted(table_loop):
    rows = rows_of(table_loop, "explanations")
    sizes = [float(row["mean |Shapley value|, log-odds"]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert rows[0]["column"] == "clear"
    client, run_id = run_of(table_loop)
    assert "tables/robustness.csv" not in [f.path for f in client.list_artifacts(run_id, "tables")]


def test_the_report_of_a_table_shows_no_corruption(table_loop):
    table = report_of(table_loop)
    assert "<h2>Robustness</h2>" not in table
    assert "<h2>Explanations</h2>" in table


def test_the_report_shows_it_all_and_names_nobody(loop):
    image = report_of(loop)
    for heading in ("<h2>Robustness</h2>", "<h2>Explanations</h2>", "Decision curve, test"):
        assert heading in image
    client, run_id = run_of(loop)
    cases = [row["case_id"] for row in rows_of(loop, "explanations")]
    assert cases
    assert not [case_id for case_id in cases if case_id in image]
    card = json.loads(
        Path(client.download_artifacts(run_id, "tables/decision_curve.json")).read_text()
    )
    assert len(card) == 99
