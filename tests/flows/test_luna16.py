"""LUNA16's own layout, mapped, reaches the cohort of the scenario that comes with radloop."""

import json

import numpy as np
import pytest

from flows.cohorts import settle
from flows.data import data_folder
from flows.home import Home
from flows.settings import Settings
from tasks.archive.intake import ingest
from tasks.archive.sources import resolve_source
from tasks.labels.attach import attach_labels
from tasks.labels.layouts import mapping_text
from tasks.scenario import load_scenario

sitk = pytest.importorskip("SimpleITK")

UIDS = ("1.3.6.1.4.1.14519.5.2.1.1", "1.3.6.1.4.1.14519.5.2.1.2")


def test_a_nodule_finds_its_scan_and_a_scan_without_one_is_normal(tmp_path):
    root = tmp_path / "LUNA16"
    for fold, uid in enumerate(UIDS):
        folder = root / f"subset{fold}"
        folder.mkdir(parents=True)
        scan = sitk.GetImageFromArray(np.full((6, 10, 10), -800 + fold, np.int16))
        scan.SetSpacing((0.7, 0.7, 1.25))
        sitk.WriteImage(scan, str(folder / f"{uid}.mhd"))
    table = ["seriesuid,coordX,coordY,coordZ,diameter_mm", f"{UIDS[1]},3.0,2.5,4.0,5.0"]
    (root / "annotations.csv").write_text("\n".join(table) + "\n")
    (root / "radloop-images.csv").write_text(mapping_text("luna16", root)[0])
    home = Home(Settings(home=tmp_path / "home"))
    scenario = load_scenario("lung-nodule", (data_folder("deployments") / "scenarios",))
    source = resolve_source(str(root), "luna")
    ingest(source, home.catalog, home.vault, home.names)
    report = attach_labels(source, scenario.labels, home.names, home.catalog, home.vault)
    assert (report.matched, report.unmatched) == (1, ())
    ready = settle(home, scenario)
    boxes = sorted((json.loads(text) for text in ready.cohort.boxes.values()), key=len)
    assert boxes[0] == []
    ((nodule,),) = boxes[1:]
    assert nodule["mm"][:3] == [3.0, 2.5, 4.0]
    assert len(ready.cohort.patients) == 2
    home.catalog.dispose()
    home.vault.dispose()
