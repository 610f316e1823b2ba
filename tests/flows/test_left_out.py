"""A maker that is left out, through the command: its row of the report is calibrated by others."""

import csv
from pathlib import Path

import pytest

from tests.flows.conftest import LOOP_SECONDS, TABLE, write_table
from tests.flows.running import Place

SCENARIO = (
    TABLE.replace(
        "bootstrap: 200}",
        "bootstrap: 200, primary: brier, calibration: platt, leave_one_out: maker}",
    )
    .replace("primary: auroc, ", "")
    .replace("margin: 0.05", "margin: 0.05, floor: 0.25")
)


def with_makers(path: Path) -> Path:
    """Add a column of two makers to a table."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "maker"])
        writer.writeheader()
        writer.writerows(row | {"maker": ("north", "south")[n % 2]} for n, row in enumerate(rows))
    return path


@pytest.mark.slow
@pytest.mark.timeout(LOOP_SECONDS)
def test_the_report_says_that_a_maker_was_trained_and_calibrated_without(tmp_path: Path) -> None:
    place = Place(tmp_path)
    table = with_makers(write_table(tmp_path / "tiny.csv"))
    scenario = tmp_path / "small-table.yaml"
    scenario.write_text(SCENARIO)
    try:
        place.radloop("retrain", scenario, "--source", table, timeout=600).ok()
        (report,) = (place.home / "reports" / "small-table").glob("*.html")
        page = report.read_text()
    finally:
        left = place.close()
    assert not left, left
    for maker in ("north", "south"):
        row = f"<td>maker, trained and calibrated without</td><td>{maker}</td>"
        assert page.count(row) == 1
        # One probability said of all has .24 here, and the columns reach .16.
        brier = page.partition(row)[2].split("<td>")[2].split(" ")[0]
        assert 0.05 < float(brier) < 0.22
