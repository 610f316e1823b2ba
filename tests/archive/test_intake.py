"""Intake: each file has one outcome, again changes nothing, no identity leaves the vault."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from pydicom.data import get_testdata_files
from sqlalchemy import Engine

from tasks.archive import contents, intake_run
from tasks.archive.catalog import (
    cases,
    label_rows,
    latest_label_set,
    locators_of,
    quarantine,
    status,
)
from tasks.archive.intake import ingest
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.rows import TableMapping
from tasks.archive.sources import read_bytes, resolve_source
from tasks.archive.vault import project_key, recall
from tasks.archive.vault_files import file_refs, known_files
from tests.archive.made_dicom import header, nested, slice_file, without_preamble
from tests.archive.made_rows import dumped


class Loop:
    """A catalog, a vault and a folder, taken in again and again."""

    def __init__(self, catalog: Engine, vault: Engine, root: Path) -> None:
        self.catalog, self.vault, self.root = catalog, vault, root
        self.names = Pseudonymiser(project_key(vault))

    def take(self, place: Path | None = None, **more):
        source = resolve_source(str(place or self.root))
        report = ingest(source, self.catalog, self.vault, self.names, **more)
        assert report.accounted == report.seen
        assert all(isinstance(line, str) for line in report.lines())
        return report

    def reasons(self) -> dict[str, int]:
        return status(self.catalog)["quarantine"]


@pytest.fixture
def loop(catalog, vault, tmp_path) -> Loop:
    root = tmp_path / "archive"
    root.mkdir()
    return Loop(catalog, vault, root)


def _put(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def test_a_folder_becomes_series_whose_files_can_be_read(loop):
    _put(loop.root, {f"s1/{n}.dcm": slice_file(n) for n in (3, 1, 2)})
    report = loop.take()
    assert (report.instances, report.series_new) == (3, 1)
    (case,) = cases(loop.catalog, kind="dicom")
    refs = file_refs(loop.vault, locators_of(loop.catalog, case.case_id))
    ordered = [refs[locator] for locator in locators_of(loop.catalog, case.case_id)]
    assert [Path(ref.path).name for ref in ordered] == ["1.dcm", "2.dcm", "3.dcm"]
    assert read_bytes(ordered[0]) == slice_file(1)
    assert (case.facts["spacing_row"], case.facts["spacing_col"]) == (0.5, 0.75)


def test_a_second_time_reads_nothing_and_changes_nothing(loop, monkeypatch):
    _put(loop.root, {"1.dcm": slice_file(1), "bad.dcm": slice_file(2)[:-9], "notes.txt": b"hello"})
    first = loop.take()
    assert (first.instances, first.ignored, first.quarantined) == (1, 1, {"truncated": 1})
    before = dumped(loop.catalog)
    monkeypatch.setattr(contents, "digest_of", lambda data: pytest.fail("a file was read again"))
    again = loop.take()
    assert (again.unchanged, again.still_quarantined, again.instances) == (3, 1, 0)
    assert dumped(loop.catalog) == before


def test_a_touched_file_is_not_a_changed_one(loop):
    _put(loop.root, {"1.dcm": slice_file(1)})
    loop.take()
    (before,) = cases(loop.catalog, kind="dicom")
    (loop.root / "1.dcm").touch()
    assert loop.take().unchanged == 1
    assert cases(loop.catalog, kind="dicom") == [before]


def test_new_slices_make_another_case_of_the_same_series(loop):
    _put(loop.root, {"1.dcm": slice_file(1)})
    loop.take()
    (before,) = cases(loop.catalog, kind="dicom")
    _put(loop.root, {"2.dcm": slice_file(2)})
    report = loop.take()
    (after,) = cases(loop.catalog, kind="dicom")
    assert (report.instances, report.unchanged, report.series_changed) == (1, 1, 1)
    assert (after.series_key, after.n_instances) == (before.series_key, 2)
    assert after.case_id != before.case_id


def test_the_same_files_elsewhere_make_the_same_case(loop, tmp_path):
    _put(loop.root, {f"{n}.dcm": slice_file(n) for n in (1, 2)})
    loop.take()
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("x/2", slice_file(2))
        archive.writestr("x/1", slice_file(1))
    report = loop.take(other)
    assert (report.duplicates, report.instances) == (2, 0)
    assert len(cases(loop.catalog, kind="dicom")) == 1


@pytest.mark.parametrize("batch", [1, 500])
def test_duplicates_and_conflicts_are_told_apart(loop, monkeypatch, batch):
    monkeypatch.setattr(intake_run, "BATCH_FILES", batch)
    other = header(1)
    other.PixelData = bytes(32)
    from tests.archive.made_dicom import encode

    _put(loop.root, {"a": slice_file(1), "b": slice_file(1), "c": encode(other)})
    report = loop.take()
    assert report.quarantined.get("sop_conflict", 0) + report.duplicates == 2
    assert report.quarantined["sop_conflict"] >= 1
    assert status(loop.catalog)["instances"] == 1
    assert loop.take().unchanged == 3


def test_one_series_of_two_patients_is_quarantined(loop):
    _put(loop.root, {"1": slice_file(1, patient="P1"), "2": slice_file(2, patient="P2")})
    report = loop.take()
    assert (report.instances, report.quarantined) == (1, {"sop_conflict": 1})


def test_a_file_replaced_in_place_replaces_its_instance(loop):
    _put(loop.root, {"1.dcm": slice_file(1)})
    loop.take()
    (before,) = cases(loop.catalog, kind="dicom")
    _put(loop.root, {"1.dcm": slice_file(1, patient="P1", KVP="80")})
    assert loop.take().instances == 1
    (after,) = cases(loop.catalog, kind="dicom")
    assert (after.facts["kvp"], after.n_instances) == (80.0, 1)
    assert after.case_id != before.case_id
    _put(loop.root, {"1.dcm": b"no longer DICOM"})
    assert loop.take().quarantined == {"not_dicom": 1}
    assert cases(loop.catalog, kind="dicom") == []


def test_a_mended_file_leaves_quarantine(loop):
    _put(loop.root, {"1.dcm": slice_file(1)[:-5]})
    loop.take()
    assert loop.reasons() == {"truncated": 1}
    assert loop.take(retry=True).quarantined == {"truncated": 1}
    _put(loop.root, {"1.dcm": slice_file(1)})
    assert loop.take().instances == 1
    assert loop.reasons() == {}


def test_files_that_went_away_are_counted_and_kept(loop):
    _put(loop.root, {"1": slice_file(1), "2": slice_file(1, series=2)})
    loop.take()
    (loop.root / "2").unlink()
    assert loop.take().missing == 1
    assert len(cases(loop.catalog, kind="dicom")) == 2


def test_an_intake_killed_in_the_catalog_is_caught_up(loop, monkeypatch):
    _put(loop.root, {"1": slice_file(1)})

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(intake_run, "upsert_series", killed)
        with pytest.raises(KeyboardInterrupt):
            loop.take()
    assert cases(loop.catalog, kind="dicom") == []
    assert loop.take().instances == 1
    assert len(cases(loop.catalog, kind="dicom")) == 1


def test_broken_files_never_stop_an_archive(loop):
    _put(
        loop.root,
        {
            "good": slice_file(1),
            "old": without_preamble(header(2)),
            "empty": b"",
            "cut": slice_file(3)[:300],
            "bomb": nested(200),
            "noise": bytes(range(256)) * 8,
            "picture.png": b"\x89PNG",
            "broken.zip": b"PK\x03\x04 not really",
        },
    )
    report = loop.take()
    assert (report.seen, report.instances) == (8, 2)
    assert sum(report.quarantined.values()) == 6
    assert {row.reason for row in quarantine(loop.catalog)} == set(report.quarantined)


def test_nothing_that_names_a_patient_is_in_the_catalog(loop):
    planted = {"PatientName": "Zyxwv^Quentin", "patient": "MRN9988776", "KVP": "120"}
    _put(
        loop.root,
        {
            "Zyxwv_Quentin/1.dcm": slice_file(
                1, InstitutionName="Saint Zyxwv", OperatorsName="Zyxwv", **planted
            ),
            "Zyxwv_Quentin/cut.dcm": slice_file(2, **planted)[:-5],
            "Zyxwv_Quentin/rows.csv": b"MRN9988776\n",
        },
    )
    loop.take()
    dump = dumped(loop.catalog).lower()
    for token in ("zyxwv", "quentin", "mrn9988776", "acc00001", "1.2.826", "2020-01-15"):
        assert token not in dump
    (case,) = cases(loop.catalog, kind="dicom")
    assert recall(loop.vault, "patient", case.patient_key) == "MRN9988776"
    assert recall(loop.vault, "accession", case.accession_key) == "ACC00001"


def test_all_files_of_pydicom_are_accounted_for(loop):
    wanted = [Path(name) for name in get_testdata_files() if Path(name).is_file()]
    for number, path in enumerate(wanted):
        shutil.copy(path, loop.root / f"{number:04d}_{path.name}")
    report = loop.take()
    assert report.seen >= len(wanted)
    assert report.instances >= 60
    assert report.ignored >= 8


def test_real_radiographs_give_patients_and_studies(loop, shared_data):
    folder = sorted(path for path in (shared_data / "chest-xray").iterdir() if path.is_dir())[0]
    report = loop.take(folder)
    assert (report.instances, report.quarantined) == (report.seen, {})
    found = cases(loop.catalog, kind="dicom", where={"modality": ["CR", "DX"]})
    assert len(found) == report.instances
    assert {case.facts["body_part"] for case in found} == {"CHEST"}
    assert "other" not in {case.facts["manufacturer"] for case in found}


def test_a_decathlon_folder_gives_volumes_and_a_label_set(loop, shared_data):
    place = shared_data / "hippocampus"
    report = loop.take(place)
    assert (report.instances, report.labels, report.ignored) == (60, 60, 1)
    found = cases(loop.catalog, kind="nifti")
    assert len({case.patient_key for case in found}) == 60
    assert {case.facts["modality"] for case in found} == {"MR"}
    alias = resolve_source(str(place)).alias
    label_set = latest_label_set(loop.catalog, alias, "decathlon")
    assert report.label_set == label_set
    rows = label_rows(loop.catalog, label_set)
    assert {row.key for row in rows} == {case.series_key for case in found}
    masks = file_refs(loop.vault, [row.locator for row in rows])
    assert all("labelsTr" in ref.path for ref in masks.values())
    assert "hippocampus_0" not in dumped(loop.catalog)
    again = loop.take(place)
    assert (again.unchanged, again.label_set) == (121, label_set)


def test_a_decathlon_folder_with_gaps_is_taken_in_all_the_same(loop, shared_data):
    pairs = json.loads((shared_data / "hippocampus" / "dataset.json").read_text())["training"][:3]
    for number, pair in enumerate(pairs):
        for name in pair.values():
            (loop.root / name).parent.mkdir(exist_ok=True)
            if number < 2:
                shutil.copy(shared_data / "hippocampus" / name, loop.root / name)
    broken = loop.root / pairs[1]["label"]
    broken.write_bytes(b"\x1f\x8b broken")
    index = {"training": pairs, "modality": {"0": "MRI"}}
    (loop.root / "dataset.json").write_text(json.dumps(index))
    report = loop.take()
    assert (report.instances, report.labels) == (2, 1)
    assert report.quarantined == {"unreadable_nifti": 1}
    assert loop.reasons() == {"unreadable_nifti": 1, "listed_file_missing": 1}
    index["training"][0]["image"] = "../../outside.nii.gz"
    (loop.root / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="inside the folder"):
        loop.take()


TABLE = "patient_id;radius;grade;remark name\nP1;1,5;high;Doe\nP1;2,5;low;Doe\nP2;;low;Roe\n"


def test_a_table_becomes_cases_without_the_columns_that_name_somebody(loop):
    place = loop.root / "cohort.csv"
    place.write_text(TABLE)
    report = loop.take(place)
    assert (report.rows, report.columns_left_out) == (3, ("remark name",))
    found = cases(loop.catalog, kind="row", table="cohort")
    assert len({case.patient_key for case in found}) == 2
    facts = sorted((case.facts for case in found), key=str)
    assert {"radius": 1.5, "grade": "high"} in facts
    assert {"radius": None, "grade": "low"} in facts
    assert "Doe" not in dumped(loop.catalog)
    before = dumped(loop.catalog)
    assert loop.take(place).unchanged == 1
    assert dumped(loop.catalog) == before


def test_a_corrected_row_replaces_the_former_one(loop):
    place = loop.root / "cohort.csv"
    place.write_text("id,x\na1,1\na2,2\n")
    loop.take(place)
    place.write_text("id,x\na1,1\na2,3\n")
    report = loop.take(place)
    assert (report.rows, report.rows_removed) == (1, 1)
    assert sorted(c.facts["x"] for c in cases(loop.catalog, kind="row")) == [1.0, 3.0]


def test_damaged_and_contradicting_rows_are_listed_by_line(loop):
    place = loop.root / "cohort.csv"
    place.write_text("id,x\na1,1\n1234.0,2\n1.2E+05,3\na1,4\na5\na6,6\na6,6\n")
    report = loop.take(place)
    assert (report.rows, report.rows_refused) == (2, 4)
    (row,) = quarantine(loop.catalog)
    assert all(f"lines {line}" in row.detail for line in (3, 4, 5, 6))
    assert "1234" not in row.detail


def test_a_mapping_says_which_column_is_what(loop):
    place = loop.root / "cohort.csv"
    place.write_text("a,b,c\n1,2,3\n4,2,6\n")
    mapping = TableMapping(id_column="a", patient_column="b", features=("c",), table="mine")
    assert loop.take(place, mapping=mapping).rows == 2
    found = cases(loop.catalog, kind="row", table="mine")
    assert len({case.patient_key for case in found}) == 1
    assert {tuple(case.facts) for case in found} == {("c",)}
    with pytest.raises(ValueError, match="no column 'z'"):
        loop.take(place, mapping=TableMapping(id_column="z"))


def test_files_are_recorded_with_their_real_time(loop):
    _put(loop.root, {"1": slice_file(1)})
    loop.take()
    (known,) = known_files(loop.vault, resolve_source(str(loop.root)).alias).values()
    assert known.mtime_ns == (loop.root / "1").stat().st_mtime_ns
