"""Labels find their cases by pseudonym; the rest is listed by line and names nobody."""

from pathlib import Path

import pytest

from tasks.archive.catalog import cases, label_rows, latest_label_set, open_catalog
from tasks.archive.intake import ingest
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import Source, resolve_source
from tasks.archive.vault import open_vault, project_key
from tasks.labels.attach import attach_labels
from tasks.labels.config import LabelConfig, label_set_name
from tasks.labels.keys import AttachReport
from tests.archive.made_dicom import ROOT, slice_file


class Archive:
    """Three studies of two patients in a catalog."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "archive"
        self.root.mkdir()
        for series, patient in ((1, "P1"), (2, "P1"), (3, "P2")):
            data = slice_file(1, series=series, patient=patient)
            (self.root / f"{series}.dcm").write_bytes(data)
        self.catalog = open_catalog(f"sqlite:///{folder}/catalog.db")
        self.vault = open_vault(f"sqlite:///{folder}/vault.db")
        self.names = Pseudonymiser(project_key(self.vault))
        self.source: Source = resolve_source(str(self.root), "here")
        ingest(self.source, self.catalog, self.vault, self.names)

    def attach(self, content: str, join: str = "accession", **more) -> AttachReport:
        (self.root / "labels.csv").write_text(content)
        config = self.config(join, **more)
        return attach_labels(self.source, config, self.names, self.catalog, self.vault)

    def config(self, join: str = "accession", **more) -> LabelConfig:
        values = {
            "format": "table",
            "file": "labels.csv",
            "join": join,
            "column": "target",
            "classes": ("no", "yes"),
        }
        return LabelConfig(**{**values, **more})


@pytest.fixture
def archive(tmp_path):
    made = Archive(tmp_path)
    yield made
    made.catalog.dispose()
    made.vault.dispose()


@pytest.mark.parametrize(
    ("join", "column", "keys"),
    [
        ("accession", "accession_number", ("ACC00001", "ACC00003")),
        ("study", "StudyInstanceUID", (f"{ROOT}.1.1", f"{ROOT}.1.3")),
        ("series", "series_uid", (f"{ROOT}.2.1", f"{ROOT}.2.3")),
        ("sop", "sop_instance_uid", (f"{ROOT}.3.1.1", f"{ROOT}.3.3.1")),
        ("patient", "patient_id", ("P1", "P2")),
    ],
)
def test_labels_join_on_each_kind_of_key(archive, join, column, keys):
    content = f"{column},target\n{keys[0]},yes\n{keys[1]},no\n"
    report = archive.attach(content, join)
    assert (report.rows, report.matched, report.unmatched) == (2, 2, ())
    rows = label_rows(archive.catalog, report.label_set_id)
    assert {(row.join, row.value) for row in rows} == {(join, "yes"), (join, "no")}
    assert not {row.key for row in rows} & set(keys)


def test_labels_join_on_case_ids(archive):
    one = cases(archive.catalog, kind="dicom")[0].case_id
    report = archive.attach(f"case_id,target\n{one},yes\n{'0' * 32},no\nabc,no\n", "case")
    assert (report.matched, [line for line, _ in report.unmatched]) == (1, [3, 4])


def test_rows_that_match_nothing_are_listed_without_their_key(archive):
    report = archive.attach(
        "accession_number,target\nACC00001,yes\nACC99999,no\n1234.0,no\nACC00002,maybe\n"
    )
    assert (report.rows, report.matched) == (4, 1)
    assert [line for line, _ in report.unmatched] == [3, 4, 5]
    assert all(word not in repr(report) for word in ("ACC", "1234", "maybe"))


def test_contradicting_rows_are_refused_and_repeated_ones_are_not(archive):
    report = archive.attach(
        "accession_number,target\nACC00001,yes\nACC00002,no\nACC00001,no\nACC00002,no\n"
    )
    assert report.matched == 2
    assert [line for line, _ in report.unmatched] == [2, 4]
    assert "lines 2, 4" in report.unmatched[0][1]
    assert len(label_rows(archive.catalog, report.label_set_id)) == 1


def test_placeholder_patients_are_refused(archive):
    report = archive.attach("patient_id,target\nANONYMOUS,yes\nP1,no\n", "patient")
    assert (report.matched, [line for line, _ in report.unmatched]) == (1, [2])


def test_the_same_labels_are_the_same_set_and_others_supersede_it(archive):
    first = archive.attach("accession,target\nACC00001,yes\n").label_set_id
    assert archive.attach("accession,target\nACC00001,yes\n").label_set_id == first
    second = archive.attach("accession,target\nACC00001,no\n").label_set_id
    assert second != first
    name = label_set_name(archive.config())
    assert latest_label_set(archive.catalog, "here", name) == second


def test_two_columns_of_one_file_are_two_label_sets(archive):
    content = "accession,target,side\nACC00001,yes,left\n"
    one = archive.attach(content).label_set_id
    other = archive.attach(content, column="side", classes=("left", "right")).label_set_id
    assert latest_label_set(archive.catalog, "here", label_set_name(archive.config())) == one
    assert one != other


def test_a_missing_table_is_said_without_a_path(archive):
    with pytest.raises(FileNotFoundError) as caught:
        attach_labels(
            archive.source,
            archive.config(file="Doe_Jane/labels.csv"),
            archive.names,
            archive.catalog,
            archive.vault,
        )
    assert "Doe" not in str(caught.value)


def test_labels_in_the_cases_own_table_are_counted(archive, tmp_path):
    place = tmp_path / "cohort.csv"
    place.write_text("id,x,grade\na,1,0\nb,2,\n")
    source = resolve_source(str(place), "table")
    ingest(source, archive.catalog, archive.vault, archive.names)
    config = LabelConfig(format="column", column="grade", classes=("0", "1"))
    report = attach_labels(source, config, archive.names, archive.catalog, archive.vault)
    assert (report.label_set_id, report.rows, report.matched) == (None, 2, 1)


def test_all_labels_of_the_real_archive_match(archive, shared_data):
    source = resolve_source(str(shared_data / "chest-xray"), "chest")
    year = Source("chest", "folder", str(sorted((shared_data / "chest-xray").glob("20*"))[0]))
    taken = ingest(year, archive.catalog, archive.vault, archive.names)
    config = LabelConfig(
        format="table",
        file="labels.csv",
        join="accession",
        column="target",
        classes=("normal", "pneumonia"),
    )
    report = attach_labels(source, config, archive.names, archive.catalog, archive.vault)
    assert (report.rows, report.matched) == (900, taken.instances)


@pytest.mark.parametrize(
    "values", [{"format": "table", "file": "x.csv"}, {"format": "column"}, {"format": "other"}]
)
def test_an_incomplete_configuration_is_refused(values):
    with pytest.raises(ValueError, match=r"need|Input should be"):
        LabelConfig(**values)


def test_numbers_are_one_label_however_they_are_written(archive):
    lines = "accession,bone_age\nACC00001,120\nACC00001,1.2e2\nACC00002,999\nACC00003,ten\n"
    more = {"classes": (), "column": "bone_age", "unit": "mo", "least": 0, "most": 240}
    report = archive.attach(lines, **more)
    rows = label_rows(archive.catalog, report.label_set_id)
    assert [row.value for row in rows] == ["120.0"]
    assert [line for line, _ in report.unmatched] == [4, 5]
    reasons = " ".join(reason for _, reason in report.unmatched)
    assert "above 240 mo" in reasons
    assert "no number of mo" in reasons
    assert "999" not in reasons


def test_two_numbers_for_one_key_are_left_out_and_commas_are_read_where_they_are_decimal(archive):
    more = {"classes": (), "column": "bone_age", "unit": "mo"}
    report = archive.attach("accession,bone_age\nACC00001,120\nACC00001,121\n", **more)
    assert report.label_set_id is None
    report = archive.attach("accession;bone_age\nACC00001;120,5\nACC00003;7,25\n", **more)
    rows = label_rows(archive.catalog, report.label_set_id)
    assert sorted(row.value for row in rows) == ["120.5", "7.25"]
