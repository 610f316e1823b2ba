"""What people see: MLflow's compare page, the report and the prediction page in a real browser."""

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from tasks.serve import card, comparing, overlays, results, runlog, tracking
from tests.serve.evidence import HASHES

pytestmark = pytest.mark.browser

CANDIDATES = ("small-cnn", "unet2d", "svm-rbf", "random-forest", "logistic", "header-only")
EPOCHS = 12
START_SECONDS = 120
"""MLflow imports for several seconds and makes its tables first; a busy machine takes longer."""
PAGE_MILLISECONDS = 60_000


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium: `make servers` brings it")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: `make install`")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


@pytest.fixture
def server(tracker, mlflow_home):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracker.uri]
    command += ["--artifacts-destination", str(mlflow_home / "artifacts"), "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (mlflow_home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=mlflow_home, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _wait_for(url, process):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, "the MLflow server ended while it started"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the MLflow server did not answer within {START_SECONDS} s")


def _log_candidates(tracker):
    parent = tracking.start_training(tracker, "limb", HASHES, {"folds": 5})
    runs = []
    for number, name in enumerate(CANDIDATES):
        run = tracking.start_child(tracker, parent, name, "candidate", params={"seed": 0})
        figures = {"oof/auroc": (0.951 - number / 50, 0.8, 0.99), "oof/brier": 0.1 + number / 100}
        runlog.log_metrics(tracker, run, figures)
        records = [
            {"epoch": e, "val/loss": math.exp(-e / (3 + number)), "epoch_seconds": 2.0}
            for e in range(EPOCHS)
        ]
        runlog.log_epochs(tracker, run, records)
        tracking.end(tracker, run)
        runs.append(run)
    tracking.end(tracker, parent)
    return runs


def _metric_table(page):
    """Read the page's metrics: a grid of names beside a grid of values, row after row."""
    link = page.locator('a[href*="oof%2Fauroc%22"]').first
    link.wait_for()
    names = link.locator("xpath=../..").inner_text().split()
    both = link.locator("xpath=../../../../..")
    end = time.monotonic() + PAGE_MILLISECONDS / 1000
    values: list[str] = []
    while len(values) < len(names) * len(CANDIDATES) and time.monotonic() < end:
        values = both.inner_text().split()[len(names) :]
        page.wait_for_timeout(200)
    width = len(CANDIDATES)
    assert len(values) == len(names) * width
    rows = [values[start : start + width] for start in range(0, len(values), width)]
    return {name: [float(v) for v in row] for name, row in zip(names, rows, strict=True)}


def test_six_candidates_stand_side_by_side_with_figures_and_curves(tracker, server, browser):
    runs = _log_candidates(tracker)
    # MLflow draws only the columns that fit, so the window is wide enough for six.
    page = browser.new_page(viewport={"width": 3000, "height": 1600})
    page.set_default_timeout(PAGE_MILLISECONDS)
    page.goto(comparing.compare_url(server, tracker, runs), wait_until="domcontentloaded")
    page.get_by_text("Comparing 6 Runs from 1 Experiment").wait_for()
    for name in CANDIDATES:
        page.get_by_text(name, exact=True).first.wait_for()
    table = _metric_table(page)
    for metric, first in (("oof/auroc", 0.951), ("oof/auroc_lo", 0.8), ("oof/brier", 0.1)):
        assert len(table[metric]) == len(CANDIDATES)
        assert table[metric][0] == pytest.approx(first, abs=1e-3)
    assert table["oof/auroc"] == sorted(table["oof/auroc"], reverse=True)
    page.locator('a[href*="val%2Floss"]').first.click()
    latest = f"(step={EPOCHS - 1})"
    for name in CANDIDATES:
        page.get_by_text(f"{name} (val/loss)").first.wait_for()
    assert page.locator("body").inner_text().count(latest) >= len(CANDIDATES)
    page.close()


def test_the_report_opens_from_a_file_and_asks_for_nothing(browser, tmp_path):
    picture = overlays.overlay_png(tmp_path / "roc.png", np.eye(16))
    facts = card.ReportFacts(
        "limb", "Fractures", "classification", "now", figures=({"path": picture, "title": "ROC"},)
    )
    page = browser.new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    path = card.write_report(tmp_path / "report.html", facts)
    picture.unlink()
    page.goto(path.as_uri())
    assert page.locator("figure img").evaluate("image => image.naturalWidth") > 0
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert said == []
    page.close()


def test_the_prediction_page_sorts_filters_and_enlarges(browser, tmp_path):
    rows = []
    for n in range(900):
        flags = (results.IN_TRAINING,) if n % 3 == 0 else ()
        label = "pneumonia" if n % 2 else "normal"
        rows.append(
            results.PredictionRow(
                f"{n:032x}", label=label, score=(n * 7 % 900) / 900, flags=flags, overlay="o/a.png"
            )
        )
    overlays.overlay_png(tmp_path / "o" / "a.png", np.eye(16))
    model = results.ModelFacts(
        "chest", "Pneumonia", "chest", "1", "a" * 64, "classification", "now", threshold=0.5
    )
    page = browser.new_page()
    page.goto(results.write_predictions(tmp_path, rows, model).index.as_uri())
    shown = page.locator("#cases tbody tr:visible")
    assert shown.count() == 900
    page.locator('th[data-sort="score"] button').click()
    scores = page.locator("#cases tbody tr").evaluate_all("rows => rows.map(r => +r.dataset.score)")
    assert scores == sorted(scores, reverse=True)
    page.locator('button[data-value="patient_in_training"]').click()
    page.locator('button[data-value="normal"]').click()
    assert shown.count() == 150
    assert page.locator("#shown").inner_text() == "150 of 900"
    shown.first.locator("td.pic a").click()
    assert page.locator("dialog img").is_visible()
    page.close()
