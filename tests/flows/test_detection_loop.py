"""A detection by the command line, from an archive and a table of boxes to the store and a fold."""

import json

import pytest

from flows.cohorts import settle
from flows.home import Home
from flows.jobs import write_job
from flows.settings import Settings
from tasks.learn.crossval import fit_fold
from tasks.phantom.write_wrist import write_wrist_archive
from tests.flows.running import Place
from tests.flows.test_box_labels import WRIST


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_boxes_go_from_the_archive_to_a_trained_fold(tmp_path):
    place = Place(tmp_path)
    write_wrist_archive(
        tmp_path, patients=16, seed=1, shape=(128, 96), spacing=1.1, difficulty="easy"
    )
    scenario = tmp_path / "breaks.yaml"
    scenario.write_text(WRIST)
    try:
        taken = place.radloop("ingest", tmp_path / "dicom", "--labels-of", scenario, timeout=500)
        assert "rows match a case" in taken.ok().err
        made = place.radloop("preprocess", "breaks", timeout=500).ok()
        assert ", 0 quarantined" in made.out
        again = place.radloop("preprocess", "breaks", timeout=300).ok()
        assert "nothing new to preprocess" in again.err
        assert "network finder: retinanet2d" in place.radloop("check", "breaks").ok().out
    finally:
        assert not place.close()
    home = Home(Settings(home=place.home))
    try:
        job = write_job(home, settle(home, home.scenario("breaks")))
        folder = job.save(tmp_path / "trainings")
        record = fit_fold(folder, home.settings.store_root, "finder", 0)
    finally:
        home.catalog.dispose()
        home.vault.dispose()
    validated = {case.case_id for case in job.on("train") if case.fold == 0}
    assert set(record.case_ids) == validated
    assert len(record.findings) == len(validated)
    json.dumps(record.findings, allow_nan=False)
