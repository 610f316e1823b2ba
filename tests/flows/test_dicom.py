"""What a prediction writes as DICOM, case by case: of nobody, and never a reason to stop."""

import numpy as np
import pytest
from pydicom import dcmread

from flows.desk import Desk
from flows.dicom import dicom_desk
from tasks.archive.catalog import cases
from tasks.archive.intake import ingest
from tasks.archive.sources import resolve_source
from tasks.phantom.write import write_limb_archive
from tasks.scenario.model import OutputConfig
from tasks.serve.result_files import DICOM_FOLDER
from tasks.serve.results import PredictionRow
from tests.flows.planted import TOKENS, sweep, write_talkative
from tests.serve.dicom_cases import CLASSIFICATION, SEGMENTATION, errors_of


@pytest.fixture
def radiographs(home, tmp_path):
    """A desk with the cases of an archive whose headers say too much."""
    folder = tmp_path / "archive"
    write_limb_archive(folder, patients=1, seed=3)
    uids = write_talkative(folder)
    with Desk(home) as desk:
        source = resolve_source(str(folder), "limbs")
        ingest(source, desk.catalog, desk.vault, home.names)
        yield desk, cases(desk.catalog, kind="dicom"), tuple(uids), folder


def answer(case):
    return PredictionRow(
        case.case_id, label="ill", score=0.3, probabilities={"well": 0.7, "ill": 0.3}
    )


def test_headers_that_say_too_much_say_nothing_in_results(home, radiographs, tmp_path):
    desk, chosen, uids, _ = radiographs
    maker = dicom_desk(home, desk, OutputConfig(), CLASSIFICATION, None, chosen)
    rows = [maker.written(answer(case), None, tmp_path / "out") for case in chosen]
    assert all(row.sr and row.seg is None and row.no_dicom is None for row in rows)
    assert maker.told(rows) == [
        f"DICOM: {len(rows)} structured reports, under pseudonyms, in {DICOM_FOLDER}/"
    ]
    assert sweep(tmp_path / "out", ("PHANTOM", *TOKENS, *uids)) == []
    for path in (tmp_path / "out" / DICOM_FOLDER).iterdir():
        assert errors_of(path) == []


def test_a_mask_of_a_radiograph_is_a_segmentation_without_a_place(home, radiographs, tmp_path):
    desk, chosen, uids, _ = radiographs
    maker = dicom_desk(home, desk, OutputConfig(sr=False), SEGMENTATION, None, chosen)
    case = chosen[0]
    mask = np.zeros((1, case.facts["rows"], case.facts["cols"]), np.uint8)
    mask[0, 10:20, 10:30] = 1
    row = PredictionRow(case.case_id, measures={"ball ml": 0.2, "cube ml": 0.0})
    row = maker.written(row, mask, tmp_path / "out")
    assert (row.seg, row.sr, row.no_dicom) == (f"{DICOM_FOLDER}/{case.case_id}_seg.dcm", None, None)
    assert errors_of(tmp_path / "out" / row.seg) == []
    assert sweep(tmp_path / "out", ("PHANTOM", *TOKENS, *uids)) == []


def test_a_picture_that_does_not_say_its_size_gets_a_mask_without_one(home, tmp_path):
    folder = tmp_path / "archive"
    write_limb_archive(folder, patients=1, seed=3)
    for path in folder.rglob("*.dcm"):
        dataset = dcmread(path)
        del dataset.ImagerPixelSpacing
        dataset.save_as(path)
    with Desk(home) as desk:
        source = resolve_source(str(folder), "limbs")
        ingest(source, desk.catalog, desk.vault, home.names)
        (case, *_) = cases(desk.catalog, kind="dicom")
        maker = dicom_desk(home, desk, OutputConfig(), SEGMENTATION, None, [case])
        mask = np.ones((1, case.facts["rows"], case.facts["cols"]), np.uint8)
        row = PredictionRow(case.case_id, measures={"ball px": float(mask.sum())})
        row = maker.written(row, mask, tmp_path / "out")
    assert row.no_dicom is None
    seg = dcmread(tmp_path / "out" / row.seg)
    assert not [
        item for item in seg.iterall() if item.keyword in ("PixelSpacing", "SliceThickness")
    ]
    for path in (row.seg, row.sr):
        assert errors_of(tmp_path / "out" / path) == []


def test_what_cannot_be_read_again_keeps_nothing_else_back(home, radiographs, tmp_path):
    desk, chosen, _, folder = radiographs
    for path in folder.rglob("*.dcm"):
        path.unlink()
    maker = dicom_desk(home, desk, OutputConfig(), CLASSIFICATION, None, chosen)
    row = maker.written(answer(chosen[0]), None, tmp_path / "out")
    assert row.sr is None
    assert row.label == "ill"
    (line,) = maker.told([row])
    assert line == f"not all DICOM of 1 cases: {row.no_dicom}"


def test_a_scenario_may_want_neither(home, radiographs, tmp_path):
    desk, chosen, _, _ = radiographs
    outputs = OutputConfig(seg=False, sr=False)
    maker = dicom_desk(home, desk, outputs, CLASSIFICATION, None, chosen)
    assert maker.written(answer(chosen[0]), None, tmp_path / "out") == answer(chosen[0])
    assert not (tmp_path / "out").exists()
